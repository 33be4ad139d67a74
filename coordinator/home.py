"""A coordinator's folder: where everything is, what is in force, and which sites may connect. Imports neither torch
nor flwr.

    coordinator.yaml  version  invitation.json  keys/coordinator.key  tls/{ca,server}.{crt,key}  requests/SITE.request
    roster.bin (a draft until two officers signed it)  rosters/roster-VERSION.bin  runs/RUN_ID/  log/  console/
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from configs.coordination import HomeConfig
from configs.load import load_config
from coordinator.authority import Authority
from coordinator.roster_files import read_signing_key
from privacy.enrolment import EnrolmentError, Invitation, SiteRequest, require_invited
from privacy.identity import SigningKey
from privacy.roster import OFFICERS_NEEDED, RosterError, SignedRoster
from privacy.state_version import require_known
from privacy.wire import check_id

__all__ = ["Home"]


@dataclass(frozen=True)
class Home:
    """The folder that `coordinator init` made. Its files are read when they are asked for."""

    folder: Path
    config: HomeConfig

    @classmethod
    def open(cls, folder: str | Path) -> Home:
        """The folder at that path, made absolute. Raises ValueError when it is none, or a newer release's."""
        place = Path(folder).resolve()
        if not (place / "coordinator.yaml").is_file():
            raise ValueError(f"{place} is not a coordinator's folder; `coordinator init DIR` makes one")
        require_known(place)
        return cls(place, load_config(HomeConfig, place / "coordinator.yaml"))

    @property
    def config_file(self) -> Path:
        return self.folder / "coordinator.yaml"

    @property
    def key_file(self) -> Path:
        return self.folder / "keys" / "coordinator.key"

    @property
    def ca_certificate_file(self) -> Path:
        return self.folder / "tls" / "ca.crt"

    @property
    def ca_key_file(self) -> Path:
        return self.folder / "tls" / "ca.key"

    @property
    def server_certificate_file(self) -> Path:
        return self.folder / "tls" / "server.crt"

    @property
    def server_key_file(self) -> Path:
        return self.folder / "tls" / "server.key"

    @property
    def invitation_file(self) -> Path:
        return self.folder / "invitation.json"

    @property
    def requests_folder(self) -> Path:
        return self.folder / "requests"

    @property
    def roster_file(self) -> Path:
        return self.folder / "roster.bin"

    @property
    def rosters_folder(self) -> Path:
        return self.folder / "rosters"

    @property
    def runs_folder(self) -> Path:
        return self.folder / "runs"

    @property
    def log_folder(self) -> Path:
        return self.folder / "log"

    @property
    def console_folder(self) -> Path:
        """Tokens and run store of the web console; losing it loses nothing but the sessions."""
        return self.folder / "console"

    def request_file(self, site_id: str) -> Path:
        """Where that site's request is kept."""
        return self.requests_folder / f"{site_id}.request"

    def kept_roster_file(self, version: int) -> Path:
        """Where a signed roster is kept once a newer one was drafted."""
        return self.rosters_folder / f"roster-{version}.bin"

    def run_folder(self, run_id: str) -> Path:
        """The folder of that run, which need not exist. Raises ValueError for a name that no run has."""
        check_id("a run's name", run_id)
        return self.runs_folder / run_id

    def key(self) -> SigningKey:
        """The coordinator's own key. Raises ValueError when others can read it, or the invitation names another."""
        key = read_signing_key(self._present(self.key_file))
        if key.public_bytes() != self.invitation().coordinator_key:
            raise ValueError(f"key file {self.key_file} is not the key that the invitation names; restore it from "
                             "backup")
        return key

    def authority(self) -> Authority:
        """The certificate authority, its key included. Raises ValueError when others can read the key."""
        path = self._present(self.ca_key_file)
        if path.stat().st_mode & 0o077:
            raise ValueError(f"key file {path} is readable by others; run: chmod 600 {path}")
        return Authority(self._present(self.ca_certificate_file).read_bytes(), path.read_bytes())

    def invitation(self) -> Invitation:
        """What sites and officers got. Raises ValueError when it is damaged, or of another federation."""
        invitation = Invitation.from_json(self._present(self.invitation_file).read_bytes())
        if invitation.federation_id != self.config.federation_id:
            raise ValueError(f"{self.invitation_file} is of the federation {invitation.federation_id} and "
                             f"coordinator.yaml of {self.config.federation_id}; restore both from one backup")
        return invitation

    def requests(self) -> dict[str, SiteRequest]:
        """The stored requests by site, each checked again. Raises ValueError for one that is not good."""
        invitation, found = self.invitation(), {}
        for path in sorted(self.requests_folder.glob("*.request")):
            try:
                request = SiteRequest.open(path.read_bytes(), invitation)
            except EnrolmentError as error:
                raise ValueError(f"{path} cannot be used: {error}") from None
            if path.name != f"{request.site_id}.request":
                raise ValueError(f"{path} is the request of {request.site_id}; name the file {request.site_id}.request")
            found[request.site_id] = request
        return found

    def latest(self) -> SignedRoster | None:
        """What roster.bin holds, a draft perhaps; None without one. Raises RosterError when it is damaged."""
        return SignedRoster.parse(self.roster_file.read_bytes()) if self.roster_file.is_file() else None

    def in_force(self) -> SignedRoster | None:
        """The newest roster that enough officers signed; None without one.

        Each must follow on the one before, as at a site: the first by the invitation.
        """
        latest = self.latest()
        return self._newest([*self._kept(), *([] if latest is None else [latest])])

    def previous(self) -> SignedRoster | None:
        """The newest signed roster below roster.bin's version, whose officers sign that one too; None without one."""
        latest = self.latest()
        return self._newest([
            signed for signed in self._kept() if latest is None or signed.roster.version < latest.roster.version])

    def _kept(self) -> list[SignedRoster]:
        return [SignedRoster.parse(path.read_bytes()) for path in self.rosters_folder.glob("roster-*.bin")]

    def _newest(self, files: list[SignedRoster]) -> SignedRoster | None:
        invitation, newest = self.invitation(), None
        for signed in sorted(files, key=lambda one: one.roster.version):
            if not _reason_against(signed, newest, invitation):
                newest = signed
        return newest

    def roster(self) -> SignedRoster:
        """`in_force`. Raises ValueError when there is none; the text says who must still sign, or enrol."""
        newest = self.in_force()
        if newest is not None:
            return newest
        latest = self.latest()
        if latest is None:
            raise ValueError("there is no roster yet; hand the sites' requests to `coordinator enroll "
                             f"{self.folder} REQUEST ...`")
        raise ValueError(f"no roster is in force: {self.still_needed(latest)}")

    def still_needed(self, signed: SignedRoster) -> str:
        """What keeps `signed` from being in force here, in one sentence; "" when nothing does."""
        previous = self.previous()
        have = signed.signers(signed.roster)
        if len(have) < OFFICERS_NEEDED:
            who = [one.name for one in signed.roster.officers if one.name not in have]
            return (f"roster version {signed.roster.version} is signed by {', '.join(have) or 'nobody'} and needs "
                    f"{OFFICERS_NEEDED - len(have)} more of {', '.join(who)}: `coordinator roster sign {self.folder} "
                    "--key KEY_FILE`")
        return _reason_against(signed, previous, self.invitation())

    def node_keys(self) -> dict[str, str]:
        """The transport key (OpenSSH text) of each active site of the roster in force; a revoked site has none.

        Raises:
            ValueError: no roster is in force, or a site's request is gone, damaged or of another identity.
        """
        found, faults = self.admitted_keys()
        if faults:
            raise ValueError(faults[0])
        return found

    def admitted_keys(self) -> tuple[dict[str, str], list[str]]:
        """`node_keys` of the sites whose requests are good, and a sentence for each other one.

        Raises:
            ValueError: no roster is in force, or the invitation is not good.
        """
        invitation, roster = self.invitation(), self.roster().roster
        found: dict[str, str] = {}
        faults: list[str] = []
        for site_id in roster.active_ids:
            path = self.request_file(site_id)
            try:
                request = SiteRequest.open(path.read_bytes(), invitation) if path.is_file() else None
            except ValueError as error:
                faults.append(f"{path} cannot be used: {error}")
                continue
            if request is None or (request.site_id, request.public_key) != (
                    site_id, roster.site(site_id).public_key):
                faults.append(f"{path} is not the request of the {site_id} on the roster; restore it from backup")
                continue
            found[site_id] = request.node_key
        return found, faults

    @staticmethod
    def _present(path: Path) -> Path:
        if not path.is_file():
            raise ValueError(f"{path} is missing; restore the coordinator's folder from backup")
        return path


def _reason_against(signed: SignedRoster, newest: SignedRoster | None, invitation: Invitation) -> str:
    """Why `signed` may not be in force after `newest`; "" when it may."""
    try:
        if newest is None:
            require_invited(signed, invitation)
        else:
            signed.require_signed(newest.roster)
    except RosterError as error:
        return str(error)
    return ""
