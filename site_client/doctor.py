"""`site-client doctor`: everything that keeps a hospital from taking part, or will soon, each with the fix.

Reads only; the one connection is to the coordinator (`connection_probe`) and to this machine's health port. No value of
a patient is printed: files are counted, errors have fixed texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from privacy.transport.diagnosis import (
    Finding,
    failed,
    folder_findings,
    key_findings,
    machine_findings,
    package_findings,
    passed,
    process_findings,
    until,
    warned,
    watch,
)

if TYPE_CHECKING:
    from configs.schema import SiteConfig
    from privacy.enrolment import Invitation

__all__ = ["age", "diagnose"]

KEY_BYTES = {"identity.key": 32, "pseudonym.key": 32, "node.key": None}
_MODULES = ("site_client.supernode_process", "site_client.executor")
_LOW = 0.1          # of the budget
_QUIET_HOURS = 24
_INDEX = "run `site-client check SITE_FILE` for this part alone"


def diagnose(site_file: str) -> list[Finding]:
    """Every finding about the site that the file describes, in the order in which to mend them."""
    from configs.load import load_config
    from configs.schema import SiteConfig

    try:
        config = load_config(SiteConfig, site_file)
    except ValueError as error:
        return [failed("site file", str(error), "correct it; `site-client init` shows every key in a new folder")]
    state = Path(config.state)
    findings = [passed("site file", f"{config.site_id}, policy.max_epsilon {config.policy.max_epsilon:g}, runs "
                                    f"approved {config.policy.approve_runs}")]
    findings += watch("packages", package_findings, "install the release into a fresh environment")
    if not state.is_dir():
        return [*findings, failed("state", f"{state} does not exist", "`site-client init` makes it, or restore it: "
                                                                      "`site-client restore`")]
    findings += watch("state", lambda: _state(state), "restore the state folder")
    keys = watch("keys", lambda: key_findings("keys", _keys_of(config)), "restore the state folder")
    findings += keys
    findings += watch("process", lambda: process_findings(
        "process", state / "start.lock", str(state / "executor.secret"), _MODULES, f"site-client start {site_file}"),
        "look at the machine's processes")
    if all(one.level == "PASS" for one in keys):  # what follows would make a missing key
        findings += _installation(config)
    findings += _connection(config)
    findings += _machine(config)
    return findings


def _keys_of(config: SiteConfig) -> dict[Path, int | None]:
    state = Path(config.state)
    return {state / name: length for name, length in KEY_BYTES.items() if config.invitation or name != "node.key"}


def _state(state: Path) -> Iterator[Finding]:
    from privacy.state_version import STATE_VERSION, read_version

    yield from folder_findings("state", state)
    found = read_version(state)
    if found is not None and found > STATE_VERSION:
        yield failed("state", f"it was written by a newer release (version {found}; this one knows {STATE_VERSION})",
                     "install that release again; a state folder never goes back")


# ------------------------------------------------------------------ what this site has


def _installation(config: SiteConfig) -> list[Finding]:
    from privacy.ledger import LedgerTamperedError
    from site_client import installation_checks as checks
    from site_client.audit_chain import AuditBrokenError

    def one(name: str, text: str) -> list[Finding]:
        return [passed(name, text)]

    findings = watch("roster", lambda: _roster(config), "`site-client roster show SITE_FILE` shows what is in force")
    findings += watch("ledger", lambda: _ledger(config), "restore the whole state folder from its newest backup",
                      (LedgerTamperedError,))
    findings += watch("audit log", lambda: _audit(config), "restore the whole state folder from its newest backup",
                      (AuditBrokenError,))
    findings += watch("approvals", lambda: _approvals(config), "`site-client approve SITE_FILE` lists what waits")
    findings += watch("base model", lambda: one("base model", checks.check_base_model(config)), "get the agreed folder")
    findings += watch("data", lambda: _data(config), _INDEX)
    return findings


def _roster(config: SiteConfig) -> Iterator[Finding]:
    from site_client.installation_checks import check_roster
    from site_client.keystore import has_ledger
    from site_client.roster_pin import RosterPin

    fresh = not config.roster_hash and not has_ledger(Path(config.state))
    if fresh and not RosterPin(config).path.exists():
        yield warned("roster", "none is in force here yet", "it comes over the wire once this site is enrolled, two "
                     "officers have signed and `site-client start` runs; then `site-client approve SITE_FILE`")
    else:
        yield passed("roster", check_roster(config))


def _ledger(config: SiteConfig) -> Iterator[Finding]:
    from site_client.installation_checks import check_ledger
    from site_client.ledger_report import facts_of

    text = check_ledger(config)  # raises once the budget is spent
    if (Path(config.state) / "ledger.sqlite").is_file():
        facts = facts_of(config)
        if facts["left"] < _LOW * facts["max_epsilon"]:
            yield warned("ledger", text, f"{facts['left']:.3g} is left: plan the last runs; policy.max_epsilon is the "
                                         "hospital's promise to its patients, and raising it is a new promise")
            return
    yield passed("ledger", text)


def _audit(config: SiteConfig) -> Iterator[Finding]:
    from site_client.audit_log import AuditUnwritableError, head_path, site_log

    state = Path(config.state)
    path = state / "audit.sqlite"
    if not path.is_file() and not head_path(path).is_file():
        yield passed("audit log", "none yet, the first `site-client start` makes it")
        return
    try:
        log = site_log(state)
    except AuditUnwritableError as error:
        raise ValueError(str(error)) from None
    try:
        events = log.verify()
    finally:
        log.release()
    left = [event.utc for event in events if event.kind == "egress"]
    text = f"{len(events)} events, chain intact, last message left {age(left[-1]) + ' ago' if left else 'never'}"
    if left and datetime.now(UTC).timestamp() - datetime.fromisoformat(left[-1]).timestamp() > 3600 * _QUIET_HOURS:
        yield warned("audit log", text, "fine between runs; during one this site is left out of the sum: see the "
                                        "process and connection lines, and ask the coordinator")
    else:
        yield passed("audit log", text)


def age(utc: str) -> str:
    """How long ago that ISO time was."""
    seconds = max(0.0, datetime.now(UTC).timestamp() - datetime.fromisoformat(utc).timestamp())
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _approvals(config: SiteConfig) -> Iterator[Finding]:
    from site_client.roster_pin import RosterPin
    from site_client.run_approval import RunApprovals

    waiting = [f"run {run.manifest.run_id}" for run in RunApprovals(Path(config.state)).pending()]
    if RosterPin(config).offered_path.is_file():
        waiting.append("a roster")
    if waiting:
        yield warned("approvals", f"waiting: {', '.join(waiting)}", "site-client approve SITE_FILE")
    else:
        yield passed("approvals", "nothing waits")


def _data(config: SiteConfig) -> Iterator[Finding]:
    from site_client.installation_checks import check_data
    from site_client.sources.dicom_syntaxes import MOST_FILES, count_syntaxes
    from site_client.sources.open_source import open_sources

    yield passed("data", check_data(config))
    counts, to_do = count_syntaxes([folder for source in open_sources(config) for folder in source.folders()],
                                   config.images)
    if not counts:
        yield passed("decoders", "no file under dicom/")
        return
    text = ", ".join(f"{number} {name}" for name, number in counts.most_common())
    text += f" (of the first {MOST_FILES})" if counts.total() >= MOST_FILES else ""
    if to_do:
        yield warned("decoders", text, "; ".join(f"{number} files {what}" for what, number in to_do.most_common()))
    else:
        yield passed("decoders", text)


# ------------------------------------------------------------------ the way to the coordinator


def _connection(config: SiteConfig) -> list[Finding]:
    if not config.invitation:
        return [passed("connection", "none: this site file has no invitation")]
    invitation: list[Invitation] = []
    findings = watch("invitation", lambda: _invitation(config, invitation), "put back the file that was received")
    if invitation:
        findings += watch("connection", lambda: _reach(invitation[0]), "see the network")
    findings += watch("health", lambda: _health(config), "see the process line")
    return findings


def _invitation(config: SiteConfig, out: list[Invitation]) -> Iterator[Finding]:
    from privacy.enrolment import Invitation, certificate_of

    path = Path(config.invitation)
    if not path.is_file():
        raise ValueError(f"{path} does not exist; put back the file that the coordinator sent")
    out.append(Invitation.from_json(path.read_bytes()))
    yield passed("invitation", f"federation {out[0].federation_id}, coordinator {out[0].address}, "
                               f"hash {out[0].hash().hex()[:16]}")
    ends = certificate_of(out[0].ca_certificate.encode()).not_valid_after_utc
    yield until("authority", "the invitation's certificate authority", ends, "ask for a new invitation in good time")


def _reach(invitation: Invitation) -> Iterator[Finding]:
    from site_client.connection_probe import MOST_AHEAD_S, MOST_BEHIND_S, probe

    found = probe(invitation.address, invitation.ca_certificate)
    if found.reason:
        yield failed("connection", found.reason, found.fix)
    else:
        yield passed("connection", f"{invitation.address} answers over TLS, from the invitation's authority")
    if found.skew_s is not None:
        text = f"{abs(found.skew_s):.1f} s {'ahead of' if found.skew_s > 0 else 'behind'} the coordinator's"
        if not -MOST_BEHIND_S / 2 < found.skew_s < MOST_AHEAD_S / 2:
            yield warned("clock", text, f"set the clock (NTP): {MOST_AHEAD_S:.0f} s ahead is the most that is accepted")
        else:
            yield passed("clock", text)
    if found.certificate_ends is not None:
        yield until("certificate", "the coordinator's certificate", found.certificate_ends,
                    "ask its operator for `coordinator renew-certificate`")


def _health(config: SiteConfig) -> Iterator[Finding]:
    from privacy.transport.health import check_health

    if not config.health_port:
        yield passed("health", "no health service (health_port: 0)")
        return
    status, reason = check_health(config.health_port)
    if status == "SERVING":
        yield passed("health", "SERVING")
    else:
        yield warned("health", f"{status}: {reason}", "site-client status SITE_FILE says which process is not ready")


# ------------------------------------------------------------------ the machine


def _machine(config: SiteConfig) -> list[Finding]:
    from site_client.policy import BYTES_PER_MB

    model = Path(config.base_model)
    size = sum(path.stat().st_size for path in model.iterdir() if path.is_file()) if model.is_dir() else 0
    upload = int(config.policy.max_upload_mb * BYTES_PER_MB)
    findings = watch("machine", lambda: machine_findings(Path(config.state), upload, 2 * size, "site-client"),
                     "look at the machine")
    findings += watch("gpu", lambda: _gpu(config), "training on the processor works, slowly")
    findings += watch("hours", lambda: _hours(config), "correct policy.working_hours")
    return findings


def _gpu(config: SiteConfig) -> Iterator[Finding]:
    import torch

    from configs.schema import ConfigError
    from site_client.placement import require_devices

    try:
        require_devices(config)
    except ConfigError as error:
        yield failed("gpu", str(error), "lower processes or gpus_per_process in the site file, or mend the driver")
    if not torch.cuda.is_available():
        yield warned("gpu", "none that torch can use", "training runs on the processor: fine for a trial; see that the "
                                                       "driver and a CUDA build of torch are installed")
        return
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        yield passed("gpu", f"{torch.cuda.get_device_name(number)}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")


def _hours(config: SiteConfig) -> Iterator[Finding]:
    from privacy.errors import PolicyRefusalError
    from site_client.policy import check_hours

    spans = ", ".join(config.policy.working_hours)
    try:
        check_hours(datetime.now(), config.policy)  # local: the policy speaks of this machine's time
    except PolicyRefusalError:
        yield warned("hours", f"now outside {spans}: no training begins", "wait, or change policy.working_hours")
    else:
        yield passed("hours", f"now inside {spans}" if spans else "any time")
