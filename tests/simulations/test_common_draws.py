"""Draws that the arms of a study have in common: the same patients in each step, and noise of the arm's own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from privacy.dp.clipping import ClippedSum
from privacy.entropy import Entropy
from simulations.seeded import SeededEntropy
from simulations.studies import batched
from simulations.studies.batched import BatchedMechanism, CommonDraws
from site_client.mechanism import PatientMechanism, PatientSums

RATE, PATIENTS, SIZE = 0.08, 400, 30
TASK: Any = SimpleNamespace(
    private=True, share=None, stage=SimpleNamespace(
        sampling_rate=RATE, noise_multiplier=1.0, truncation=None,
        sources=(SimpleNamespace(source="patches", max_samples=2),)))


@pytest.fixture(autouse=True)
def without_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mechanisms of a task alone; the clipped sum is zero."""
    def made(self: Any, adapted: Any, selection: Any, task: Any, entropy: Entropy) -> None:
        self._task, self._entropy, self._threshold = task, entropy, None

    monkeypatch.setattr(PatientMechanism, "__init__", made)
    monkeypatch.setattr(BatchedMechanism, "clipped_sum", lambda self, chosen: ClippedSum(np.zeros(SIZE), 1.0, 0, 0))


def steps(arm: str, seed: int = 0, number: int = 12) -> list[tuple[list[int], list[list[int]], np.ndarray]]:
    """(draw, each patient's samples, what is released) of an arm's first steps, as a site's step makes them."""
    mechanisms = CommonDraws(lambda step: SeededEntropy(seed, "draws", str(step)))
    patient: Any = {"patches": list(range(9))}
    found = []
    for step in range(number):
        one = mechanisms(*[None] * 2, TASK, SeededEntropy(seed, arm, str(step)))  # type: ignore[arg-type, call-arg]
        drawn = one.draw(PATIENTS)
        samples = [one.samples_of(patient) for _ in drawn]
        found.append((drawn.tolist(), samples, one.release(one.clipped_sum(samples))))
    return found


def test_arms_of_a_seed_draw_the_same_patients_and_samples_and_noise_of_their_own() -> None:
    first, second = steps("pooled-dp"), steps("distributed")
    assert [one[:2] for one in first] == [one[:2] for one in second]
    noise = np.array([one[2] for one in first]).ravel(), np.array([one[2] for one in second]).ravel()
    assert abs(np.corrcoef(*noise)[0, 1]) < 0.2 and all(np.std(one) == pytest.approx(1.0, rel=0.2) for one in noise)


def test_steps_and_seeds_draw_others_at_the_stages_rate() -> None:
    draws = [tuple(one[0]) for one in steps("local", number=200)]
    assert len(set(draws)) == 200
    assert np.mean([len(one) for one in draws]) == pytest.approx(RATE * PATIENTS, rel=0.05)
    assert steps("local", seed=1)[0][0] != list(draws[0])


def test_what_is_drawn_does_not_move_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = steps("distributed")
    monkeypatch.setattr(batched._WithDraws, "draw", lambda self, patients: np.arange(3))
    assert [one[2].tolist() for one in steps("distributed")] == [one[2].tolist() for one in usual]
    assert issubclass(batched._WithDraws, PatientSums)
