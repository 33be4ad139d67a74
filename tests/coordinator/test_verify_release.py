"""A good release says what was checked; one that was changed on its way is refused in one sentence."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.export_run import export_run
from coordinator.release_folder import FORMAT, STATE_FILE
from privacy.evaluation import GateOutcome
from privacy.identity import Officer, Roster
from privacy.roster import SignedRoster
from privacy.roster_facts import fingerprint
from tests.coordinator.finished_run import MICRO, make_base, make_run
from tests.coordinator.release_bench import ADAPTER, Bench, Verify, refused
from tests.privacy.invited import key_of
from tests.privacy.officers import signed

PEFT_FILES = [
    "README.md", "adapter_config.json", ADAPTER, "provenance/manifest.signed", "provenance/roster.signed", STATE_FILE,
    "release.json", "release.sig", "rounds.json"]

# ------------------------------------------------------------------ good ones


@pytest.mark.parametrize("name", ["peft", "merged"])
def test_a_good_release_says_what_was_checked_and_what_that_does_not_prove(
    bench: Bench, verify: Verify, name: str
) -> None:
    mark = fingerprint(bench.key.public_bytes())
    for key in (mark, mark.replace(" ", ""), bench.key.public_bytes().hex().upper()):
        code, out, _ = verify(bench.made[name], "--key", key, "--base", bench.run.base, "--federation-id", "fed")
        assert code == 0 and f"signed by {mark}, the key that was given" in out
    for words in ("signed by ann, bob", "signed by the coordinator for this manifest", "attested by site-1, site-2",
                  "3 needed", "epsilon computed again: at most 1.9", "no other; no links, no pickles",
                  "does NOT prove", "clinical decisions", "own signed ledger", "who the officers and the sites are"):
        assert words in out, words
    assert ("bit for bit the attested state's average" in out) == (name == "peft")
    assert ("tensors are it with the attested adapter added" in out) == (name == "merged")


def test_json_holds_the_same(bench: Bench, verify: Verify) -> None:
    code, out, _ = verify(bench.made["merged"], "--json")
    facts = json.loads(out)
    assert code == 0 and facts["good"] and facts["run_id"] == "first" and facts["kind"] == "merged"
    assert facts["coordinator_key"] == bench.key.public_bytes().hex() and len(facts["checked"]) >= 7
    assert any("give the base with --base" in line for line in facts["not_proved"])


def test_without_an_anchor_the_reader_is_told_to_compare(bench: Bench, verify: Verify) -> None:
    code, out, _ = verify(bench.made["peft"])
    assert code == 0 and "which you must compare yourself" in out
    assert "anybody can make keys, a roster and a release that agree" in out


def test_the_anchor_decides(bench: Bench, verify: Verify, tmp_path: Path) -> None:
    roster = bench.run.roster.roster
    later = signed(replace(roster, version=roster.version + 1))  # the same officers
    strange = signed(replace(roster, federation_id="other"))
    stranger = key_of("stranger").public_bytes()
    usurped = SignedRoster.make(_with_officers(roster, "x", "y"), key_of("x"), key_of("y"))
    for name, one in {"same": bench.run.roster, "later": later, "strange": strange, "usurped": usurped}.items():
        (tmp_path / name).write_bytes(one.to_bytes())
    for name in ("same", "later"):
        code, out, _ = verify(bench.made["peft"], "--roster", tmp_path / name)
        assert code == 0 and "the coordinator on the roster that was given" in out and "who the officers" not in out
    refused(verify(bench.made["peft"], "--roster", tmp_path / "strange"), "is of other")
    refused(verify(bench.made["peft"], "--roster", tmp_path / "usurped"), "fewer than 2 of its officers signed it")
    refused(verify(bench.made["peft"], "--key", stranger.hex()), "which is not the one that was given")
    refused(verify(bench.made["peft"], "--federation-id", "north"), "not of north")


def _with_officers(roster: Roster, *names: str) -> Roster:
    return replace(roster, officers=tuple(Officer(name, key_of(name).public_bytes()) for name in names))


@pytest.mark.parametrize(("words", "expected"), [
    (["/nowhere"], "there is no folder /nowhere"), (["PEFT", "--key", "abc"], "64 or 32 hexadecimal digits"),
    (["PEFT", "--roster", "/nowhere"], "does not exist"), (["PEFT", "--base", "/nowhere"], "no folder /nowhere")])
def test_bad_input_is_exit_code_2(bench: Bench, verify: Verify, words: list[str], expected: str) -> None:
    code, out, error = verify(*(bench.made["peft"] if word == "PEFT" else word for word in words))
    assert (code, out) == (2, "") and expected in error


def test_another_base_is_refused(bench: Bench, verify: Verify, tmp_path: Path) -> None:
    other = make_base(tmp_path / "base", replace(MICRO, num_layers=1))
    for name in ("peft", "merged"):
        refused(verify(bench.made[name], "--base", other), "is not the base model that the manifest names")


# ------------------------------------------------------------------ changed by somebody on the way


@pytest.mark.parametrize("name", PEFT_FILES)
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_a_flipped_byte_in_any_file_is_found(
    bench: Bench, verify: Verify, tmp_path: Path, name: str, where: str
) -> None:
    folder = bench.copy(tmp_path / "release")
    data = bytearray((folder / name).read_bytes())
    at = {"first": 0, "middle": len(data) // 2, "last": len(data) - 2}[where]
    data[at] ^= 1
    (folder / name).write_bytes(data)
    code, out, _ = verify(folder)
    assert (code, out) == (1, "")


@pytest.mark.parametrize("name", ["config.json", "spec.json", "tokenizer.json", "model.safetensors"])
def test_a_flipped_byte_in_merged_files_is_found(bench: Bench, verify: Verify, tmp_path: Path, name: str) -> None:
    folder = bench.copy(tmp_path / "release", "merged")
    data = bytearray((folder / name).read_bytes())
    data[-2] ^= 1
    (folder / name).write_bytes(data)
    refused(verify(folder), f"{name} is not the file that was signed")


@pytest.mark.parametrize("name", PEFT_FILES)
def test_a_missing_file_is_named(bench: Bench, verify: Verify, tmp_path: Path, name: str) -> None:
    folder = bench.copy(tmp_path / "release")
    (folder / name).unlink()
    code, out, error = verify(folder)
    assert (code, out) == (1, "") and ("missing" in error or "lacks" in error)


@pytest.mark.parametrize("name", ["adapter_model.bin", ".hidden", "provenance/more.safetensors", "sub/x.json"])
def test_an_added_file_is_named(bench: Bench, verify: Verify, tmp_path: Path, name: str) -> None:
    folder = bench.copy(tmp_path / "release")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"x")
    refused(verify(folder), f"{name} is not a file of the release")


def test_links_and_special_files_are_refused(bench: Bench, verify: Verify, tmp_path: Path) -> None:
    folder = bench.copy(tmp_path / "release")
    (folder / ADAPTER).rename(tmp_path / "outside")
    (folder / ADAPTER).symlink_to(tmp_path / "outside")
    refused(verify(folder), f"{ADAPTER} is a link")
    (folder / ADAPTER).unlink()
    shutil.copy(tmp_path / "outside", folder / ADAPTER)
    (folder / "more").symlink_to(tmp_path)
    refused(verify(folder), "more is a link")
    (folder / "more").unlink()
    os.mkfifo(folder / "pipe")
    refused(verify(folder), "pipe is neither a file nor a folder")


def test_a_swapped_adapter_and_another_runs_manifest_are_found(bench: Bench, verify: Verify, tmp_path: Path) -> None:
    folder = bench.copy(tmp_path / "adapter")
    shutil.copy(bench.made["rank-8"] / ADAPTER, folder / ADAPTER)
    refused(verify(folder), f"{ADAPTER} is not the file that was signed")
    folder = bench.copy(tmp_path / "manifest")
    shutil.copy(bench.made["rank-8"] / "provenance/manifest.signed", folder / "provenance")
    refused(verify(folder), "another manifest was put beside it")
    folder = bench.copy(tmp_path / "signature")
    shutil.copy(bench.made["rank-8"] / "release.sig", folder)
    refused(verify(folder), "is not signed by the coordinator of this roster")


def test_json_that_is_none_or_of_another_form_is_one_sentence(bench: Bench, verify: Verify, tmp_path: Path) -> None:
    folder = bench.copy(tmp_path / "release")
    for text, words in (("[" * 10**5, "cannot be read"), ("{", "cannot be read"), ("[]", "not of the form"),
                        ('{"format": "x"}', "not of the form"),
                        (json.dumps({"format": FORMAT, "kind": "peft"}), "lacks a value")):
        (folder / "release.json").write_text(text)
        refused(verify(folder), words)
    code, out, _ = verify(folder, "--json")
    assert code == 1 and json.loads(out) == {"good": False, "failure": json.loads(out)["failure"]}


def test_a_run_of_an_earlier_release_without_a_plan_is_good_and_says_what_is_open(
    bench: Bench, verify: Verify, tmp_path: Path
) -> None:
    folder = bench.copy(tmp_path / "release")
    shown = json.loads((folder / "release.json").read_text())["attestation"]
    bench.resign(folder, attestation={**shown, "plan": ""})
    code, out, _ = verify(folder)
    assert code == 0 and "the sites' signatures name the run only" in out


def test_the_last_rounds_model_is_recognised_where_nothing_is_averaged(
    bench: Bench, verify: Verify, tmp_path: Path
) -> None:
    plain = make_run(tmp_path, bench.run.home, bench.run.base, "plain", average_decay=0.0)
    export_run(plain.folder, tmp_path / "out", bench.key)
    code, out, _ = verify(tmp_path / "out")
    assert code == 0 and "its average is the last round's model itself" in out


@pytest.mark.parametrize(("gates", "words"), [
    ((GateOutcome(0, 2, 2),), "the gate of stage instruction is not passed (2 sites failed it in round 2)"),
    ((), "the gate of stage instruction is not passed (no round of it has a sum)"),
    ((GateOutcome(0, 1, 1), GateOutcome(0, 2, 0)), ""),
])
def test_a_run_that_did_not_pass_its_gates_has_no_release(
    bench: Bench, verify: Verify, tmp_path: Path, gates: tuple[GateOutcome, ...], words: str
) -> None:
    run = make_run(tmp_path, bench.run.home, bench.run.base, f"gated-{len(gates)}", gated=True, gates=gates)
    said = export_run(run.folder, tmp_path / "out", bench.key)
    found = verify(tmp_path / "out")
    if words:
        assert f"NOT passed: {words}, so `verify-release` refuses it" in said
        refused(found, words)
    else:
        assert "NOT passed" not in said
        assert found[0] == 0 and "gates passed, each by its own round's adapter before averaging: instruction in " \
            "round 2" in found[1]
