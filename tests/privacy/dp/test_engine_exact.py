"""The engine equals a loop over single patients, to float64 accuracy, in every batch layout."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from privacy.dp.engine import PatientGradients

# Patients with one or several samples, with none, one or two images a sample; ragged lengths.
TILES = [[2, 0], [2], [0], [2, 2, 1], [0, 1]]
LENGTHS = [9, 4, 13, 6]


@pytest.fixture(scope="module")
def cohort(tiny):
    return tiny.make_cohort(TILES, LENGTHS)


@pytest.mark.parametrize("factor", ["AB", "A", "B"])
@pytest.mark.parametrize("clip_norm", [1e6, 0.5])
def test_several_samples_and_two_images_a_patient(tiny, cohort, factor, clip_norm):
    model = tiny.build_llava(factor=factor)
    truth = tiny.exact_sum(model, cohort, clip_norm)
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=clip_norm)
    tiny.run_microbatch(model, engine, cohort.samples)
    engine.collect()
    result = engine.finish()
    assert np.abs(truth).max() > 1e-3
    assert np.abs(result.vector - truth).max() < 1e-10
    assert (result.num_patients_local, result.num_nonfinite_local) == (5, 0)


def test_a_patient_spans_three_micro_batches(tiny, cohort):
    model = tiny.build_llava()
    truth = tiny.exact_sum(model, cohort, 0.5)
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=0.5)
    samples = cohort.samples
    # Patient 3 has samples 4, 5, 6: one with patients 0-2, one alone, one with patient 4.
    for start, stop, closed in ((0, 5, False), (5, 6, False), (6, 9, True)):
        order = tiny.run_microbatch(model, engine, samples[start:stop])
        complete = torch.ones(len(order), dtype=torch.bool)
        complete[-1] = closed
        engine.collect(complete=complete)
    result = engine.finish()
    assert np.abs(result.vector - truth).max() < 1e-10
    assert result.num_patients_local == 5


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_of_both_kinds(tiny, cohort, reentrant):
    model = tiny.build_llava()
    truth = tiny.exact_sum(model, cohort, 0.5)
    model.train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    if reentrant:
        model.enable_input_require_grads()
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=0.5)
    tiny.run_microbatch(model, engine, cohort.samples)
    engine.collect()
    assert np.abs(engine.finish().vector - truth).max() < 1e-10


def test_text_only_micro_batch_leaves_the_projector_at_zero(tiny):
    cohort = tiny.make_cohort([[0], [0, 0]], LENGTHS)
    model = tiny.build_llava()
    truth = tiny.exact_sum(model, cohort, 1.0)
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=1.0)
    # First a micro-batch with images, so that its buffer holds old numbers in the projector's columns.
    tiny.run_microbatch(model, engine, tiny.make_cohort([[1], [1]], LENGTHS).samples)
    engine.collect()
    engine.finish()
    tiny.run_microbatch(model, engine, cohort.samples)
    engine.collect()
    assert np.abs(engine.finish().vector - truth).max() < 1e-10


def test_two_backward_passes_in_a_micro_batch_add_up(tiny, cohort):
    model = tiny.build_llava()
    truth = tiny.exact_sum(model, cohort, 0.5)
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=0.5)
    rows, tiles, order = tiny.rows_and_tiles(cohort.samples)
    with engine.microbatch(text_patients=rows, image_patients=tiles, num_patients=len(order)):
        losses = tiny.forward(model, cohort.samples)
        losses[:4].sum().backward(retain_graph=True)
        losses[4:].sum().backward()
    engine.collect()
    assert np.abs(engine.finish().vector - truth).max() < 1e-10


def test_float32_and_bfloat16_autocast_stay_close_and_within_the_bound(tiny, cohort):
    truth = tiny.exact_sum(tiny.build_llava(), cohort, 0.5)
    model = tiny.build_llava(torch.float32)
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=0.5)
    tiny.run_microbatch(model, engine, cohort.samples)
    engine.collect()
    assert np.abs(engine.finish().vector - truth).max() < 1e-4
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tiny.run_microbatch(model, engine, cohort.samples)
    engine.collect()
    rough = engine.finish().vector
    assert 1e-6 < np.linalg.norm(rough - truth) < 0.2 * np.linalg.norm(truth)


def test_the_model_is_its_own_again_after_detach(tiny, cohort):
    model = tiny.build_llava()
    before = tiny.loop_gradients(model, cohort)
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=1.0)
    tiny.run_microbatch(model, engine, cohort.samples)
    engine.detach()
    assert torch.equal(tiny.loop_gradients(model, cohort), before)
    PatientGradients(model, tiny.trainable(model), clip_norm=1.0)
