"""Every command prints JSON when it is asked to: no new one may lack `--json` without a reason that is written here."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import coordinator.cli
import simulations.cli
import site_client.cli

MAINS = {"coordinator": coordinator.cli, "site-client": site_client.cli, "simulate": simulations.cli}
# command -> why it prints nothing that a program could read. Empty: every command says something.
WITHOUT: dict[str, str] = {}


def leaves(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command of a parser that has none below it."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield name, parser
    for action in below:
        for word, inner in action.choices.items():
            yield from leaves(inner, f"{name} {word}")


def lacking(parser: argparse.ArgumentParser, name: str) -> list[str]:
    return [found for found, leaf in leaves(parser, name)
            if not any("--json" in action.option_strings for action in leaf._actions)]


@pytest.mark.parametrize("name", MAINS)
def test_every_command_has_json_or_a_reason(name: str) -> None:
    found = lacking(MAINS[name]._parser(), name)
    assert not set(found) - set(WITHOUT), f"give them --json, or a reason in {Path(__file__).name}: {found}"


def test_a_reason_outlives_no_command() -> None:
    every = {found for name, module in MAINS.items() for found, _ in leaves(module._parser(), name)}
    assert len(every) > 40 and set(WITHOUT) <= every and all(WITHOUT.values())


def test_a_planted_command_without_it_is_seen() -> None:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    commands.add_parser("good").add_argument("--json", action="store_true")
    commands.add_parser("bad").add_argument("--jsonl", action="store_true")
    inner = commands.add_parser("nested").add_subparsers()
    inner.add_parser("worse")
    assert lacking(parser, "x") == ["x bad", "x nested worse"]


# ------------------------------------------------------------------ what is printed


def printed(capsys: pytest.CaptureFixture[str], name: str, *words: object) -> dict[str, object]:
    capsys.readouterr()
    code = MAINS[name].main([*map(str, words), "--json"])
    out = capsys.readouterr().out
    assert code in (0, 1) and out.count("\n") == 1, out
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


def test_a_federation_is_begun_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from model.backbone import BASE_FILES

    keys = [printed(capsys, "coordinator", "roster", "officer-key", tmp_path / f"{name}.key")["public_key"]
            for name in ("ann", "bob")]
    home = tmp_path / "home"
    made = printed(capsys, "coordinator", "init", home, "--federation", "north", "--address", "127.0.0.1:9",
                   "--officer", f"ann:{keys[0]}", "--officer", f"bob:{keys[1]}")
    assert made["invitation"] == str(home / "invitation.json") and len(str(made["hash"])) == 64
    (tmp_path / "base").mkdir()
    (tmp_path / "data").mkdir()
    for name in BASE_FILES:
        (tmp_path / "base" / name).write_bytes(b"x")
    requests = []
    for number in (1, 2, 3):
        site = printed(capsys, "site-client", "init", tmp_path / f"site-{number}", "--invitation",
                       home / "invitation.json", "--site-id", f"site-{number}", "--patients", 200, "--data",
                       tmp_path / "data", "--base-model", tmp_path / "base")
        assert site["invitation_fingerprint"] == made["fingerprint"]
        requests.append(site["request"])
    enrolled = printed(capsys, "coordinator", "enroll", home, *requests)
    assert enrolled["roster"]["active"] == ["site-1", "site-2", "site-3"]  # type: ignore[index]
    for count, name in enumerate(("ann", "bob"), 1):
        signed = printed(capsys, "coordinator", "roster", "sign", home, "--key", tmp_path / f"{name}.key")
        assert signed["signatures"] == count
    assert printed(capsys, "coordinator", "renew-certificate", home)["names"] == ["localhost", "127.0.0.1"]
    assert str(printed(capsys, "coordinator", "console", home, "--url")["url"]).startswith("http://127.0.0.1:8444/")
    assert printed(capsys, "coordinator", "backup", home, tmp_path / "home.tar")["federation_id"] == "north"
    assert printed(capsys, "coordinator", "restore", tmp_path / "home.tar", tmp_path / "again")["folder"] == str(
        tmp_path / "again")
    file = tmp_path / "site-1" / "site.yaml"
    approved = printed(capsys, "site-client", "roster", "approve", file, home / "roster.bin", "--yes")
    assert approved["approved"] is True and approved["version"] == 1 and approved["already"] is False
    assert printed(capsys, "site-client", "approve", file)["runs"] == []
    check = printed(capsys, "site-client", "check", file)
    levels = {one["name"]: one["level"] for one in check["findings"]}  # type: ignore[attr-defined]
    assert levels["keys"] == levels["roster"] == "PASS" and levels["data"] == "FAIL" and check["ok"] is False
    dry = printed(capsys, "site-client", "start", file, "--dry-run")
    assert dry["policy"]["max_epsilon"] == 8.0 and dry["answers"]["sa_mask"] == "MaskedHeader"  # type: ignore[index]
    assert printed(capsys, "site-client", "backup", file, tmp_path / "site.tar")["site_id"] == "site-1"
    revoked = printed(capsys, "coordinator", "roster", "revoke", home, "site-3")
    assert (revoked["version"], revoked["signatures"]) == (2, 0)
