"""Packed rows: exact where masks keep the patients apart, refused where they do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from privacy.dp.engine import EngineStateError, PackedNonFiniteError, PatientGradients, UnsegmentedPackingError
from privacy.dp.segments import SegmentCheck

TILES = [[2, 0], [2], [0], [2, 2, 1], [0, 1]]
LENGTHS = [9, 4, 13, 6]
C = 0.5


@pytest.fixture(scope="module")
def cohort(tiny):
    return tiny.make_cohort(TILES, LENGTHS)


@pytest.mark.parametrize("factor", ["AB", "A", "B"])
def test_packed_equals_the_single_patient_loop(tiny, cohort, factor):
    """Attention and projector, several samples and images a patient; then the samples of two patients interleaved."""
    model = tiny.build_llava(factor=factor)
    truth = tiny.exact_sum(model, cohort, C)
    assert np.abs(truth).max() > 1e-3
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=C)
    shuffled = [cohort.samples[i] for i in (4, 0, 7, 2, 5, 3, 8, 1, 6)]
    for samples in (cohort.samples, shuffled):
        tiny.run_packed(model, engine, samples)
        engine.collect()
        result = engine.finish()
        assert np.abs(result.vector - truth).max() < 1e-10
        assert (result.num_patients_local, result.num_nonfinite_local) == (5, 0)


@pytest.mark.parametrize("checkpointing", ["none", "reentrant", "non-reentrant"])
def test_attention_sample_by_sample_equals_the_single_patient_loop(tiny, cohort, monkeypatch, checkpointing):
    """The truth from eager attention; blocks of one sample, so that nothing is attended to as one row."""
    import model.sink_attention as fused

    model = tiny.build_llava()
    truth = tiny.exact_sum(model, cohort, C)
    monkeypatch.setattr(fused, "_SMALL_BLOCK", 1)
    model.get_base_model().set_attn_implementation({"text_config": fused.SINK_ATTENTION})
    model.train()
    if checkpointing != "none":
        reentrant = {"use_reentrant": checkpointing == "reentrant"}
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=reentrant)
        model.enable_input_require_grads()
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=C)
    tiny.run_packed(model, engine, cohort.samples)
    engine.collect()
    assert np.abs(engine.finish().vector - truth).max() < 1e-10
    engine.detach()


def test_lengths_do_not_stand_in_for_a_mask(tiny, cohort):
    """Attention that goes sample by sample is checked like any other: without good masks it is refused."""
    import model.sink_attention as fused

    model = tiny.build_llava()
    model.get_base_model().set_attn_implementation({"text_config": fused.SINK_ATTENTION})
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=C)
    with pytest.raises(UnsegmentedPackingError, match="one patient attend to another"):
        tiny.run_packed(model, engine, cohort.samples, masks=None)


def test_a_patient_spans_packed_and_padded_micro_batches(tiny, cohort):
    model = tiny.build_llava()
    truth = tiny.exact_sum(model, cohort, C)
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=C)
    for start, stop, closed, run in (
        (0, 5, False, tiny.run_packed), (5, 6, False, tiny.run_microbatch), (6, 9, True, tiny.run_packed),
    ):  # fmt: skip
        order = run(model, engine, cohort.samples[start:stop])
        engine.collect(complete=torch.tensor([True] * (len(order) - 1) + [closed]))
    assert np.abs(engine.finish().vector - truth).max() < 1e-10


@pytest.mark.parametrize("reentrant", [True, False])
def test_packed_with_gradient_checkpointing_of_both_kinds(tiny, cohort, reentrant):
    model = tiny.build_llava()
    truth = tiny.exact_sum(model, cohort, C)
    model.train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    if reentrant:
        model.enable_input_require_grads()
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=C)
    tiny.run_packed(model, engine, cohort.samples)
    engine.collect()
    assert np.abs(engine.finish().vector - truth).max() < 1e-10


def test_packed_in_float32_and_under_bfloat16_autocast(tiny, cohort):
    truth = tiny.exact_sum(tiny.build_llava(), cohort, C)
    model = tiny.build_llava(torch.float32)
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=C)
    tiny.run_packed(model, engine, cohort.samples)
    engine.collect()
    assert np.abs(engine.finish().vector - truth).max() < 1e-4
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tiny.run_packed(model, engine, cohort.samples)
    engine.collect()
    rough = engine.finish().vector
    assert 1e-6 < np.linalg.norm(rough - truth) < 0.2 * np.linalg.norm(truth)


@pytest.mark.parametrize("where", ["activation", "lane"])
def test_a_packed_row_that_is_not_finite_is_refused_and_its_patients_done_alone(tiny, cohort, where):
    """0 * NaN passes a mask: patient 1 would wipe its neighbours. Alone, it contributes zero and they their share."""
    model = tiny.build_llava()
    others = cohort.of([0, 2, 3, 4])
    truth = tiny.exact_sum(model, tiny.Cohort(others), C)
    samples = [tiny.Sample(s.patient, s.ids, s.tiles.clone()) for s in cohort.samples]
    lanes = torch.zeros(5, 1, dtype=torch.float64)
    if where == "activation":
        next(s for s in samples if s.patient == 1).tiles[0, 0, 0, 0] = float("nan")
    else:
        lanes[1] = float("nan")
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=C, num_lanes=1, lane_bound=1e-4)
    tiny.run_packed(model, engine, samples)
    with pytest.raises(PackedNonFiniteError, match="redo its patients alone"):
        engine.collect(lanes)
    with pytest.raises(EngineStateError):
        engine.finish()
    engine.discard()
    for patient in range(5):
        tiny.run_packed(model, engine, [s for s in samples if s.patient == patient])
        engine.collect(lanes[patient : patient + 1])
    total = engine.finish()
    assert np.abs(total.vector[:-1] - truth).max() < 1e-6 and np.abs(truth).max() > 1e-3
    assert (total.num_patients_local, total.num_nonfinite_local) == (5, 1)


def leak(monkeypatch):
    """Take the guard away."""
    monkeypatch.setattr(SegmentCheck, "see", lambda *_: None)
    monkeypatch.setattr(SegmentCheck, "require_all", lambda _: None)


def test_positions_alone_are_refused_and_what_they_would_do(tiny, cohort, monkeypatch):
    """The trap: stock GptOss takes the restarting positions and attends across patients all the same."""
    model = tiny.build_llava()
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=C)
    with pytest.raises(UnsegmentedPackingError, match="block-diagonal"):
        tiny.run_packed(model, engine, cohort.samples, masks=None)
    with pytest.raises(EngineStateError):
        engine.finish()
    engine.discard()

    leak(monkeypatch)
    first, rest = cohort.of([0]), cohort.of([1, 2, 3, 4])
    # Everybody but patient 0 has a small gradient of its own; with it in front, they all see its tokens.
    weights = torch.full((len(cohort.samples),), 1e3, dtype=torch.float64)

    def total(samples):
        tiny.run_packed(model, engine, samples, weights[: len(samples)], masks=None)
        engine.collect()
        return engine.finish().vector

    reach = np.linalg.norm(total(first + rest) - total(rest)) / C
    assert reach > 1.5  # one patient moves the sum by far more than C


@pytest.mark.parametrize("case", ["mask", "window", "nan", "integer", "boolean", "shape", "row", "positions"])
def test_every_other_way_to_miss_the_segments_is_refused(tiny, cohort, case):
    from model.packing import segment_masks

    model = tiny.build_llava()
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=C)
    samples = tiny.make_cohort([[0], [0]], [5, 7]).samples
    owners = torch.tensor([0] * 5 + [1] * 7)
    masks = segment_masks(owners, 8)
    full = masks["full_attention"]
    if case == "mask":
        full[0, 0, 11, 0] = 0  # one entry is enough
    elif case == "window":
        masks["sliding_attention"] = segment_masks(torch.zeros(12), 8)["sliding_attention"]
    elif case == "nan":
        full[0, 0, 11, 0] = float("nan")
    elif case == "integer":
        masks["full_attention"] = full.clamp(min=-(2**20)).int()
    elif case == "boolean":
        masks["full_attention"] = full == 0  # eager attention would add it: no mask at all
    elif case == "shape":
        masks["full_attention"] = full[..., :1]
    elif case == "row":
        full[0, 0, 11] = full.min()  # a token that sees nothing spreads over everything
    lengths = torch.tensor([5, 7])
    positions = torch.arange(12) if case == "positions" else torch.cat([torch.arange(5), torch.arange(7)])
    with (
        pytest.raises(UnsegmentedPackingError),
        engine.microbatch(
            token_patients=torch.repeat_interleave(torch.arange(2), lengths),
            image_patients=torch.zeros(0, dtype=torch.int64),
            num_patients=2,
        ),
    ):
        ids = torch.cat([sample.ids for sample in samples])[None]
        model(input_ids=ids, attention_mask=masks, position_ids=positions[None], use_cache=False)


@pytest.mark.parametrize("name", ["deaf", "flash_attention_2", None])
def test_an_attention_that_may_ignore_its_mask_is_refused_by_name(tiny, name):
    """`deaf` gets the right masks and does not look at them: only its name gives it away."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, eager_mask
    from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward

    def deaf(module, query, key, value, attention_mask, **more):
        return eager_attention_forward(module, query, key, value, None, **more)

    AttentionInterface.register("deaf", deaf)
    AttentionMaskInterface.register("deaf", eager_mask)
    model = tiny.build_llava()
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=C)
    model.base_model.model.config.text_config._attn_implementation_internal = name
    samples = tiny.make_cohort([[0], [0]], [5, 7]).samples
    with pytest.raises(UnsegmentedPackingError, match=f"runs the attention {name!r}"):
        tiny.run_packed(model, engine, samples)


@pytest.mark.parametrize("name", ["eager", "fused_sinks"])
def test_attention_that_applies_its_mask_is_exact(tiny, cohort, name):
    import model.sink_attention  # noqa: F401  registers the fused attention

    llava = tiny.build_llava()
    truth = tiny.exact_sum(llava, cohort, C)
    llava.base_model.model.set_attn_implementation({"text_config": name})
    engine = PatientGradients(llava, tiny.trainable(llava), clip_norm=C)
    tiny.run_packed(llava, engine, cohort.samples)
    engine.collect()
    assert np.abs(engine.finish().vector - truth).max() < 1e-10


@pytest.mark.parametrize("lengths", [(5, 7), (5, 3, 4), (12,), (6, 6), (5, 6), (5, 7, 1), [5, 7], (0, 5, 7)], ids=str)
def test_lengths_that_join_two_patients_are_refused(tiny, lengths):
    """The lengths that reach the attention are those that were looked at: a tuple that cuts between patients."""
    from model.packing import segment_masks
    from model.sink_attention import SINK_ATTENTION

    model = tiny.build_llava()
    model.base_model.model.set_attn_implementation({"text_config": SINK_ATTENTION})
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=C)
    owners = torch.tensor([0] * 5 + [1] * 7)
    ids = torch.cat([sample.ids for sample in tiny.make_cohort([[0], [0]], [5, 7]).samples])[None]
    positions = torch.cat([torch.arange(5), torch.arange(7)])[None]
    none = torch.zeros(0, dtype=torch.int64)

    def forward():
        with engine.microbatch(token_patients=owners, image_patients=none, num_patients=2):
            model(input_ids=ids, attention_mask=segment_masks(owners, 8), position_ids=positions, use_cache=False,
                  packed_lengths=lengths)  # fmt: skip

    if lengths in [(5, 7), (5, 3, 4)]:
        forward()
    else:
        with pytest.raises(UnsegmentedPackingError, match="packed_lengths"):
            forward()


def test_a_packed_model_whose_attention_is_not_seen_is_refused():
    """No module to check, one that mixes tokens otherwise, and one that did not run: each fails closed."""

    class Plain(nn.Module):
        def __init__(self, *extra):
            super().__init__()
            self.a, self.extra = nn.Linear(6, 3), nn.ModuleList(extra)
            self.a.bias.requires_grad_(False)

        def forward(self, x):
            return self.a(x)

    class ToyAttention(nn.Module):
        pass

    def step(model):
        engine = PatientGradients(model, [("a.weight", model.a.weight)], clip_norm=C)
        maps = {"token_patients": torch.tensor([0, 0, 1]), "image_patients": torch.zeros(0, dtype=torch.int64)}
        with engine.microbatch(num_patients=2, **maps):
            model(torch.randn(1, 3, 6)).sum().backward()
        engine.collect()

    with pytest.raises(UnsegmentedPackingError, match="no attention module"):
        step(Plain())
    with pytest.raises(UnsegmentedPackingError, match="did not run"):
        step(Plain(ToyAttention()))
    with pytest.raises(UnsegmentedPackingError, match="mixes neighbouring tokens"):
        step(Plain(nn.Conv1d(6, 6, 3).requires_grad_(False)))


def test_wrong_token_maps_are_refused(tiny, cohort):
    model = tiny.build_llava()
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=C)
    tiles = torch.zeros(0, dtype=torch.int64)
    for maps, message in (
        ({}, "not both"),
        ({"text_patients": tiles, "token_patients": tiles}, "not both"),
        ({"token_patients": torch.tensor([0, 0, 2])}, "outside"),
        ({"token_patients": torch.tensor([0, 0])}, "without gaps"),
        ({"token_patients": torch.tensor([[0, 1]])}, "one-dimensional"),
    ):
        with (
            pytest.raises(ValueError, match=message),
            engine.microbatch(image_patients=tiles, num_patients=2, **maps),
        ):
            pass
    samples = tiny.make_cohort([[0], [0]], [5, 7]).samples
    with (
        pytest.raises(UnsegmentedPackingError, match="another shape"),
        engine.microbatch(token_patients=torch.tensor([0, 1]), image_patients=tiles, num_patients=2),
    ):
        tiny.packed_forward(model, samples)
