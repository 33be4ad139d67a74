"""What is computed from the frozen layers' kept outputs is what all layers compute: losses, clipped sums, answers."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.adapted import AdaptedModel, adapted_from
from model.backbone import BaseModel, build
from model.frozen_prefix import FrozenPrefix
from model.inputs import Encoded, Example, collate
from model.loss import answer_losses
from model.spec import LoraSpec
from model.tokenizer import train_tokenizer
from privacy.manifest import SourceShare, StageSpec
from privacy.statistics import LaneScale
from site_client.mechanism import LocalTask, PatientSums
from tests.model.conftest import MICRO
from tests.model.made_gguf import small_llama, write_gguf
from tests.model.test_gguf_file import base_from

TEXTS = [Example(f"Findings: the heart is {word}. Write the impression.", f"{word} heart, the rest is clear")
         for word in ("large", "small and round", "normal in size", "not seen at all here")]
PICTURE = Example("What is in <image> here?", "a wide patch", images=(np.full((32, 64, 3), 9, dtype=np.uint8),))
STAGE = StageSpec(
    name="one", sources=(SourceShare("questions", 2),), groups=("attention",), schedule="both", learning_rate=1.0,
    momentum=0.0, local_steps=1, sampling_rate=1.0, noise_multiplier=1.0, max_rounds=1)


@pytest.fixture(params=["gpt-oss", "llama"])
def adapted(request: pytest.FixtureRequest, tmp_path: Path) -> AdaptedModel:
    """The last two of three layers adapted, with factors that are not zero."""
    if request.param == "llama":
        base = base_from(write_gguf(tmp_path / "a.gguf", small_llama()), tmp_path / "base", layers=2)
    else:
        spec = replace(MICRO, num_layers=3, adapted_layers=2)  # sliding, full, sliding
        tokenizer = train_tokenizer([one.question + one.answer for one in TEXTS], spec.vocab_size)
        base = BaseModel(build(spec, seed=3), tokenizer, spec, bytes(32))
    made = adapted_from(base, LoraSpec(rank=4, alpha=8, groups=("attention",)))
    made.write(0.2 * np.random.default_rng(0).standard_normal(made.layout.size))
    return made


def clipped(adapted: AdaptedModel, samples: list[Encoded], private: bool) -> np.ndarray:
    """The sum over patients of two samples each, clipped: what the DP engine makes of them."""
    task = LocalTask(stage=STAGE, clip_norm=0.05, private=private, lanes=LaneScale(0.001, 1.0), lane_bound=0.005,
                     expected_patients=2.0)
    sums = PatientSums(adapted, adapted.layout.select(["attention"]), task)
    try:
        return sums.clipped_sum([samples[:2], samples[2:]]).vector
    finally:
        sums.close()


@pytest.mark.parametrize("private", [True, False])
def test_losses_and_clipped_sums_are_those_of_all_layers(adapted: AdaptedModel, private: bool) -> None:
    plain = adapted.encode(TEXTS)
    kept = FrozenPrefix(adapted.model, bytes(32), dtype="float32").attach(plain)
    assert collate(kept).states is not None
    ours, all_layers = answer_losses(adapted.model, collate(kept)), answer_losses(adapted.model, collate(plain))
    assert torch.allclose(ours.loss, all_layers.loss, atol=1e-5)
    whole = clipped(adapted, plain, private)
    assert np.linalg.norm(whole) > 0.02
    assert np.allclose(clipped(adapted, kept, private), whole, rtol=0, atol=1e-6)
    half = FrozenPrefix(adapted.model, bytes(32)).attach(plain)
    difference = np.linalg.norm(clipped(adapted, half, private) - whole) / np.linalg.norm(whole)
    assert 1e-7 < difference < 5e-3


def test_the_layers_below_are_not_run_and_adapters_lie_above(
    adapted: AdaptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = FrozenPrefix(adapted.model, bytes(32)).attach(adapted.encode(TEXTS))
    expected = answer_losses(adapted.model, collate(kept)).loss
    below = adapted.model.get_base_model().model.language_model.layers[0]
    monkeypatch.setattr(below, "forward", lambda *_, **__: pytest.fail("a frozen layer was run"))
    assert torch.equal(answer_losses(adapted.model, collate(kept)).loss, expected)
    assert {entry.name.split("layers.")[1][0] for entry in adapted.layout.entries} == {"1", "2"}


def test_a_sample_with_a_picture_keeps_to_all_layers(adapted: AdaptedModel) -> None:
    samples = adapted.encode([TEXTS[0], PICTURE])
    mixed = FrozenPrefix(adapted.model, bytes(32)).attach(samples)
    assert [sample.frozen is None for sample in mixed] == [False, True]
    assert collate(mixed).states is None
    assert torch.equal(
        answer_losses(adapted.model, collate(mixed)).loss, answer_losses(adapted.model, collate(samples)).loss)


def test_entries_on_disk_are_private_checked_and_forgotten(adapted: AdaptedModel, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    prefix = FrozenPrefix(adapted.model, bytes(32), folder)
    kept = prefix.attach(adapted.encode(TEXTS))
    first = kept[0].frozen.read()
    assert torch.equal(kept[0].frozen.read(), first)
    assert all(prefix.make(sample.input_ids) for sample in kept[1:]) and not prefix.make(kept[0].input_ids)
    files = sorted(folder.glob("??/*.npy"))
    assert len(files) == len(TEXTS)
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.iterdir()]} == {0o700}
    own = folder / kept[0].frozen.name[:2] / f"{kept[0].frozen.name}.npy"
    own.write_bytes(own.read_bytes()[:-5])
    assert torch.equal(kept[0].frozen.read(), first)  # computed again
    np.save(own, np.zeros((3, 3), dtype=np.float16))
    assert torch.equal(kept[0].frozen.read(), first)
    assert prefix.keep_only({kept[0].frozen.name}) == len(TEXTS) - 1
    assert list(folder.glob("??/*")) == [own]


def test_a_full_volume_changes_no_samples_numbers(adapted: AdaptedModel, tmp_path: Path) -> None:
    """Else one patient's entries, by filling it, would take other patients out of the sum."""
    samples = adapted.encode(TEXTS)
    (tmp_path / "full").touch()
    unkept = FrozenPrefix(adapted.model, bytes(32), tmp_path / "full" / "kept")  # nothing can be written there
    there = clipped(adapted, FrozenPrefix(adapted.model, bytes(32), tmp_path / "kept").attach(samples), True)
    assert np.linalg.norm(there) > 0.02
    assert np.array_equal(clipped(adapted, unkept.attach(samples), True), there)


@pytest.mark.parametrize("fault", [RuntimeError, OSError, MemoryError, IndexError])
def test_a_failing_sample_ends_no_round(
    adapted: AdaptedModel, fault: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> torch.Tensor:
        raise fault

    monkeypatch.setattr("model.frozen_prefix.frozen_outputs", fail)
    prefix = FrozenPrefix(adapted.model, bytes(32))
    sample = adapted.encode(TEXTS)[0]
    assert prefix.make(sample.input_ids)
    with pytest.raises(fault):  # alone, when it is drawn: that patient contributes zero
        prefix.states(sample.input_ids)


def test_another_base_layer_type_or_text_is_another_entry(adapted: AdaptedModel) -> None:
    ids = adapted.encode(TEXTS)[0].input_ids
    names = {FrozenPrefix(adapted.model, bytes(32)).name(ids), FrozenPrefix(adapted.model, bytes([1] * 32)).name(ids),
             FrozenPrefix(adapted.model, bytes(32), dtype="float32").name(ids),
             FrozenPrefix(adapted.model, bytes(32)).name(ids[:-1])}
    assert len(names) == 4


def test_a_base_without_frozen_layers_has_nothing_to_keep(base: BaseModel) -> None:
    with pytest.raises(ValueError, match="no layer of this base is frozen"):
        FrozenPrefix(base.model, bytes(32))


def test_experts_of_some_layers_are_refused() -> None:
    spec = replace(MICRO, num_layers=3, adapted_layers=1)
    base = BaseModel(build(spec, seed=3), train_tokenizer(["x"], spec.vocab_size), spec, bytes(32))
    with pytest.raises(ValueError, match="no experts"):
        adapted_from(base, LoraSpec(groups=("attention", "experts")))
