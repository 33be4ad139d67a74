"""Which roster this site works with: the newest version that its operator approved, kept in `state/roster.pin`.

The site file's `roster` and `roster_hash` are the first pin only; a site file without them has an `invitation`, and its
first pin is a roster that two of the invited officers signed. Whatever was pinned once is never replaced by a lower
version, nor by one that two officers of the pinned roster have not signed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from configs.schema import ConfigError, SiteConfig
from privacy.durable import write_whole
from privacy.enrolment import EnrolmentError, Invitation, require_invited
from privacy.errors import MessageFormatError
from privacy.identity import Roster
from privacy.roster import RosterError, SignedRoster
from privacy.wire import Message, check_hash
from site_client.keystore import has_ledger, signing_key

__all__ = ["PinnedRoster", "RosterPin"]

_FILE = "roster.pin"
_HIGHEST = "roster.highest"  # beside the pin, so that a lost pin lets no older version in
_OFFERED = "roster.offered"


@dataclass(frozen=True)
class PinnedRoster(Message):
    """What the file holds: the roster in force, and what the site file said when it was approved.

    `file_hash` is its `roster_hash`, or the hash of its invitation where it names no roster; 32 bytes.
    """

    file_hash: bytes
    approved: SignedRoster

    def check(self) -> None:
        check_hash("the site file's roster_hash", self.file_hash)


class RosterPin:
    """The pin of the site that `config` describes. Nothing is written before `keep`, `approve` or `offer`."""

    def __init__(self, config: SiteConfig) -> None:
        self._config = config
        self.path = Path(config.state) / _FILE
        self.offered_path = Path(config.state) / _OFFERED
        self._invited = not config.roster_hash

    def current(self) -> SignedRoster:
        """The roster in force: the approved one, or the site file's own before the first start.

        Raises:
            ConfigError: the file is missing, not the pinned one, not signed by two officers, the pin was lost, or no
                roster has arrived yet; the text says what to do.
        """
        kept = self._kept()
        if kept is not None:
            return kept.approved
        if has_ledger(Path(self._config.state)):
            raise ConfigError(f"this site has worked before and {self.path} is gone; restore it from backup, or "
                              "approve the newest roster with `site-client roster approve SITE_FILE NEW_FILE`")
        if self._invited:
            raise ConfigError("the roster has not arrived yet; it comes from the coordinator once this site is "
                              "connected and two officers have signed it, and `site-client approve SITE_FILE ROSTER` "
                              "puts it in force where policy.approve_rosters is by-hand")
        return self._first()

    def roster(self) -> Roster:
        """`current`, without its signatures."""
        return self.current().roster

    def keep(self) -> Roster:
        """`roster`; from here on it is this site's pin, durably, whatever becomes of the site file's."""
        signed = self.current()
        if self._kept() is None:
            self._write(signed)
        return signed.roster

    def before(self) -> Roster | None:
        """What a new roster must follow on: the one in force, or the site file's where the pin was lost.

        None where the site file has only an invitation and nothing is pinned.

        Raises:
            ConfigError: see `current`.
        """
        kept = self._kept()
        if kept is not None:
            return kept.approved.roster
        return None if self._invited else self._first().roster

    def check_new(self, signed: SignedRoster) -> None:
        """Raises ValueError when `signed` may not replace what is in force here; the text says why."""
        highest = self._highest() if self._kept() is None else 0  # a pin that is there has its own rule, below
        if signed.roster.version < highest:
            raise RosterError(f"the roster has version {signed.roster.version} and version {highest} was in force "
                              "here; a roster never goes back, ask the consortium for a higher version")
        pinned = self.before()
        if pinned is None:
            return self._check_invited(signed)
        lost = self._kept() is None and signed.roster == pinned  # the pin is put back from the site file's own hash
        roster = signed.require_signed(None if lost else pinned)
        if self._config.site_id not in roster.site_ids:
            raise RosterError(f"{self._config.site_id} is not on that roster; ask the consortium to enrol this site")
        return None

    def _check_invited(self, signed: SignedRoster) -> None:
        site_id, roster = self._config.site_id, require_invited(signed, self._invitation())
        if site_id not in roster.site_ids:
            raise RosterError(f"{site_id} is not on that roster; ask the consortium to enrol this site")
        if roster.site(site_id).public_key != signing_key(Path(self._config.state)).public_bytes():
            raise RosterError(f"that roster has another key for {site_id}; ask the consortium for one with this site's")

    def approve(self, signed: SignedRoster) -> bool:
        """Put `signed` in force from the next start on; False when it already is. Durable when this returns.

        Raises:
            ValueError: see `check_new`; nothing was changed.
        """
        kept = self._kept()
        if kept is not None and kept.approved.roster == signed.roster:
            return False
        self.check_new(signed)
        self._write(signed)
        self.offered_path.unlink(missing_ok=True)
        return True

    def offer(self, signed: SignedRoster) -> bool:
        """What the coordinator sent: whether it is in force here now.

        With policy.approve_rosters "auto" it is approved if it may be; a lost pin is never replaced that way. What is
        not in force is kept in `offered_path` (0600), for the operator to look at and approve.

        Raises:
            ConfigError: the pin or the invitation is damaged or was changed.
        """
        kept = self._kept()
        lost = kept is None and has_ledger(Path(self._config.state))
        if not lost and self.before() == signed.roster:
            return True
        if self._is_acceptable(signed):
            if self._config.policy.approve_rosters == "auto" and not lost:
                return self.approve(signed)
        elif self._waits_with_a_good_one():
            return False
        self._make_state()
        write_whole(self.offered_path, signed.to_bytes())
        return False

    def _is_acceptable(self, signed: SignedRoster) -> bool:
        try:
            self.check_new(signed)
        except RosterError:
            return False
        return True

    def _waits_with_a_good_one(self) -> bool:
        """Whether what waits for the operator may be approved: one that may not never takes its place."""
        try:
            return self._is_acceptable(SignedRoster.parse(self.offered_path.read_bytes()))
        except (FileNotFoundError, RosterError):
            return False

    def _first(self) -> SignedRoster:
        path = Path(self._config.roster)
        if not path.is_file():
            raise ConfigError(f"roster file {path} does not exist; ask the consortium for it")
        try:
            signed = SignedRoster.parse(path.read_bytes())
            if signed.roster.hash().hex() != self._config.roster_hash:
                raise ConfigError(
                    f"roster file {path} has hash {signed.roster.hash().hex()}, not the pinned one; compare it with "
                    "the consortium over the telephone before you change roster_hash")
            signed.require_signed()
        except RosterError as error:
            raise ConfigError(f"roster file {path} cannot be used: {error}") from None
        return signed

    def _kept(self) -> PinnedRoster | None:
        try:
            kept = PinnedRoster.from_bytes(self.path.read_bytes())
            kept.approved.require_signed()
        except FileNotFoundError:
            return None
        except (MessageFormatError, RosterError):
            raise ConfigError(f"{self.path} is damaged; restore it from backup") from None
        if self._invited:
            if kept.file_hash != self._invitation().hash():
                raise ConfigError(f"{self._config.invitation} is not the invitation by which this site pinned its "
                                  "first roster; put the old file back")
            return kept
        known = (kept.file_hash.hex(), kept.approved.roster.hash().hex())
        if self._config.roster_hash not in known:
            raise ConfigError("roster_hash was changed in the site file after this site had pinned a roster; put back "
                              f"{known[0]}, a new roster is approved with `site-client roster approve`")
        return kept

    def _write(self, signed: SignedRoster) -> None:
        """Only after `_first` or `_kept` has matched the site file's roster_hash, so it is the hex of 32 bytes."""
        said = self._invitation().hash() if self._invited else bytes.fromhex(self._config.roster_hash)
        self._make_state()
        write_whole(self.path, PinnedRoster(said, signed).to_bytes())
        if signed.roster.version > self._highest():
            write_whole(self.path.with_name(_HIGHEST), str(signed.roster.version).encode())

    def _highest(self) -> int:
        """The highest version that was ever in force here, also when the pin was lost; 0 for none."""
        try:
            return int(self.path.with_name(_HIGHEST).read_text("ascii"))
        except FileNotFoundError:
            return 0
        except ValueError:
            raise ConfigError(f"{self.path.with_name(_HIGHEST)} is damaged; restore it from backup") from None

    def _make_state(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _invitation(self) -> Invitation:
        path = Path(self._config.invitation)
        if not path.is_file():
            raise ConfigError(f"invitation {path} does not exist; put back the file that the coordinator sent")
        try:
            return Invitation.from_json(path.read_bytes())
        except EnrolmentError as error:
            raise ConfigError(f"invitation {path} cannot be used: {error}") from None
