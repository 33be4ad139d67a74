"""Opacus' hooks as a second engine: the same clipped sum as ours, and a named refusal for what it cannot do."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("opacus")

from privacy.dp.coverage import UncoveredParameterError
from privacy.dp.engine import PatientGradients
from privacy.dp.opacus_engine import OpacusGradients, OpacusUnsupportedError
from privacy.dp.refusals import (
    AdapterDropoutError,
    BatchCoupledLayerError,
    LengthCoupledRopeError,
    MissingGradientError,
    RouterLossError,
)

# Patients with one sample, with several samples, and with several tiles in a sample.
COHORTS = {
    "one image a sample": [[1], [1], [1], [1]],
    "several samples": [[1, 1], [1], [1, 1, 1]],
    "no, one and two images": [[0], [2, 0], [1, 2]],
    "text only": [[0, 0], [0]],
}


def clipped(kind, tiny, model, cohort, bound: float, batches: list[list[int]], **options) -> np.ndarray:
    engine = kind(model, tiny.trainable(model), clip_norm=bound, num_lanes=1, lane_bound=bound / 10, **options)
    for patients in batches:
        order = tiny.run_microbatch(model, engine, cohort.of(patients))
        engine.collect(torch.tensor([[bound / 10 * patient] for patient in order], dtype=torch.float64))
    vector = engine.finish().vector
    engine.detach()
    return vector


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-7), (torch.float32, 1e-5)], ids=["fp64", "fp32"])
@pytest.mark.parametrize("name", COHORTS)
def test_both_engines_give_one_clipped_sum(tiny, name, dtype, tolerance):
    cohort = tiny.make_cohort(COHORTS[name], [9, 4, 13])
    model = tiny.build_llava(dtype).eval()
    everybody = list(range(len(COHORTS[name])))
    for options in ({}, {"clipping": "auto-s"}, {"bit_weight": 0.02}):
        ours = clipped(PatientGradients, tiny, model, cohort, 0.05, [everybody], **options)
        theirs = clipped(OpacusGradients, tiny, model, cohort, 0.05, [everybody[:1], everybody[1:]], **options)
        assert np.abs(ours).max() > 1e-3
        assert np.abs(ours - theirs).max() <= tolerance * np.abs(ours).max()


def test_a_patient_over_two_micro_batches_is_clipped_once(tiny):
    cohort = tiny.make_cohort([[1, 0], [1]], [9, 4, 13])
    model = tiny.build_llava().eval()
    ours = clipped(PatientGradients, tiny, model, cohort, 0.05, [[0, 1]])
    engine = OpacusGradients(model, tiny.trainable(model), clip_norm=0.05, num_lanes=1, lane_bound=0.005)
    for sample, done in zip(cohort.samples, (False, True, True), strict=True):
        tiny.run_microbatch(model, engine, [sample])
        engine.collect(torch.tensor([[0.005 * sample.patient]]), complete=torch.tensor([done]))
    assert np.abs(engine.finish().vector - ours).max() <= 1e-7 * np.abs(ours).max()


def test_the_model_comes_back_as_it_was(tiny):
    cohort = tiny.make_cohort([[1], [1]], [9])
    model = tiny.build_llava().eval()
    before = {name: module.training for name, module in model.named_modules()}
    truth = tiny.loop_gradients(model, cohort)
    for _ in range(2):  # a second engine on the same model works like the first
        clipped(OpacusGradients, tiny, model, cohort, 0.05, [[0, 1]])
        assert {name: module.training for name, module in model.named_modules()} == before
    assert torch.equal(tiny.loop_gradients(model, cohort), truth)
    assert not any(hasattr(parameter, "grad_sample") for _, parameter in tiny.trainable(model))


def test_an_error_in_a_batch_leaves_nothing_behind(tiny):
    cohort = tiny.make_cohort([[1], [1]], [9])
    model = tiny.build_llava().eval()
    expected = clipped(OpacusGradients, tiny, model, cohort, 0.05, [[0, 1]])
    engine = OpacusGradients(model, tiny.trainable(model), clip_norm=0.05, num_lanes=1, lane_bound=0.005)
    with pytest.raises(RuntimeError, match="lost"):
        rows, tiles, order = tiny.rows_and_tiles(cohort.samples)
        with engine.microbatch(text_patients=rows, image_patients=tiles, num_patients=len(order)):
            tiny.forward(model, cohort.samples)
            raise RuntimeError("lost")
    engine.discard()
    tiny.run_microbatch(model, engine, cohort.samples)
    engine.collect(torch.tensor([[0.0], [0.005]], dtype=torch.float64))
    assert np.array_equal(engine.finish().vector, expected)


def test_packed_rows_are_refused(tiny):
    model = tiny.build_llava().eval()
    engine = OpacusGradients(model, tiny.trainable(model), clip_norm=1.0)
    with pytest.raises(OpacusUnsupportedError, match="packed row"), engine.microbatch(
            num_patients=1, image_patients=torch.zeros(0, dtype=torch.int64),
            token_patients=torch.zeros(4, dtype=torch.int64)):
        pass


def test_non_reentrant_checkpointing_is_refused_and_reentrant_is_not(tiny):
    model = tiny.build_llava()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    with pytest.raises(OpacusUnsupportedError, match="non-reentrant"):
        OpacusGradients(model, tiny.trainable(model), clip_norm=1.0)
    model.gradient_checkpointing_enable({"use_reentrant": True})
    OpacusGradients(model, tiny.trainable(model), clip_norm=1.0).detach()


def test_what_has_no_hook_is_refused():
    class ParamWrapper(nn.Module):  # PEFT's class for fused experts has this name
        def __init__(self) -> None:
            super().__init__()
            self.lora_A = nn.Linear(2, 2)

    holder = nn.ModuleDict({"experts": ParamWrapper(), "free": nn.Linear(2, 2, bias=False)})
    named = list(holder.named_parameters())
    with pytest.raises(OpacusUnsupportedError, match="expert adapter experts"):
        OpacusGradients(holder, named, clip_norm=1.0)
    holder["experts"].requires_grad_(False)
    with pytest.raises(UncoveredParameterError, match=r"free\.weight"):
        OpacusGradients(holder, [("second", _other(holder))], clip_norm=1.0)
    norm = nn.LayerNorm(3)
    with pytest.raises(OpacusUnsupportedError, match=r"plain nn\.Linear"):
        OpacusGradients(norm, list(norm.named_parameters()), clip_norm=1.0)


def _other(holder: nn.ModuleDict) -> nn.Parameter:
    """A second linear layer of the model, so that `free` stays unlisted."""
    holder["second"] = nn.Linear(2, 2, bias=False)
    return holder["second"].weight


def test_without_opacus_the_sentence_says_what_to_install(tiny, monkeypatch):
    import sys

    model = tiny.build_llava()
    monkeypatch.setitem(sys.modules, "opacus", SimpleNamespace())
    with pytest.raises(ImportError, match=r"federated-medgpt\[opacus\]"):
        OpacusGradients(model, tiny.trainable(model), clip_norm=1.0)


class Shared(nn.Module):
    """A weight that its module uses and, `extra` times as strongly, somebody else too."""

    def __init__(self, extra: float, dtype: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.extra = nn.Linear(4, 4, bias=False, dtype=dtype), extra

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.a(x)
        return y if not self.extra else y + self.extra * nn.functional.linear(x.flip(1), self.a.weight)


def one_step(model: Shared, x: torch.Tensor) -> OpacusGradients:
    engine = OpacusGradients(model, [("a.weight", model.a.weight)], clip_norm=1.0)
    rows = torch.arange(len(x))
    none = torch.zeros(0, dtype=torch.int64)
    with engine.microbatch(num_patients=len(x), image_patients=none, text_patients=rows):
        model(x).square().sum().backward()
    engine.collect()
    return engine


@pytest.mark.parametrize(("dtype", "extra"), [(torch.float64, 1e-6), (torch.float32, 0.01)])
def test_a_weight_used_a_second_time_outside_its_module_is_an_error(dtype, extra):
    x = torch.randn(5, 4, dtype=dtype)
    assert one_step(Shared(0.0, dtype), x).finish().num_patients_local == 5
    with pytest.raises(MissingGradientError, match="not all of its gradient"):
        one_step(Shared(extra, dtype), x)


def test_a_patient_that_is_not_finite_is_no_second_use():
    x = torch.randn(3, 4, dtype=torch.float64)
    x[1] = float("inf")
    assert one_step(Shared(0.0, x.dtype), x).finish().num_nonfinite_local == 1


def test_a_weight_without_rows_but_with_a_gradient_is_an_error():
    model = Shared(0.0, torch.float64)
    engine = OpacusGradients(model, [("vision_tower.a", model.a.weight)], clip_norm=1.0)
    none = torch.zeros(0, dtype=torch.int64)
    with engine.microbatch(num_patients=1, image_patients=none, text_patients=torch.zeros(1, dtype=torch.int64)):
        nn.functional.linear(torch.ones(1, 4, dtype=torch.float64), model.a.weight).sum().backward()
    with pytest.raises(MissingGradientError, match="without rows"):
        engine.collect()


@pytest.mark.parametrize("case", ["batch", "dropout", "rope", "router", "router later"])
def test_what_couples_patients_is_refused_as_by_our_engine(tiny, case):
    model = tiny.build_llava().eval()
    config = model.base_model.model.config.text_config
    if case == "batch":
        model.add_module("extra", nn.BatchNorm1d(2, affine=False))
        error = BatchCoupledLayerError
    elif case == "dropout":
        next(m for n, m in model.named_modules() if n.endswith("lora_dropout"))["default"] = nn.Dropout(0.1)
        error = AdapterDropoutError
    elif case == "rope":
        config.rope_parameters = {"rope_type": "dynamic"}
        error = LengthCoupledRopeError
    else:
        config.output_router_logits = case == "router"
        error = RouterLossError
    if case != "router later":
        with pytest.raises(error):
            OpacusGradients(model, tiny.trainable(model), clip_norm=1.0)
        return
    engine = OpacusGradients(model, tiny.trainable(model), clip_norm=1.0)
    config.output_router_logits = True
    with pytest.raises(error):
        tiny.run_microbatch(model, engine, tiny.make_cohort([[1]], [5]).samples)
