"""A site's share of the noise: what one patient can move, what shares add up to, and what they are worth."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from privacy.dp.accounting import ReleaseEvent, calibrate, epsilon
from privacy.dp.accumulator import ClippedAccumulator
from privacy.dp.clipping import ClipBounds, ClippedSum
from privacy.dp.guarantees import guarantees, seen_by
from privacy.dp.noise import noisy_sum
from privacy.dp.noise_share import IntegerSum, add_share, ring_elements
from privacy.dp.shares import ROUNDING_VARIANCE, NoiseShare, counted_multiplier, share_variance
from privacy.entropy import Entropy

D, LANES = 4000, 3
SHARE = NoiseShare(levels=1 << 14, dimension=D + LANES, clip_norm=0.5, noise_multiplier=0.9, honest=3)
CPU = torch.device("cpu")


class Seeded(Entropy):
    """Repeatable bits."""

    def __init__(self, *purpose: object) -> None:
        super().__init__(hashlib.sha256(repr(purpose).encode()).digest(), simulated=True)


def accumulator(share: NoiseShare | None = SHARE) -> ClippedAccumulator:
    return ClippedAccumulator(D, LANES, ClipBounds(0.5, 0.05), CPU, share=share)


def rows(patients: int, size: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    gradient = size * torch.randn(patients, D, generator=generator)
    return gradient, 0.03 * torch.rand(patients, LANES, generator=generator, dtype=torch.float64)


def one_sum(patients: int, size: float, seed: int = 0) -> IntegerSum:
    to = accumulator()
    for row, lanes in zip(*rows(patients, size, seed), strict=True):
        to.add(row[None].clone(), lanes[None])
    found = to.finish()
    assert isinstance(found, IntegerSum)
    return found


# ------------------------------------------------------------------ integers a patient


@pytest.mark.parametrize("size", [1e-6, 1e-3, 1.0, 1e6])
def test_a_patient_never_moves_the_sum_by_more_than_the_levels(size: float) -> None:
    for seed in range(5):
        alone = one_sum(1, size, seed)
        assert np.linalg.norm(alone.vector) <= SHARE.levels
    with_one, without = one_sum(9, size), accumulator()
    gradient, lanes = rows(9, size)
    without.add(gradient[:8].clone(), lanes[:8])
    assert np.linalg.norm(with_one.vector - without.finish().vector) <= SHARE.levels


def test_the_worst_rounding_stays_within_the_bound() -> None:
    """Every coordinate just above a half, so that rounding adds all it can: sqrt(d) / 2 in the direction of the row."""
    share = NoiseShare(levels=1 << 12, dimension=100 + LANES, clip_norm=1.0, noise_multiplier=1.0, honest=1)
    to = ClippedAccumulator(100, LANES, ClipBounds(1.0, 0.1), CPU, share=share)
    for level in (0.51, 100.51, 405.51):
        to.add(torch.full((1, 100), level / share.scale, dtype=torch.float64), torch.zeros(1, LANES))
        found = to.finish()
        assert np.linalg.norm(found.vector) <= share.levels and (found.vector[:100] != 0).all()


def test_each_patient_is_rounded_by_itself_and_the_order_does_not_matter() -> None:
    gradient, lanes = rows(6, 1e-3)
    whole, one_by_one, backwards = accumulator(), accumulator(), accumulator()
    whole.add(gradient.clone(), lanes)
    for n in range(6):
        one_by_one.add(gradient[n : n + 1].clone(), lanes[n : n + 1])
        backwards.add(gradient[5 - n : 6 - n].clone(), lanes[5 - n : 6 - n])
    found = whole.finish().vector
    assert (found == one_by_one.finish().vector).all() and (found == backwards.finish().vector).all()
    plain = accumulator(None)
    plain.add(gradient.clone(), lanes)
    assert np.abs(found / SHARE.scale - plain.finish().vector).max() <= 6 / 2 / SHARE.scale * 1.001


def test_a_patient_that_is_not_finite_adds_exactly_nothing() -> None:
    to, (gradient, lanes) = accumulator(), rows(2, 1e-3)
    gradient[0, 7] = math.nan
    to.add(gradient, lanes)
    found = to.finish()
    assert (found.vector == one_sum_of(rows(2, 1e-3), 1)).all() and found.num_nonfinite_local == 1


def one_sum_of(both: tuple[torch.Tensor, torch.Tensor], number: int) -> np.ndarray:
    to = accumulator()
    to.add(both[0][number : number + 1].clone(), both[1][number : number + 1])
    return to.finish().vector


def test_an_integer_sum_holds_integers_and_shares_are_added_to_nothing_else() -> None:
    with pytest.raises(ValueError, match="integers only"):
        IntegerSum(np.array([0.5]), 16.0, 1, 0)
    with pytest.raises(ValueError, match="integers only"):
        IntegerSum(np.array([1.0]), 16.5, 1, 0)
    with pytest.raises(ValueError, match="exact"):
        IntegerSum(np.array([2.0**53]), 16.0, 1, 0)
    plain = ClippedSum(np.zeros(D + LANES), float(SHARE.levels), 0, 0)
    with pytest.raises(TypeError, match="IntegerSum only"):
        add_share(plain, SHARE, Seeded())
    empty = IntegerSum(np.zeros(D + LANES), float(SHARE.levels), 0, 0)
    for other in (replace(SHARE, levels=1 << 15), replace(SHARE, dimension=D)):
        with pytest.raises(ValueError, match="another share"):
            add_share(empty, other, Seeded())
    assert noisy_sum(empty, 1.0, Seeded()).size == D + LANES  # local noise on a rounded sum is only more than is needed


def test_an_adaptive_clip_and_a_share_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="no adaptive clip"):
        ClippedAccumulator(D, LANES, ClipBounds(0.5, 0.05, bit_weight=0.1), CPU, share=SHARE)
    with pytest.raises(ValueError, match="own length"):
        ClippedAccumulator(D - 1, LANES, ClipBounds(0.5, 0.05), CPU, share=SHARE)


# ------------------------------------------------------------------ noise


def test_shares_at_the_floor_give_exactly_the_calibrated_variance() -> None:
    for z, levels, honest in ((0.9, 1 << 14, 3), (0.31, 1 << 18, 7), (2.0, 1 << 12, 1)):
        one = share_variance(z, levels, honest)
        assert honest * one == (Fraction(z) * levels) ** 2 + ROUNDING_VARIANCE  # rational: no rounding to hide behind
        assert counted_multiplier(z, levels, honest, honest) == z
        assert counted_multiplier(z, levels, honest, honest + 1) > z > counted_multiplier(z, levels, honest + 1, honest)


def test_the_drawn_shares_have_that_variance_and_no_saturation() -> None:
    empty = IntegerSum(np.zeros(D + LANES), float(SHARE.levels), 0, 0)
    total = np.zeros(D + LANES, dtype=np.int64)
    reach, parts = 0, []
    for site in range(SHARE.honest):
        parts.append(add_share(empty, SHARE, Seeded("site", site)))
        total += parts[-1]
        reach = max(reach, int(np.abs(parts[-1]).max()))
    squares = float((total.astype(float) ** 2).sum() / ((0.9 * SHARE.levels) ** 2 + 16))
    assert abs(squares - total.size) < 5 * math.sqrt(2 * total.size)
    assert reach > 3 * math.sqrt(SHARE.variance)
    assert abs(np.corrcoef(parts[0], parts[1])[0, 1]) < 0.08
    assert SHARE.noise_std(SHARE.honest) == pytest.approx(0.9 * 0.5, rel=3e-3)  # z C, and what rounding takes of C


def test_a_wrapped_sum_of_uploads_is_the_sum_of_what_was_noised() -> None:
    uploads = [add_share(one_sum(3, 1e-3, seed), SHARE, Seeded("wrap", seed)) for seed in range(4)]
    ring = sum(ring_elements(upload) for upload in uploads)
    far = np.array([2**33 + 5, -(2**31) - 1, -1], dtype=np.int64)
    assert ring_elements(far).tolist() == [value % 2**32 for value in far.tolist()]
    assert (ring.astype(np.uint32).view(np.int32) == sum(uploads)).all()


def test_shares_that_cannot_be_counted_are_refused() -> None:
    with pytest.raises(ValueError, match="too few for"):
        NoiseShare(levels=1 << 12, dimension=1 << 25, clip_norm=1.0, noise_multiplier=1.0, honest=2)
    with pytest.raises(ValueError, match="below 32 levels"):
        NoiseShare(levels=1 << 12, dimension=10, clip_norm=1.0, noise_multiplier=0.01, honest=9)
    with pytest.raises(ValueError, match="at least one honest"):
        replace(SHARE, honest=0)
    with pytest.raises(ValueError, match="lost in rounding"):
        counted_multiplier(1e-6, 1 << 12, 100, 1)


# ------------------------------------------------------------------ what they are worth


EVENT = ReleaseEvent(0.05, 1.0, 300, min_survivors=4, colluders=1, levels=1 << 18)


def test_three_guarantees_from_the_same_noise() -> None:
    found = guarantees([EVENT], 1e-5)
    assert found.colluding == epsilon([ReleaseEvent(0.05, 1.0, 300)], 1e-5) == epsilon([EVENT], 1e-5)
    for view, share in (("outside", 4 / 3), ("alone", 1 / 3)):
        worth = seen_by(EVENT, view).noise_multiplier  # type: ignore[arg-type]
        assert worth == pytest.approx(math.sqrt(share), rel=1e-9) and worth <= math.sqrt(share * (1 + 1e-9))
    assert found.outside < found.colluding < found.alone


def test_stages_of_different_noise_are_composed_at_each_patients_own_rate() -> None:
    stages = [EVENT, replace(EVENT, sampling_rate=0.02, steps=100, noise_multiplier=1.4),
              ReleaseEvent(0.1, 2.0, 20)]
    plain = [replace(event, min_survivors=0, colluders=0, levels=0) for event in stages]
    assert guarantees(stages, 1e-5).colluding == epsilon(plain, 1e-5)
    local = guarantees(stages[2:], 1e-5)
    assert local.outside == local.colluding == local.alone == epsilon(stages[2:], 1e-5)
    scale = calibrate(stages, 4.0, 1e-5)
    assert epsilon([replace(e, noise_multiplier=scale * e.noise_multiplier) for e in stages], 1e-5) <= 4.0


def test_without_colluders_the_outside_is_what_the_noise_is_calibrated_to() -> None:
    """Computed apart from this code, with q = .05 and T = 300: epsilon 8 outside is 12.8 or 9.8 against one curious
    site among 3 or 6, and the own share alone is worth 31 or 80."""
    z = calibrate([ReleaseEvent(0.05, 1.0, 300)], 8.0, 1e-5)
    for sites, curious, alone in ((3, 12.8, 31.0), (6, 9.8, 80.0)):
        shared = replace(EVENT, noise_multiplier=z, min_survivors=sites, colluders=0)
        found = guarantees([shared], 1e-5)
        assert found.outside == found.colluding == pytest.approx(8.0, rel=2e-3)
        assert found.alone == pytest.approx(alone, rel=0.05)
        one_less = counted_multiplier(z, shared.levels, sites, sites - 1)
        assert epsilon([ReleaseEvent(0.05, one_less, 300)], 1e-5) == pytest.approx(curious, rel=0.02)


@pytest.mark.parametrize("shared", [(3, 1, 0), (3, 3, 1 << 18), (0, 0, 1 << 18), (3, -1, 1 << 18)])
def test_an_event_names_an_honest_site(shared: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="shared noise needs"):
        ReleaseEvent(0.1, 1.0, 1, 0, 0, *shared)
