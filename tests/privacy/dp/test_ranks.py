"""Sharing out whole patients and adding their sums: every patient once, every rank, in one order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from privacy.dp.accumulator import ClippedAccumulator
from privacy.dp.clipping import SLACK, ClipBounds, ClippedSum
from privacy.dp.ranks import RankError, RankSum, StepFacts, joined, require_partition, share_out
from privacy.dp.shares import NoiseShare

C, SIZE = 2.0, 5
FACTS = StepFacts(b"s" * 16, 3, "f" * 64, bytes(32), b"a" * 32, ((0, 2), (1,), ()), 0.5)


def part(rank: int, patients: int, seed: int = 0, **changed: Any) -> RankSum:
    vector = np.random.default_rng(seed + rank).normal(size=SIZE)
    vector *= 0.9 * C * patients / np.linalg.norm(vector)
    return RankSum(rank, FACTS.digest(), ClippedSum(vector, C, patients, 0, **changed))


PARTS = [part(0, 2), part(1, 1), part(2, 0)]


@given(costs=st.lists(st.integers(0, 10**6), max_size=40), ranks=st.integers(1, 9))
def test_every_patient_is_in_exactly_one_share_and_no_rank_is_far_behind(costs: list[int], ranks: int) -> None:
    shares = share_out(costs, ranks)
    require_partition(shares, len(costs))
    assert len(shares) == ranks and all(list(share) == sorted(share) for share in shares)
    loads = [sum(max(1, costs[p]) for p in share) for share in shares]
    assert max(loads) - min(loads) <= max([1, *costs])  # the last patient that the longest got


def test_sharing_out_is_the_same_everywhere() -> None:
    assert share_out([5, 1, 1, 7, 5], 2) == ((1, 2, 3), (0, 4))
    assert share_out([], 3) == ((), (), ())
    with pytest.raises(ValueError, match="at least one rank"):
        share_out([1], 0)


@pytest.mark.parametrize("shares", [((0, 1), (1,)), ((0,), (2,)), ((0, 0),), ((0,), (-1,)), ((1, 2),)])
def test_a_patient_in_two_shares_or_in_none_is_refused(shares: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match="exactly once"):
        require_partition(shares, sum(map(len, shares)))
    with pytest.raises(ValueError, match="exactly once"):
        replace(FACTS, shares=shares)


def test_the_sum_is_added_in_the_order_of_the_ranks_and_counts_everybody() -> None:
    counted = replace(PARTS[0], clipped=replace(PARTS[0].clipped, num_nonfinite_local=0))
    total = joined([counted, *PARTS[1:]], FACTS, C, SIZE)
    expected = np.zeros(SIZE) + PARTS[0].clipped.vector + PARTS[1].clipped.vector + PARTS[2].clipped.vector
    assert np.array_equal(total.vector, expected)
    assert (total.l2_bound, total.num_patients_local, total.num_nonfinite_local) == (C, 3, 0)


def test_a_patient_rounded_up_in_every_coordinate_is_within_reach() -> None:
    levels, size = 1 << 12, 4_194_161
    sums = ClippedAccumulator(
        size, 0, ClipBounds(1.0, 0.0), torch.device("cpu"), share=NoiseShare(levels, size, 1.0, 2.0, 1))
    sums.add(torch.ones(1, size), None)
    found, facts = sums.finish(), replace(FACTS, shares=((0,),))
    assert levels * (1 - SLACK) * (1 + 1e-6) < np.linalg.norm(found.vector) <= levels
    parts = [RankSum(0, facts.digest(), found)]
    assert np.array_equal(joined(parts, facts, levels, size, slack=0.0).vector, found.vector)
    with pytest.raises(RankError, match="cannot make"):
        joined(parts, facts, levels, size)


@pytest.mark.parametrize("changed", [
    {"session": b"t" * 16}, {"number": 4}, {"release": "0" * 64}, {"base_model": b"b" * 32}, {"adapter": bytes(32)},
    {"shares": ((0, 2), (), (1,))}, {"threshold": 0.25}, {"threshold": None}], ids=str)
def test_a_rank_that_holds_anything_else_is_refused(changed: dict[str, Any]) -> None:
    other = replace(PARTS[1], digest=replace(FACTS, **changed).digest())
    with pytest.raises(RankError, match="rank 1 is out of step"):
        joined([PARTS[0], other, PARTS[2]], FACTS, C, SIZE)


@pytest.mark.parametrize(("parts", "said"), [
    (PARTS[:2], "2 of 3 ranks"),
    ([*PARTS, part(3, 0)], "4 of 3 ranks"),
    ([PARTS[0], PARTS[2], PARTS[1]], "rank 1 is out of step"),
    ([PARTS[0], PARTS[0], PARTS[2]], "rank 1 is out of step"),
    ([PARTS[0], part(1, 2), PARTS[2]], "another number of patients"),
    ([PARTS[0], replace(PARTS[1], clipped=ClippedSum(np.zeros(SIZE + 1), C, 1, 0)), PARTS[2]], "another vector"),
    ([PARTS[0], replace(PARTS[1], clipped=ClippedSum(np.zeros(SIZE), 2 * C, 1, 0)), PARTS[2]], "another bound"),
    ([PARTS[0], replace(PARTS[1], clipped=ClippedSum(np.full(SIZE, C), C, 1, 0)), PARTS[2]], "cannot make"),
    ([PARTS[0], replace(PARTS[1], clipped=replace(PARTS[1].clipped, num_nonfinite_local=1)), PARTS[2]], "cannot make"),
    ([PARTS[0], replace(PARTS[1], clipped=ClippedSum(np.zeros(SIZE), C, 1, 2)), PARTS[2]], "another number"),
    ([*PARTS[:2], replace(PARTS[2], clipped=ClippedSum(np.full(SIZE, 1e-9), C, 0, 0))], "cannot make"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_parts_that_do_not_fit_make_no_sum(parts: list[RankSum], said: str) -> None:
    with pytest.raises(RankError, match=said):
        joined(parts, FACTS, C, SIZE)
