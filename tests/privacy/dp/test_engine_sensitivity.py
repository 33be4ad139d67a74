"""Property: whatever the batch layout, one patient more or less moves the clipped sum by at most C."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from privacy.dp.engine import PatientGradients

C = 0.3


@pytest.fixture(scope="module", params=[torch.float64, torch.float32], ids=["float64", "float32"])
def attached(tiny, request):
    model = tiny.build_llava(request.param, experts=tiny.EXPERTS)
    return model, PatientGradients(model, tiny.trainable(model), clip_norm=C)


# Tiles of each sample of each patient: 2 to 4 patients, 1 to 3 samples, 0 to 2 tiles.
COHORTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=3), min_size=2, max_size=4)


def clipped_sum(tiny, model, engine, patients, weights, cut, packed):
    """The sum over `patients` (lists of samples, in this order), `cut` of them in the first micro-batch."""
    for part in (patients[:cut], patients[cut:]):
        if part:
            samples = [sample for patient in part for sample in patient]
            scale = torch.tensor([weights[sample.patient] for sample in samples])
            (tiny.run_packed if packed else tiny.run_microbatch)(model, engine, samples, scale)
            engine.collect()
    return engine.finish().vector


@settings(max_examples=12, deadline=None, derandomize=True)
@given(cohort=COHORTS, lengths=st.lists(st.integers(2, 14), min_size=1, max_size=4), data=st.data())
def test_one_patient_moves_the_sum_by_at_most_c(tiny, attached, cohort, lengths, data):
    model, engine = attached
    engine.discard()
    samples = tiny.make_cohort(cohort, lengths).samples
    patients = [[s for s in samples if s.patient == p] for p in range(len(cohort))]
    weights = data.draw(st.lists(st.sampled_from([1e-3, 1.0, 1e4]), min_size=len(cohort), max_size=len(cohort)))
    one = data.draw(st.integers(0, len(cohort) - 1))

    def draw_sum(chosen):
        order = data.draw(st.permutations(chosen))
        cut = data.draw(st.integers(0, len(order)))
        return clipped_sum(tiny, model, engine, order, weights, cut, data.draw(st.booleans()))

    # The same patients in two layouts of their own: order, split, padded or packed.
    apart = np.linalg.norm(draw_sum(patients) - draw_sum([p for i, p in enumerate(patients) if i != one]))
    # A layout moves the kernels' rounding too: 1e-4 C is far above that in float32, and SLACK covers some.
    assert apart <= C * (1 + (1e-12 if next(model.parameters()).dtype == torch.float64 else 1e-4))


def test_a_batch_token_mean_would_break_the_bound_and_the_projects_loss_does_not(tiny):
    """`model.loss.per_sample` gives a patient the same loss in any company; a mean over the batch's tokens does not.

    The second half shows that the check would notice: the same losses as a batch mean move the sum by more than C.
    """
    from model.loss import per_sample

    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.out = nn.Linear(4, 8, bias=False)

        def forward(self, x):
            return self.out(x)

    model = Head()
    bound = 0.05
    engine = PatientGradients(model, [("out.weight", model.out.weight)], clip_norm=bound)
    # Eight short answers that say the same, and one long one.
    x = torch.ones(9, 200, 4)
    labels = torch.full((9, 200), -100)
    labels[:8, -4:], labels[8, 1:] = 3, 5

    def total(keep, loss):
        rows, none = torch.arange(keep), torch.zeros(0, dtype=torch.int64)
        with engine.microbatch(text_patients=rows, image_patients=none, num_patients=keep):
            loss(model(x[:keep]), labels[:keep]).sum().backward()
        engine.collect()
        return engine.finish().vector

    def batch_mean(logits, targets):
        return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), targets[:, 1:].flatten())

    def reach(loss):
        return np.linalg.norm(total(9, loss) - total(8, loss)) / bound

    assert reach(lambda logits, targets: per_sample(logits, targets).loss) <= 1.0
    assert reach(batch_mean) > 1.5


def test_a_step_of_1024_patients_needs_the_memory_of_64():
    """Peak of what torch allocates beyond what stays, by its profiler; eight patients a micro-batch."""
    model = nn.Linear(64, 64, bias=False)
    engine = PatientGradients(model, [("weight", model.weight)], clip_norm=1.0)
    rows, none = torch.arange(8), torch.zeros(0, dtype=torch.int64)

    def peak(num_patients):
        live = highest = 0
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            for _ in range(num_patients // 8):
                with engine.microbatch(text_patients=rows, image_patients=none, num_patients=8):
                    model(torch.ones(8, 16, 64)).sum().backward()
                engine.collect()
            engine.finish()
        for event in profile.profiler.kineto_results.events():
            if event.name() == "[memory]":
                live += event.nbytes()
                highest = max(highest, live)
        return highest

    peak(8)  # the buffer is there from now on
    small, large = peak(64), peak(1024)
    assert small > 8 * 16 * 64  # something was measured
    assert large <= 1.2 * small
