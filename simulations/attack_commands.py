"""`simulate attack`: play adversaries against honest sites and print verdicts."""

from __future__ import annotations

import argparse
import json
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulations.adversaries.attack import Verdict

__all__ = ["add_attack_command", "attack"]


def add_attack_command(commands: Any) -> None:
    """Register the command with the `simulate` parser's subparsers."""
    parser = commands.add_parser(
        "attack", help="play attacks on the secure aggregation against honest sites",
        description="Play one attack, or all of them, against sites that run the real protocol. Exits with 1 when an "
                    "attack succeeds or is not answered as it should be.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="attacks by name; all = every one")
    parser.add_argument("--list", action="store_true", help="name all attacks and what stops them")
    parser.add_argument("--without-defence", action="store_true",
                        help="switch the defence off, to see that the attack then works; exits with 1 when it does not")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(command=attack, overrides=[])


def attack(arguments: argparse.Namespace) -> int:
    """Run the command; 0 = as it should be, 1 = not. Raises ValueError for an unknown name."""
    from simulations.adversaries.catalogue import ATTACKS

    if arguments.list or not arguments.names:
        _print_list(as_json=arguments.json)
        return 0
    bare = bool(arguments.without_defence)
    names = [*ATTACKS] if arguments.names == ["all"] else arguments.names
    if bare and arguments.names == ["all"]:
        names = [name for name in names if ATTACKS[name].weakness]
    for name in names:
        if name not in ATTACKS:
            raise ValueError(f"there is no attack {name!r}; `simulate attack --list` names them")
        if bare and not ATTACKS[name].weakness:
            raise ValueError(f"attack {name!r} has no demonstration without its defence; leave --without-defence out")
    from simulations.adversaries.attack import judge

    logging.getLogger("site_client").setLevel(logging.CRITICAL)  # refusals are what this is about
    verdicts = []
    for name in names:
        verdicts.append(judge(ATTACKS[name], defended=not bare))
        if not arguments.json:
            print(verdicts[-1].text(), end="\n\n", flush=True)
    if arguments.json:
        print(json.dumps([verdict.as_json() for verdict in verdicts]))
    elif len(verdicts) > 1:
        print(_table(verdicts))
    return 0 if all(_is_right(verdict) for verdict in verdicts) else 1


def _is_right(verdict: Verdict) -> bool:
    """With the defence the attack fails with the named answer; without it the attack works."""
    return verdict.failed and verdict.as_expected if verdict.defended else not verdict.failed


def _print_list(*, as_json: bool) -> None:
    from simulations.adversaries.catalogue import ATTACKS

    if as_json:
        print(json.dumps([
            {"name": a.name, "title": a.title, "gain": a.gain, "defence": a.defence, "expected": a.expected,
             "weakness": a.weakness} for a in ATTACKS.values()]))
        return
    for name, kind in ATTACKS.items():
        print(f"{name}\n    {kind.title}\n    Stopped by: {kind.defence}.")
    print(f"\n{len(ATTACKS)} attacks. `simulate attack NAME` plays one, `simulate attack all` plays them all.")


def _table(verdicts: list[Verdict]) -> str:
    rows = [("attack", "answer", "blamed", "verdict", "s")]
    for verdict in verdicts:
        code, blamed = verdict.expected if verdict.expected and verdict.as_expected else _first_answer(verdict)
        rows.append((verdict.name, code, blamed, verdict.conclusion, f"{verdict.seconds:.2f}"))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    worked = sum(not verdict.failed for verdict in verdicts)
    lines.append(f"\n{len(verdicts)} attacks, {worked} succeeded, {sum(v.seconds for v in verdicts):.1f} s")
    return "\n".join(lines)


def _first_answer(verdict: Verdict) -> tuple[str, str]:
    return (verdict.answers[0].code, verdict.answers[0].blamed) if verdict.answers else ("-", "-")
