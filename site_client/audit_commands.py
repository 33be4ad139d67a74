"""`site-client audit show | verify | export`: what left this site, as its operator or anybody with an export reads it.

Exit codes: 0 fine, 1 the log does not hold, 2 bad input (one sentence on stderr). Nothing here is sent anywhere.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from configs.schema import SiteConfig
    from site_client.audit_chain import Event
    from site_client.audit_log import AuditLog

__all__ = ["add_audit_command", "booking", "egress_report"]

EXIT_OK, EXIT_FAILED = 0, 1
_ACTIONS = ("show", "verify", "export")
_SHOWN = 12  # newest events on the screen


def add_audit_command(commands: Any) -> None:
    """Add `audit` to the parser's `commands` (of `add_subparsers`)."""
    parser = commands.add_parser(
        "audit", help="what left this site, what was refused, what was approved",
        description="Every reply is in this log before it leaves. An export holds no patient and can be checked by "
                    "anybody.")
    parser.add_argument("words", nargs="*", metavar="[show|verify|export] SITE_FILE",
                        help="show totals and the newest events (default), check chain and signatures, or print an "
                             "export")
    parser.add_argument("--since", type=int, default=0, metavar="N", help="only events after number N")
    parser.add_argument("--file", type=Path, metavar="EXPORT", help="verify this export instead; needs no SITE_FILE")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(command=_audit)


def _audit(arguments: argparse.Namespace) -> int:
    from site_client.audit_chain import AuditBrokenError

    action = arguments.words[0] if arguments.words and arguments.words[0] in _ACTIONS else "show"
    rest = arguments.words[1:] if arguments.words[:1] == [action] else arguments.words
    if arguments.since < 0:
        raise ValueError("--since takes the number of an event, 0 or more")
    try:
        if arguments.file is not None:
            facts, text = _verified_file(arguments.file)
        else:
            if len(rest) != 1:
                raise ValueError("audit takes `show`, `verify` or `export` and one SITE_FILE")
            facts, text = _act(action, _site(rest[0]), arguments.since)
    except AuditBrokenError as error:
        facts, text = {"chain_intact": False, "fault": str(error)}, f"BROKEN: {error}"
    print(json.dumps(facts) if arguments.json and facts else text)
    return EXIT_OK if facts.get("chain_intact", True) else EXIT_FAILED


def _site(path: str) -> SiteConfig:
    from configs.load import load_config
    from configs.schema import SiteConfig

    return load_config(SiteConfig, path)


def _act(action: str, config: SiteConfig, since: int) -> tuple[dict[str, Any], str]:
    """Facts and text; an export is text alone."""
    from site_client.audit_chain import export_lines

    log = _open(config)
    try:
        head, events = log.head(), log.verify()  # in this order: another process may add events in between
        if action == "export":
            return {}, "\n".join(export_lines(events[: head.sequence], head, config.site_id, since))
        signed = log.signed_up_to()
    finally:
        log.release()
    facts = {"site_id": config.site_id, "chain_intact": True, "events": len(events), "signed_up_to": signed,
             "head": events[-1].hash.hex() if events else ""}
    if action == "verify":
        return facts, (f"{config.site_id}: {len(events)} events intact, signed up to event {signed}, "
                       f"head {facts['head'] or 'none'}")
    chosen = events[since:]
    facts |= {"since": since, **egress_report(chosen), "last": [_plain(event) for event in chosen[-_SHOWN:]]}
    return facts, _text(facts)


def _open(config: SiteConfig) -> AuditLog:
    from site_client.audit_log import AuditUnwritableError, head_path, site_log

    path = Path(config.state) / "audit.sqlite"
    if not path.is_file() and not head_path(path).is_file():
        raise ValueError(f"there is no audit log at {path} yet; the first `site-client start` makes it")
    try:
        return site_log(Path(config.state))
    except AuditUnwritableError as error:
        raise ValueError(str(error)) from None


@contextmanager
def booking(state: Path) -> Iterator[AuditLog]:
    """The site's audit log, for a command that changes something: opened, and so checked, before anything changes.

    Raises:
        ValueError: the log does not hold or cannot be written; the text says what to do.
    """
    from site_client.audit_log import AuditBrokenError, AuditUnwritableError, site_log

    try:
        with site_log(state) as log:
            yield log
    except (AuditBrokenError, AuditUnwritableError) as error:
        raise ValueError(str(error)) from None


def egress_report(events: Sequence[Event]) -> dict[str, Any]:
    """Totals of what left by kind of message, of refusals by code, and of requests to the coordinator by kind."""
    egress: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    requests: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    refused: Counter[str] = Counter()
    for event in events:
        fields = event.fields
        if event.kind == "egress":
            _add(egress[fields["message"]], 1, fields["body_bytes"], fields["vector_bytes"])
        elif event.kind == "refusal":
            refused[fields["code"]] += 1
        elif event.kind == "transport":
            counts = (fields.get(name) or 0 for name in ("count", "bytes_out", "bytes_in"))
            _add(requests[fields.get("request") or "unnamed"], *counts)
    return {
        "egress": [{"message": name, "count": count, "body_bytes": body, "vector_bytes": vector}
                   for name, (count, body, vector) in sorted(egress.items())],
        "bytes_that_left": sum(body + vector for _, body, vector in egress.values()),
        "refusals": dict(sorted(refused.items())),
        "transport": [{"request": name, "count": count, "bytes_out": out, "bytes_in": into}
                      for name, (count, out, into) in sorted(requests.items())],
    }


def _add(total: list[int], *values: int) -> None:
    total[:] = [have + value for have, value in zip(total, values, strict=True)]


def _plain(event: Event) -> dict[str, Any]:
    return {"seq": event.seq, "utc": event.utc, "kind": event.kind, **event.fields}


def _text(facts: dict[str, Any]) -> str:
    after = f" after number {facts['since']}" if facts["since"] else ""
    lines = [f"{facts['site_id']}: {facts['events']} events, chain intact, signed up to event {facts['signed_up_to']}",
             f"what left{after}", f"  {'message':<16}{'count':>8}{'bytes':>14}{'vector bytes':>16}"]
    lines += [f"  {row['message']:<16}{row['count']:>8}{row['body_bytes']:>14,}{row['vector_bytes']:>16,}"
              for row in facts["egress"]]
    lines.append(f"  in all {facts['bytes_that_left']:,} bytes")
    if facts["refusals"]:
        lines.append("refused: " + ", ".join(f"{code} {count}" for code, count in facts["refusals"].items()))
    if facts["transport"]:
        lines.append(f"requests to the coordinator\n  {'request':<36}{'count':>10}{'bytes out':>14}{'bytes in':>14}")
    lines += [f"  {row['request']:<36}{row['count']:>10}{row['bytes_out']:>14,}{row['bytes_in']:>14,}"
              for row in facts["transport"]]
    lines.append("newest events")
    lines += [f"  {row['seq']:>6}  {row['utc']}  {row['kind']:<10}" + " ".join(
        f"{name}={value}" for name, value in row.items()
        if name not in ("seq", "utc", "kind", "sha256") and value not in (None, "")) for row in facts["last"]]
    return "\n".join(lines)


def _verified_file(path: Path) -> tuple[dict[str, Any], str]:
    """One sentence about an export whose chain and signature hold."""
    from site_client.audit_chain import read_export

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"export {path} does not exist; name the file that the site wrote") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text: ask the site for its export again") from None
    first, events, head = read_export(text)
    report = egress_report(events)
    facts = {"site_id": str(first["site_id"]), "chain_intact": True, "after": first["after"], "events": len(events),
             "public_key": first["public_key"], "head": head.hash.hex(), **report}
    return facts, (f"{facts['site_id']}: {len(events)} events after number {first['after']} intact, "
                   f"{report['bytes_that_left']:,} bytes left; signed by {first['public_key']} (compare it with the "
                   f"roster), head {facts['head']}")
