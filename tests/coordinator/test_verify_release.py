"""A release that was changed in any way is refused in one sentence, also one that its own coordinator changed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import coordinator.cli
from coordinator.export_run import export_run
from coordinator.home import Home
from coordinator.release_folder import FORMAT, STATE_FILE, sign_release
from privacy.identity import Roster
from privacy.messages import Attest, SignedManifest, SignedResult
from privacy.roster import SignedRoster
from privacy.roster_facts import fingerprint
from tests.coordinator.finished_run import MICRO, make_base, make_home, make_run
from tests.privacy.invited import key_of
from tests.privacy.officers import signed

ADAPTER = "adapter_model.safetensors"
PEFT_FILES = [
    "README.md", "adapter_config.json", ADAPTER, "provenance/manifest.signed", "provenance/roster.signed", STATE_FILE,
    "release.json", "release.sig", "rounds.json"]


class Bench:
    """One run, exported in both formats and with another rank; `copy` gives a release that a test may change."""

    def __init__(self, place: Path) -> None:
        self.run = make_run(place, make_home(place), make_base(place / "base"))
        self.other = make_run(place, self.run.home, self.run.base, "other", rank=8)
        self.key = Home.open(self.run.home).key()
        self.made = {name: place / name for name in ("peft", "merged", "rank-8")}
        export_run(self.run.folder, self.made["peft"], self.key)
        export_run(self.run.folder, self.made["merged"], self.key, "merged")
        export_run(self.other.folder, self.made["rank-8"], self.key)

    def copy(self, folder: Path, name: str = "peft") -> Path:
        shutil.copytree(self.made[name], folder)
        return folder

    def resign(self, folder: Path, **changed: Any) -> None:
        """As a dishonest coordinator would: whatever is in the folder, with its own good signature."""
        facts = json.loads((folder / "release.json").read_text()) | changed
        for name in ("release.json", "release.sig"):
            (folder / name).unlink()
        facts.pop("files")
        sign_release(folder, facts, self.run.manifest.hash(), self.key)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("verify"))


Verify = Callable[..., tuple[int, str, str]]


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str]) -> Verify:
    def call(folder: Path, *more: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = coordinator.cli.main(["verify-release", str(folder), *map(str, more)])
        printed = capsys.readouterr()
        assert printed.err.count("\n") == (code != 0), printed.err
        return code, printed.out, printed.err

    return call


def refused(found: tuple[int, str, str], words: str) -> None:
    code, out, error = found
    assert (code, out) == (1, "") and words in error, found


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
    from privacy.identity import Officer

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


# ------------------------------------------------------------------ changed by the coordinator itself


def test_a_coordinator_cannot_publish_another_adapter(bench: Bench, verify: Verify, tmp_path: Path) -> None:
    folder = bench.copy(tmp_path / "release")
    tensors = load_file(folder / ADAPTER)
    name = sorted(tensors)[0]
    tensors[name] = tensors[name] + np.float32(1e-3)
    save_file(tensors, folder / ADAPTER)
    bench.resign(folder)
    refused(verify(folder), "is not the adapter that the sites attested")


def test_a_coordinator_cannot_publish_another_state(bench: Bench, verify: Verify, tmp_path: Path) -> None:
    folder = bench.copy(tmp_path / "release")
    tensors = load_file(folder / STATE_FILE)
    tensors["average"][0] += 1
    save_file(tensors, folder / STATE_FILE)
    bench.resign(folder)
    refused(verify(folder), f"{STATE_FILE} is not the state that the sites attested")
    save_file({"average": tensors["average"]}, folder / STATE_FILE)
    bench.resign(folder)
    refused(verify(folder), "does not hold velocity and average")


@pytest.mark.parametrize(("key", "value"), [
    ("r", 8), ("lora_alpha", 16), ("target_modules", ".*q_proj"), ("use_dora", True), ("bias", "all"),
    ("init_lora_weights", "pissa"), ("rank_pattern", {"q_proj": 2}), ("auto_mapping", {"parent_library": "os"}),
    ("modules_to_save", ["lm_head"]), ("some_later_key", 1), ("inference_mode", 1)])
def test_a_configuration_that_is_not_the_manifests_is_refused(
    bench: Bench, verify: Verify, tmp_path: Path, key: str, value: object
) -> None:
    folder = bench.copy(tmp_path / "release")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, key: value}))
    bench.resign(folder)
    refused(verify(folder), key)


def test_another_rank_with_its_own_configuration_is_refused(bench: Bench, verify: Verify, tmp_path: Path) -> None:
    folder = bench.copy(tmp_path / "release")
    for name in ("adapter_config.json", ADAPTER):
        shutil.copy(bench.made["rank-8"] / name, folder / name)
    bench.resign(folder)
    refused(verify(folder), "adapter_config.json has r=8 where the run has 4")
    shutil.copy(bench.made["peft"] / "adapter_config.json", folder)
    bench.resign(folder)
    refused(verify(folder), "not of the run's rank 4")


def test_another_runs_attestations_prove_nothing(bench: Bench, verify: Verify, tmp_path: Path) -> None:
    folder = bench.copy(tmp_path / "release")
    other = json.loads((bench.made["rank-8"] / "release.json").read_text())
    bench.resign(folder, attestation=other["attestation"])
    refused(verify(folder), "attested a round of another manifest")


def test_a_second_manifest_under_the_same_name_is_found_by_the_plan(
    bench: Bench, verify: Verify, tmp_path: Path
) -> None:
    """The sites trained with less noise than the manifest that is published says."""
    folder = bench.copy(tmp_path / "release")
    stages = tuple(replace(stage, noise_multiplier=4 * stage.noise_multiplier) for stage in bench.run.manifest.stages)
    better = replace(bench.run.manifest, stages=stages)
    (folder / "provenance/manifest.signed").write_bytes(SignedManifest.make(better, bench.key).to_bytes())
    from coordinator import release_facts

    facts = json.loads((folder / "release.json").read_text())
    changed = release_facts.manifest_facts(better)
    changed["adapter"] = {**facts["adapter"], **changed["adapter"]}
    facts |= {**changed, "privacy": release_facts.privacy_facts(better)}
    facts.pop("files")
    for name in ("release.json", "release.sig"):
        (folder / name).unlink()
    sign_release(folder, facts, better.hash(), bench.key)
    refused(verify(folder), "attested a round of another manifest")


def test_a_smaller_epsilon_than_the_manifest_gives_is_refused(bench: Bench, verify: Verify, tmp_path: Path) -> None:
    privacy = json.loads((bench.made["peft"] / "release.json").read_text())["privacy"]
    sites = [{**one, "epsilon": one["epsilon"] / 2} for one in privacy["sites"]]
    for number, (changed, words) in enumerate((
        ({**privacy, "sites": sites}, "epsilon or delta of site-1"), ({**privacy, "epsilon": 0.1}, "another epsilon"),
        ({**privacy, "claim": "none"}, "another kind of privacy"),
        ({**privacy, "sites": []}, "another kind of privacy"), ({**privacy, "unit": "image"}, "words on privacy"),
        ({**privacy, "epsilon": float("nan")}, "another epsilon"),
    )):
        folder = bench.copy(tmp_path / str(number))
        bench.resign(folder, privacy=changed)
        refused(verify(folder), words)


@pytest.mark.parametrize(("name", "value"), [
    ("base_model_hash", "00" * 32), ("stages", []), ("run_id", "other"), ("federation_id", "other"),
    ("training_release", "x"), ("manifest_hash", "00" * 32), ("coordinator_key", "00" * 32), ("stage_rounds", [3]),
    ("licence", {"id": "MIT", "terms": []}), ("adapter", {}), ("loading", ["run this program"])])
def test_facts_that_differ_from_the_manifest_are_refused(
    bench: Bench, verify: Verify, tmp_path: Path, name: str, value: object
) -> None:
    folder = bench.copy(tmp_path / "release")
    bench.resign(folder, **{name: value})
    assert verify(folder)[0] == 1


def test_a_card_that_says_something_else_is_refused(bench: Bench, verify: Verify, tmp_path: Path) -> None:
    folder = bench.copy(tmp_path / "release")
    card = (folder / "README.md").read_text()
    (folder / "README.md").write_text(card.replace("no clinical decisions", "clinical decisions"))
    bench.resign(folder)
    refused(verify(folder), "the card or the words on privacy and licence")
    bench.resign(folder, exporting_release="00" * 32)
    code, out, _ = verify(folder)
    assert code == 0 and "another version of the software wrote them" in out.split("does NOT prove")[1]


def test_too_few_attestations_and_forged_ones_are_refused(bench: Bench, verify: Verify, tmp_path: Path) -> None:
    shown = json.loads((bench.made["peft"] / "release.json").read_text())["attestation"]
    result = SignedResult.from_bytes(bytes.fromhex(shown["result"])).result
    forged = Attest.make("site-3", result, key_of("site-1")).to_bytes().hex()
    for number, attests in enumerate(([*shown["attests"][:2]], [*shown["attests"][:2], shown["attests"][0]],
                                      [*shown["attests"][:2], forged])):
        folder = bench.copy(tmp_path / str(number))
        bench.resign(folder, attestation={**shown, "attests": attests})
        refused(verify(folder), "E_ATTEST")


def test_a_file_of_another_kind_is_refused_even_when_it_is_signed(
    bench: Bench, verify: Verify, tmp_path: Path
) -> None:
    folder = bench.copy(tmp_path / "release")
    (folder / "adapter_model.bin").write_bytes(b"\x80\x04.")
    bench.resign(folder)
    refused(verify(folder), "adapter_model.bin is of no kind that a release holds")
    folder = bench.copy(tmp_path / "pickle")
    (folder / ADAPTER).write_bytes(b"\x80\x04.")
    bench.resign(folder)
    refused(verify(folder), f"{ADAPTER} is no whole safetensors file")


def test_merged_weights_that_are_not_base_and_adapter_are_found_with_the_base(
    bench: Bench, verify: Verify, tmp_path: Path
) -> None:
    folder = bench.copy(tmp_path / "release", "merged")
    tensors = load_file(folder / "model.safetensors")
    for name in ("lm_head.weight", "model.language_model.layers.0.self_attn.q_proj.weight"):
        changed = {**tensors, name: tensors[name] * np.float32(1 + 1e-5)}
        save_file(changed, folder / "model.safetensors")
        bench.resign(folder)
        assert verify(folder)[0] == 0  # nobody can tell without the base, and the output says so
        refused(verify(folder, "--base", bench.run.base), f"{name} is not the base's weight")
    save_file({**tensors, "more": tensors[name]}, folder / "model.safetensors")
    bench.resign(folder)
    refused(verify(folder, "--base", bench.run.base), "other tensors than its base")


def test_a_merged_configuration_that_names_code_is_refused(bench: Bench, verify: Verify, tmp_path: Path) -> None:
    folder = bench.copy(tmp_path / "release", "merged")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["auto_map"] = {"AutoModel": "hub/x--y.Z"}
    (folder / "config.json").write_text(json.dumps(config))
    bench.resign(folder)
    refused(verify(folder), "names code to be loaded")


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
