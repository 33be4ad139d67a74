"""A run becomes a release, whole or not at all: an adapter that PEFT loads, or merged weights, and a card."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peft import PeftModel

import coordinator.cli
from coordinator.home import Home
from coordinator.manifest import planned_events
from model.adapter import AdapterLayout
from model.backbone import hash_model, load_base
from model.spec import target_regex
from privacy.dp.accounting import epsilon
from privacy.roster_facts import fingerprint
from tests.coordinator.finished_run import MICRO, FinishedRun, make_base, make_home, make_run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def run(place: Path) -> FinishedRun:
    return make_run(place, make_home(place), make_base(place / "base"))


def export(run: FinishedRun, out: Path, *more: str) -> int:
    return coordinator.cli.main(["export", str(run.home), run.run_id, str(out), *more])


def facts_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "release.json").read_text()))


def test_peft_loads_exactly_the_attested_average(
    run: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(run, tmp_path / "new" / "out") == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"adapter after round 2 of run first is in {tmp_path / 'new' / 'out'}\n")
    assert fingerprint(Home.open(run.home).key().public_bytes()) in printed
    out = tmp_path / "new" / "out"
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors", "provenance/manifest.signed",
        "provenance/roster.signed", "provenance/state.safetensors", "release.json", "release.sig", "rounds.json"]
    loaded = PeftModel.from_pretrained(load_base(run.base).model, str(out))
    state = run.state()
    assert AdapterLayout(loaded).read(loaded).astype(np.float32).tobytes() == state.average.astype("<f4").tobytes()
    assert not np.array_equal(state.average.astype(np.float32), state.adapter)
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["target_modules"] == target_regex(("attention",)) and config["r"] == 4
    assert config["base_model_name_or_path"] == hash_model(run.base).hex()
    assert {path.stat().st_mode & 0o777 for path in out.rglob("*") if path.is_file()} == {0o644}
    assert not [path for path in out.parent.iterdir() if path != out]


def test_release_json_and_the_card_say_what_the_manifest_gives(run: FinishedRun, tmp_path: Path) -> None:
    assert export(run, tmp_path / "out") == 0
    facts, card = facts_of(tmp_path / "out"), (tmp_path / "out" / "README.md").read_text()
    manifest = run.manifest
    worst = max(epsilon(planned_events(manifest), terms.delta) for terms in manifest.sites)
    assert facts["privacy"]["epsilon"] == worst and 1.9 < worst <= 2.0
    assert [one["site_id"] for one in facts["privacy"]["sites"]] == ["site-1", "site-2", "site-3"]
    assert facts["manifest_hash"] == manifest.hash().hex() and facts["roster_hash"] == manifest.roster_hash.hex()
    assert (facts["stage_rounds"], facts["attestation"]["needed"]) == ([2], 3)
    assert facts["attestation"]["attested_by"] == ["site-1", "site-2", "site-3"]
    assert facts["licence"]["id"] == "CC-BY-NC-4.0" and facts["audit"]["audited"] is False
    for words in ("license: cc-by-nc-4.0", "no clinical decisions", "no re-identification", "no commercial use",
                  "NIST SP 800-226", "add or remove one patient", hash_model(run.base).hex(), "2 of 4",
                  "dp-accounting", "at several sites", "Privacy audit: not audited", "Local model",
                  fingerprint(bytes.fromhex(facts["coordinator_key"])), "--max-lora-rank 8", "signed by 3 sites"):
        assert words in card, words
    assert "tags: [federated-medgpt," in card and "the base model's own licence" in card  # this base is not MedGPT-oss
    stated = float(card.split("**epsilon ")[1].split(" ")[0])
    assert worst <= stated < worst + 0.001


def test_merged_is_a_base_model_folder_with_its_provenance(run: FinishedRun, tmp_path: Path) -> None:
    assert export(run, tmp_path / "out", "--format", "merged") == 0
    merged, base = load_base(tmp_path / "out"), load_base(run.base)
    assert merged.spec == base.spec
    before, after = base.model.state_dict(), merged.model.state_dict()
    changed = {name.rsplit(".", 2)[-2] for name in before if not before[name].equal(after[name])}
    assert changed == {"q_proj", "k_proj", "v_proj", "o_proj"}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "library_name: transformers" in card and "LlavaForConditionalGeneration.from_pretrained" in card
    assert {"config.json", "spec.json", "tokenizer.json", "model.safetensors", "provenance/state.safetensors",
            "provenance/manifest.signed"} < set(facts_of(tmp_path / "out")["files"])


def test_a_projector_is_named_as_what_vllm_leaves_out(run: FinishedRun, place: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path, run.home, run.base, "projector", groups=("attention", "projector"))
    assert export(other, tmp_path / "out") == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "vLLM: not for this adapter" in card and "leaves out: projector" in card


@pytest.mark.parametrize("kind", ["peft", "merged"])
def test_whole_or_not_at_all(
    run: FinishedRun, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("coordinator.export_run.sign_release", full)
    assert export(run, tmp_path / "out", "--format", kind) == 2
    assert capsys.readouterr().err == "coordinator: No space left on device\n" and not list(tmp_path.iterdir())


def test_an_existing_folder_is_refused(
    run: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("out", "link"):
        assert export(run, tmp_path / name) == 2
        assert f"{tmp_path / name} exists; choose a new folder" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


def test_what_cannot_be_exported_is_one_sentence(
    run: FinishedRun, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(words: str, target: FinishedRun = run, *more: str) -> None:
        capsys.readouterr()
        assert export(target, tmp_path / "out", *more) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1 and not (tmp_path / "out").exists()

    refused("there is no run other; known runs: ", replace(run, run_id="other"))
    none = make_run(tmp_path, run.home, run.base, "early", rounds=0)
    refused("no finished round yet", none)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10**6})())
    refused("make room, or export elsewhere", run, "--format", "merged")
    other = make_base(tmp_path / "base", replace(MICRO, num_layers=1))
    text = (run.folder / "coordinator.yaml").read_text()
    monkeypatch.setattr("coordinator.export_run.load_config", _with_base(other))
    refused("is not the one that the manifest names; put that one back")
    assert text == (run.folder / "coordinator.yaml").read_text()


def _with_base(base: Path) -> Any:
    from configs.load import load_config

    return lambda kind, path: replace(load_config(kind, path), base_model=str(base))


def test_another_coordinators_key_signs_no_release(run: FinishedRun, tmp_path: Path) -> None:
    from coordinator.export_run import export_run
    from tests.privacy.invited import key_of

    with pytest.raises(ValueError, match="nobody could check the release"):
        export_run(run.folder, tmp_path / "out", key_of("site-1"))
    with pytest.raises(ValueError, match="there is no format gguf"):
        export_run(run.folder, tmp_path / "out", Home.open(run.home).key(), "gguf")


def test_an_audit_of_something_else_is_named_as_no_audit(run: FinishedRun, tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text("{}")
    assert export(run, tmp_path / "out", "--audit", str(tmp_path / "audit.json")) == 0
    text = "not audited: audit.json is not an audit file that can be read"
    assert facts_of(tmp_path / "out")["audit"] == {"audited": False, "text": text}
    assert f"- Privacy audit: {text}" in (tmp_path / "out" / "README.md").read_text()


def test_a_state_that_too_few_sites_signed_is_exported_and_called_so(
    run: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = make_run(tmp_path, run.home, run.base, "few", attesting=("site-1", "site-2"))
    assert export(few, tmp_path / "out") == 0
    assert "NOT attested: 2 sites signed this state and 3 are needed" in capsys.readouterr().out
    assert "NOT attested" in (tmp_path / "out" / "README.md").read_text()
    assert coordinator.cli.main(["verify-release", str(tmp_path / "out")]) == 1
    assert "E_ATTEST" in capsys.readouterr().err
