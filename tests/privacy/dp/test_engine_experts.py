"""LoRA on experts: PEFT's forward and the single-patient loop, to float64 accuracy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from privacy.dp.engine import PatientGradients

TILES = [[2, 0], [2], [0], [2, 2, 1], [0, 1]]
LENGTHS = [9, 4, 13, 6]
C = 0.5


@pytest.fixture(scope="module")
def cohort(tiny):
    return tiny.make_cohort(TILES, LENGTHS)


@pytest.mark.parametrize("which", [(0, 1), (0,), (1,)])
def test_the_factored_forward_is_that_of_peft(tiny, cohort, which):
    model = tiny.build_llava(targets=[], experts=tuple(tiny.EXPERTS[i] for i in which))
    rows, tiles, order = tiny.rows_and_tiles(cohort.samples)
    outer = model.base_model.model.model.language_model.layers[0].mlp.experts
    with torch.no_grad():
        stock = tiny.forward(model, cohort.samples)
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=C)
    assert "forward" in outer.__dict__
    with engine.microbatch(text_patients=rows, image_patients=tiles, num_patients=len(order)):
        ours = tiny.forward(model, cohort.samples)
    assert float((ours.detach() - stock).abs().max()) < 1e-12
    with torch.no_grad():  # outside a micro-batch the model is stock
        assert torch.equal(tiny.forward(model, cohort.samples), stock)
    engine.detach()
    assert "forward" not in outer.__dict__
    with torch.no_grad(), model.disable_adapter():
        assert float((tiny.forward(model, cohort.samples) - stock).abs().max()) > 1e-4


@pytest.mark.parametrize(
    ("which", "factor", "attention"),
    [((0, 1), "AB", True), ((0, 1), "A", False), ((0, 1), "B", False), ((0,), "AB", False), ((1,), "AB", False)],
)
def test_experts_equal_the_single_patient_loop_padded_and_packed(tiny, cohort, which, factor, attention):
    """Tokens of all patients meet in every expert; projections adapted alone and together, one factor frozen."""
    targets = tiny.TARGETS if attention else []
    model = tiny.build_llava(targets=targets, factor=factor, experts=tuple(tiny.EXPERTS[i] for i in which))
    truth = tiny.exact_sum(model, cohort, C)
    assert np.abs(truth).max() > 1e-3
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=C)
    shuffled = [cohort.samples[i] for i in (4, 0, 7, 2, 5, 3, 8, 1, 6)]
    for run, samples in ((tiny.run_microbatch, cohort.samples), (tiny.run_packed, cohort.samples),
                         (tiny.run_packed, shuffled)):  # fmt: skip
        run(model, engine, samples)
        engine.collect()
        result = engine.finish()
        assert np.abs(result.vector - truth).max() < 1e-10
        assert result.num_patients_local == 5


def test_a_patient_spans_micro_batches(tiny, cohort):
    model = tiny.build_llava(targets=[], experts=tiny.EXPERTS)
    truth = tiny.exact_sum(model, cohort, C)
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=C)
    for start, stop, closed in ((0, 5, False), (5, 6, False), (6, 9, True)):
        order = tiny.run_microbatch(model, engine, cohort.samples[start:stop])
        engine.collect(complete=torch.tensor([True] * (len(order) - 1) + [closed]))
    assert np.abs(engine.finish().vector - truth).max() < 1e-10


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_of_both_kinds(tiny, cohort, reentrant):
    model = tiny.build_llava(experts=tiny.EXPERTS)
    truth = tiny.exact_sum(model, cohort, C)
    model.train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    if reentrant:
        model.enable_input_require_grads()
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=C)
    for run in (tiny.run_microbatch, tiny.run_packed):
        run(model, engine, cohort.samples)
        engine.collect()
        assert np.abs(engine.finish().vector - truth).max() < 1e-10


def test_float32_and_bfloat16_autocast_stay_close(tiny, cohort):
    """float32 within 1e-4 absolute of float64; under autocast to bfloat16 within 20 % in norm."""
    truth = tiny.exact_sum(tiny.build_llava(experts=tiny.EXPERTS), cohort, C)
    model = tiny.build_llava(torch.float32, experts=tiny.EXPERTS)
    model.set_experts_implementation({"text_config": "grouped_mm"})
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=C)
    for run in (tiny.run_microbatch, tiny.run_packed):
        run(model, engine, cohort.samples)
        engine.collect()
        assert np.abs(engine.finish().vector - truth).max() < 1e-4
        with torch.autocast("cpu", dtype=torch.bfloat16):
            run(model, engine, cohort.samples)
        engine.collect()
        rough = engine.finish().vector
        assert 1e-6 < np.linalg.norm(rough - truth) < 0.2 * np.linalg.norm(truth)


def test_tokens_that_are_not_the_micro_batchs_are_refused(tiny, cohort):
    model = tiny.build_llava(targets=[], experts=tiny.EXPERTS)
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=C)
    samples = tiny.make_cohort([[0], [0]], [5]).samples
    outer = model.base_model.model.model.language_model.layers[0].mlp.experts
    hidden, chosen = torch.zeros(7, 32, dtype=torch.float64), torch.zeros(7, 2, dtype=torch.int64)
    none = torch.zeros(0, dtype=torch.int64)
    for shares, message in ((torch.ones(7, 2), "multiple of the 2 text rows"), (torch.ones(7, 4), r"\(N, k\)")):
        with (
            pytest.raises(ValueError, match=message),
            engine.microbatch(text_patients=torch.arange(2), image_patients=none, num_patients=2),
        ):
            outer(hidden, chosen, shares.double())
        engine.discard()
    tiny.run_microbatch(model, engine, samples)
    engine.collect()
