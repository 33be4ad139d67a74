"""Frames evenly spaced, slices in the order of the body."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from site_client.imaging.frames import evenly, ordered_slices
from site_client.imaging.header import Header


@pytest.mark.parametrize(
    ("count", "most", "chosen"),
    [(1, 1, (0,)), (3, 8, (0, 1, 2)), (8, 8, tuple(range(8))), (30, 1, (15,)), (30, 2, (0, 29)), (9, 3, (0, 4, 8)),
     (10, 4, (0, 3, 6, 9)), (4, 3, (0, 2, 3)), (120, 8, (0, 17, 34, 51, 68, 85, 102, 119))],
)  # fmt: skip
def test_evenly(count: int, most: int, chosen: tuple[int, ...]) -> None:
    assert evenly(count, most) == chosen  # 4 into 3: 1.5 is rounded up


def test_evenly_always_has_both_ends_and_no_number_twice() -> None:
    for count in range(2, 60):
        for most in range(2, 12):
            chosen = evenly(count, most)
            assert chosen[0] == 0 and chosen[-1] == count - 1 and len(set(chosen)) == min(count, most)
            gaps = {right - left for left, right in pairwise(chosen)}
            assert list(chosen) == sorted(chosen) and max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize(("count", "most"), [(0, 3), (3, 0), (-1, 1)])
def test_nothing_to_choose(count: int, most: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        evenly(count, most)


def header(uid: str, number: int, position: float) -> Header:
    return Header(
        sop_uid=uid, study_uid="", series_uid="", accession="", patient_id="", issuer="", names=(), identifiers=(),
        dates=(), sop_class="", modality="CT", transfer_syntax="", rows=1, columns=1, frames=1, instance_number=number,
        position=position, suspect=False)  # fmt: skip


def order(*slices: tuple[str, int, float]) -> str:
    return "".join(header.sop_uid for header in ordered_slices(header(*one) for one in slices))


def test_positions_decide_where_all_are_known_and_distinct() -> None:
    assert order(("a", 1, 5.0), ("b", 2, -2.5), ("c", 3, 0.0)) == "bca"


def test_else_instance_numbers_then_uids() -> None:
    assert order(("a", 3, 5.0), ("b", 1, 5.0), ("c", 2, 0.0)) == "bca"
    assert order(("a", 3, math.nan), ("b", 1, 7.0), ("c", 2, 6.0)) == "bca"
    assert order(("a", 3, math.nan), ("b", 1, math.nan), ("c", 2, math.inf)) == "bca"
    assert order(("c", 1, 0.0), ("a", 1, 0.0), ("b", 0, 0.0)) == "bac"
    assert order() == ""
