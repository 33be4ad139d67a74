"""What the claim rests on: one patient moves the sum by at most C, and every doubt stops the engine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from privacy.dp.clipping import SLACK
from privacy.dp.engine import (
    EngineStateError,
    MissingGradientError,
    PatientGradients,
    UncoveredParameterError,
)
from privacy.dp.noise import noisy_sum
from privacy.entropy import SystemEntropy

TILES = [[2, 0], [2], [0], [2, 2, 1], [0, 1]]
LENGTHS = [9, 4, 13, 6]
C = 0.3


@pytest.fixture(scope="module")
def cohort(tiny):
    return tiny.make_cohort(TILES, LENGTHS)


class Toy(nn.Module):
    """y = b(a(x)), two trained factors and one number a token."""

    def __init__(self, features: int = 6) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.a = nn.Linear(features, 3, bias=False)
        self.b = nn.Linear(3, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.tanh(self.a(x))).mean(dim=(1, 2))


def toy_engine(model: nn.Module, **options) -> PatientGradients:
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return PatientGradients(model, named, **{"clip_norm": C, **options})


def microbatch(engine: PatientGradients, num_patients: int):
    rows = torch.arange(num_patients)
    return engine.microbatch(text_patients=rows, image_patients=rows[:0], num_patients=num_patients)


def toy_step(engine, model, x, lanes=None):
    with microbatch(engine, len(x)):
        model(x).sum().backward()
    engine.collect(lanes)
    return engine.finish()


def distance(tiny, cohort, weights) -> float:
    """Largest ||S(D) - S(D without p)|| / C over patients p, D run in two micro-batches."""
    model = tiny.build_llava()
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=C)

    def total(patients):
        for part in (patients[:3], patients[3:]):
            if part:
                samples = cohort.of(part)
                tiny.run_microbatch(model, engine, samples, torch.tensor([weights[s.patient] for s in samples]))
                engine.collect()
        return engine.finish().vector

    everybody = list(range(len(weights)))
    full = total(everybody)
    others = [total([q for q in everybody if q != p]) for p in everybody]
    return max(float(np.linalg.norm(full - other)) for other in others) / C


def test_one_patient_moves_the_sum_by_at_most_c_outlier_included(tiny, cohort):
    reach = distance(tiny, cohort, [1.0, 1e6, 1.0, 1e-3, 1.0])
    assert 0.99 < reach <= 1.0


def test_a_patient_with_nan_contributes_exactly_zero(tiny, cohort):
    model = tiny.build_llava()
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=C, num_lanes=2, lane_bound=0.1)
    samples = cohort.samples
    broken = [1 if s.patient != 1 else float("nan") for s in samples]
    order = tiny.run_microbatch(model, engine, samples, torch.tensor(broken, dtype=torch.float64))
    lanes = torch.full((len(order), 2), 0.05)
    engine.collect(lanes)
    spoiled = engine.finish()
    rest = [s for s in samples if s.patient != 1]
    tiny.run_microbatch(model, engine, rest)
    engine.collect(lanes[:4])
    without = engine.finish()
    assert (spoiled.num_patients_local, spoiled.num_nonfinite_local) == (5, 1)
    assert np.abs(spoiled.vector - without.vector).max() < 1e-12


def test_a_token_mean_over_the_batch_would_break_the_bound():
    """The trap: a long patient rescales everybody else, and clipping each one does not undo that."""
    model = Toy()
    x = torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(3)).expand(9, 4, 6)
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(model(x[:1]).sum(), list(model.parameters()))])
    scale = 10 * C / float(gradient.norm())
    engine = toy_engine(model)
    tokens = torch.tensor([1.0] * 8 + [200.0])

    def total(keep: int, batch_mean: bool) -> np.ndarray:
        share = tokens[:keep] / tokens[:keep].sum() if batch_mean else torch.ones(keep)
        with microbatch(engine, keep):
            (scale * share * model(x[:keep])).sum().backward()
        engine.collect()
        return engine.finish().vector

    def reach(batch_mean: bool) -> float:
        return float(np.linalg.norm(total(9, batch_mean) - total(8, batch_mean))) / C

    norm = np.linalg.norm(total(1, False))
    assert norm == pytest.approx(C, rel=1e-4)  # every patient is clipped when it is alone
    assert reach(batch_mean=False) <= 1.0
    assert reach(batch_mean=True) > 2.0


@pytest.mark.parametrize("lanes", [[0.0, 0.0], [0.05, 0.05], [1e9, -1e9], [1e-300, 1e300]])
@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 1e12])
def test_the_joint_vector_never_exceeds_c(lanes, scale):
    model = Toy()
    engine = toy_engine(model, num_lanes=2, lane_bound=0.1)
    x = torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(5))
    with microbatch(engine, 1):
        (model(x) * scale).sum().backward()
    engine.collect(torch.tensor([lanes], dtype=torch.float64))
    vector = engine.finish().vector
    assert np.linalg.norm(vector) <= C * (1 - SLACK) * (1 + 1e-12)
    assert np.linalg.norm(vector[-2:]) <= 0.1


@pytest.mark.parametrize("lane", [float("nan"), float("inf")])
def test_a_non_finite_lane_removes_the_whole_patient(lane):
    model = Toy()
    engine = toy_engine(model, num_lanes=1, lane_bound=0.1)
    x = torch.randn(2, 4, 6)
    both = toy_step(engine, model, x, torch.tensor([[0.05], [lane]]))
    one = toy_step(engine, model, x[:1], torch.tensor([[0.05]]))
    assert np.abs(both.vector - one.vector).max() < 1e-9
    assert both.num_nonfinite_local == 1


def test_lanes_of_an_open_patient_add_up():
    model = Toy()
    engine = toy_engine(model, num_lanes=1, lane_bound=0.1)
    x = torch.randn(1, 4, 6)
    for complete in (False, True):
        with microbatch(engine, 1):
            model(x).sum().backward()
        engine.collect(torch.tensor([[0.02]]), complete=torch.tensor([complete]))
    result = engine.finish()
    assert result.vector[-1] == pytest.approx(0.04)
    assert result.num_patients_local == 1


def test_an_empty_draw_is_noise_alone():
    engine = toy_engine(Toy())
    empty = engine.finish()
    assert (empty.num_patients_local, float(np.abs(empty.vector).max())) == (0, 0.0)
    released = noisy_sum(empty, 2.0, SystemEntropy())
    assert released.shape == (engine.dimension,)
    assert np.unique(released).size == engine.dimension


def test_unattached_trainable_parameters_are_refused(tiny):
    model = tiny.build_llava()
    named = tiny.trainable(model)
    with pytest.raises(UncoveredParameterError, match="trainable but no per-patient gradient"):
        PatientGradients(model, named[1:], clip_norm=C)
    norm = next(p for name, p in model.named_parameters() if name.endswith("layernorm.weight"))
    norm.requires_grad_(True)
    with pytest.raises(UncoveredParameterError, match=r"not the weight of a plain nn\.Linear"):
        PatientGradients(model, tiny.trainable(model), clip_norm=C)


def test_adapters_on_experts_of_another_kind_are_refused(tiny):
    """Only what the engine's own forward computes: GPT-oss' class, an adapter that is active and unmerged."""
    model = tiny.build_llava(targets=[], experts=tiny.EXPERTS)
    experts = model.base_model.model.model.language_model.layers[0].mlp.experts
    experts.merge()
    with pytest.raises(UncoveredParameterError, match="merged or not active"):
        PatientGradients(model, tiny.trainable(model), clip_norm=C)
    experts.unmerge()
    inner = experts.base_layer.base_layer
    kind = type(inner)
    inner.__class__ = type("OtherExperts", (kind,), {})
    with pytest.raises(UncoveredParameterError, match="not GPT-oss' experts"):
        PatientGradients(model, tiny.trainable(model), clip_norm=C)
    inner.__class__ = kind
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=C)
    model.base_model.disable_adapter_layers()
    tiny_samples = tiny.make_cohort([[0], [0]], [5]).samples
    with pytest.raises(UncoveredParameterError):
        tiny.run_microbatch(model, engine, tiny_samples)


def test_other_modules_and_uses_are_refused():
    class Subclass(nn.Linear):
        pass

    for broken, message in (
        (nn.Sequential(nn.Linear(2, 2)), "not the weight"),
        (nn.Sequential(Subclass(2, 2, bias=False)), "plain nn.Linear"),
        (nn.Sequential(nn.Embedding(2, 2)), "plain nn.Linear"),
    ):
        with pytest.raises(UncoveredParameterError, match=message):
            toy_engine(broken)
    tied = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    tied[1].weight = tied[0].weight
    with pytest.raises(UncoveredParameterError, match="2 modules"):
        toy_engine(tied)
    with pytest.raises(ValueError, match="batch normalisation"):
        toy_engine(nn.Sequential(nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2, affine=False)))
    twice = Toy()
    toy_engine(twice)
    with pytest.raises(UncoveredParameterError, match="already patched"):
        toy_engine(twice)


def test_a_parameter_unfrozen_after_attaching_is_refused():
    model = Toy()
    model.b.weight.requires_grad_(False)
    engine = toy_engine(model)
    model.b.weight.requires_grad_(True)
    with pytest.raises(UncoveredParameterError), microbatch(engine, 1):
        pass


def test_a_missing_gradient_stops_the_step():
    model = Toy()
    engine = toy_engine(model)
    with microbatch(engine, 2):
        model.a(torch.randn(2, 4, 6)).sum().backward()
    with pytest.raises(MissingGradientError, match=r"b\.weight received no per-patient gradient"):
        engine.collect()
    with pytest.raises(EngineStateError):
        engine.finish()
    engine.discard()
    assert engine.finish().num_patients_local == 0


def test_a_gradient_around_the_engine_stops_the_step():
    model = Toy()
    engine = toy_engine(model)
    x = torch.randn(2, 4, 6)
    with microbatch(engine, 2):
        (model(x) + x @ model.a.weight.sum(0)[:, None]).sum().backward()
    with pytest.raises(MissingGradientError, match=r"ordinary \.grad"):
        engine.collect()


def test_calls_out_of_order_are_refused():
    model = Toy()
    engine = toy_engine(model)
    with pytest.raises(EngineStateError):
        engine.collect()
    with microbatch(engine, 1):
        model(torch.randn(1, 4, 6)).sum().backward()
    with pytest.raises(EngineStateError), microbatch(engine, 1):
        pass
    engine.collect(complete=torch.tensor([False]))
    with pytest.raises(EngineStateError, match="still open"):
        engine.finish()
    engine.discard()
    with microbatch(engine, 1):
        late = model(torch.randn(1, 4, 6)).sum()
    with pytest.raises(RuntimeError, match="outside its micro-batch"):
        late.backward()
    engine.discard()
    with pytest.raises(KeyError), microbatch(engine, 1):
        raise KeyError
    with pytest.raises(EngineStateError, match="discard"):
        engine.finish()


def test_wrong_row_maps_are_refused(tiny, cohort):
    model = tiny.build_llava()
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=C)
    rows, tiles, order = tiny.rows_and_tiles(cohort.samples)
    count = len(order)
    for bad_rows, bad_tiles, message in (
        (rows[:-1], tiles, "text rows"),
        (rows, tiles[:-1], "image rows"),
        (rows, tiles + count, "outside"),
        (rows.float(), tiles, "int64"),
        (torch.zeros_like(rows), tiles, "without gaps"),
    ):
        maps = {"text_patients": bad_rows, "image_patients": bad_tiles, "num_patients": count}
        with pytest.raises(ValueError, match=message), engine.microbatch(**maps):
            tiny.forward(model, cohort.samples).sum().backward()
        engine.discard()
    # A layer over tiles that is taken for a text layer: as many tiles as rows must not slip through.
    engine.detach()
    text_only = PatientGradients(model, tiny.trainable(model), clip_norm=C, image_modules="nothing")
    samples = tiny.make_cohort([[2], [0]], LENGTHS).samples
    with pytest.raises(ValueError, match="another number of tokens"):
        tiny.run_microbatch(model, text_only, samples)


def test_complete_may_leave_only_the_last_patient_open():
    model = Toy()
    engine = toy_engine(model)
    for complete in (torch.tensor([False, True]), torch.tensor([True]), torch.tensor([1, 1])):
        with microbatch(engine, 2):
            model(torch.randn(2, 4, 6)).sum().backward()
        with pytest.raises(ValueError):
            engine.collect(complete=complete)
        engine.discard()


@pytest.mark.parametrize(
    "options", [{"clip_norm": 0}, {"num_lanes": 1}, {"lane_bound": 0.1}, {"num_lanes": 1, "lane_bound": C}]
)
def test_bounds_out_of_range_are_refused(options):
    with pytest.raises(ValueError):
        toy_engine(Toy(), **options)
