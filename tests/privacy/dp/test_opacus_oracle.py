"""Opacus as an independent oracle where it is exact: one image a sample, LoRA on attention."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from privacy.dp.clipping import SLACK
from privacy.dp.engine import PatientGradients


def test_per_sample_gradients_agree_with_opacus(tiny):
    pytest.importorskip("opacus")
    from opacus import GradSampleModule

    cohort = tiny.make_cohort([[1]] * 5, [9, 4, 13])
    model = tiny.build_llava(targets=r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj)")
    named = tiny.trainable(model)
    wrapped = GradSampleModule(model, strict=False, loss_reduction="sum")
    tiny.forward(wrapped, cohort.samples).sum().backward()
    oracle = torch.cat([p.grad_sample.flatten(1) for _, p in named], dim=1)
    wrapped.remove_hooks()
    for _, parameter in named:
        del parameter.grad_sample
        parameter.grad = None
    bound = float(oracle.norm(dim=1).median())
    engine = PatientGradients(model, named, clip_norm=bound)
    tiny.run_microbatch(model, engine, cohort.samples)
    engine.collect()
    expected = tiny.clip(oracle, bound * (1 - SLACK)).sum(0).numpy()
    assert np.abs(expected).max() > 1e-3
    assert np.abs(engine.finish().vector - expected).max() < 1e-10
