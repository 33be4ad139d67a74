"""What a coordinator itself cannot publish: each release here bears its good signature over something else."""

from __future__ import annotations

import json
import os
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from coordinator import release_facts
from coordinator.release_folder import MANIFEST_FILE, ROSTER_FILE, STATE_FILE, sign_release
from privacy.messages import Attest, SignedManifest, SignedResult
from tests.coordinator.release_bench import ADAPTER, Bench, Verify, refused
from tests.privacy.invited import key_of


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


INDEX = "model.safetensors.index.json"


def sharded(folder: Path, count: int = 2, index: bool = True) -> Path:
    """Its weights in that many shards, with their index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    held = {}
    for number in range(count):
        name = f"model-{number + 1:05d}-of-{count:05d}.safetensors"
        part = {one: tensors[one] for one in sorted(tensors)[number::count]}
        save_file(part, folder / name)
        held |= dict.fromkeys(part, name)
    if index:
        (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": held}))
    return folder


def test_shards_and_their_index_are_one_model(bench: Bench, verify: Verify, tmp_path: Path) -> None:
    folder = sharded(bench.copy(tmp_path / "release", "merged"))
    bench.resign(folder)
    code, out, _ = verify(folder, "--base", bench.run.base)
    assert code == 0 and "in 2 whole safetensors files" in out


def test_weights_of_which_loaders_read_a_part_are_refused(bench: Bench, verify: Verify, tmp_path: Path) -> None:
    folder = sharded(bench.copy(tmp_path / "half", "merged"))
    (folder / "model-00001-of-00002.safetensors").rename(folder / "model.safetensors")
    (folder / INDEX).write_text((folder / INDEX).read_text().replace("model-00001-of-00002", "model"))
    second = bench.copy(tmp_path / "indexed", "merged")
    held = dict.fromkeys(load_file(second / "model.safetensors"), "model.safetensors")
    (second / INDEX).write_text(json.dumps({"weight_map": held}))
    third = sharded(bench.copy(tmp_path / "bare", "merged"), index=False)
    fourth = sharded(bench.copy(tmp_path / "counted", "merged"))
    (fourth / "model-00002-of-00002.safetensors").rename(fourth / "model-00002-of-00003.safetensors")
    (fourth / INDEX).write_text((fourth / INDEX).read_text().replace("00002-of-00002", "00002-of-00003"))
    for release in (folder, second, third, fourth):
        bench.resign(release)
        refused(verify(release, "--base", bench.run.base), "loaders would read different parts")


def test_an_index_names_each_tensor_where_it_is_and_once(bench: Bench, verify: Verify, tmp_path: Path) -> None:
    folder = sharded(bench.copy(tmp_path / "release", "merged"))
    text = (folder / INDEX).read_text()
    moved = json.loads(text)
    name = sorted(moved["weight_map"])[0]
    moved["weight_map"][name] = "model-00002-of-00002.safetensors"
    (folder / INDEX).write_text(json.dumps(moved))
    bench.resign(folder)
    refused(verify(folder), "does not fit the files beside it")
    (folder / INDEX).write_text(text.replace("{", '{"weight_map": {}, ', 1))
    bench.resign(folder)
    refused(verify(folder), "is not JSON")


@pytest.mark.parametrize("name", ["spec.json", "tokenizer.json", "config.json"])
def test_a_merged_release_describes_itself(bench: Bench, verify: Verify, tmp_path: Path, name: str) -> None:
    folder = bench.copy(tmp_path / "release", "merged")
    (folder / name).unlink()
    bench.resign(folder)
    refused(verify(folder, "--base", bench.run.base), f"{name} is missing")


def test_weights_beside_the_base_are_not_taken_for_it(bench: Bench, verify: Verify, tmp_path: Path) -> None:
    base = shutil.copytree(bench.run.base, tmp_path / "base")
    folder = bench.copy(tmp_path / "release", "merged")
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "more": np.zeros(2, np.float32)}, folder / "model.safetensors")
    save_file({"more": np.zeros(2, np.float32)}, base / "model-00002-of-00002.safetensors")
    bench.resign(folder)
    refused(verify(folder, "--base", base), "which is no part of the base model")


def test_an_adapter_in_other_layers_is_refused_without_the_base(bench: Bench, verify: Verify, tmp_path: Path) -> None:
    folder = bench.copy(tmp_path / "release")
    tensors = load_file(folder / ADAPTER)
    renamed = {name.replace("layers.0", "layers.6").replace("layers.1", "layers.7"): one
               for name, one in tensors.items()}
    assert set(renamed) != set(tensors)
    save_file(renamed, folder / ADAPTER)
    bench.resign(folder)
    refused(verify(folder), "layers are not numbered from 0 without a gap")
    code, out, _ = verify(bench.made["peft"])
    assert code == 0 and "that the base has these layers" in out.split("this does NOT prove:")[1]


@pytest.mark.parametrize(("key", "value"), [("base_model_name_or_path", "evil/base"), ("revision", "main")])
def test_an_adapter_of_another_base_is_refused(
    bench: Bench, verify: Verify, tmp_path: Path, key: str, value: str
) -> None:
    folder = bench.copy(tmp_path / "release")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, key: value}))
    bench.resign(folder)
    refused(verify(folder), "names another base model than the signed manifest")


@pytest.mark.parametrize("name", [ROSTER_FILE, MANIFEST_FILE, "release.json", "release.sig"])
def test_a_file_without_an_end_is_not_read_before_its_signature(
    bench: Bench, verify: Verify, tmp_path: Path, name: str
) -> None:
    folder = bench.copy(tmp_path / "release")
    os.truncate(folder / name, 500 * 10**6)
    tracemalloc.start()
    try:
        refused(verify(folder), "is damaged: it is longer than")
        assert tracemalloc.get_traced_memory()[1] < 100 * 10**6
    finally:
        tracemalloc.stop()


def test_a_long_roster_to_compare_with_is_refused(bench: Bench, verify: Verify, tmp_path: Path) -> None:
    (tmp_path / "roster").write_bytes(bench.run.roster.to_bytes())
    os.truncate(tmp_path / "roster", 500 * 10**6)
    code, out, error = verify(bench.made["peft"], "--roster", tmp_path / "roster")
    assert (code, out) == (2, "") and "is damaged: it is longer than" in error


def test_a_name_that_does_not_print_and_a_fact_that_stands_twice_are_refused(
    bench: Bench, verify: Verify, tmp_path: Path
) -> None:
    folder = bench.copy(tmp_path / "name")
    (folder / "x\nrelease is good\x1b[2J").write_bytes(b"")
    refused(verify(folder), r"'x\nrelease is good\x1b[2J' is no name of a file")
    folder = bench.copy(tmp_path / "twice")
    text = (folder / "release.json").read_text()
    (folder / "release.json").write_text(text.replace("{", '{"kind": "merged",', 1))
    refused(verify(folder), "cannot be read")
