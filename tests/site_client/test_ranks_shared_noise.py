"""Several ranks in a round with distributed noise: integers, so bit for bit the sum of one process, its share once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.adapted import AdaptedModel
from privacy.dp.shares import NoiseShare
from site_client.mechanism import LocalTask, PatientMechanism
from site_client.ranked_mechanism import RankedMechanism, ranked
from site_client.ranks import RankGroup
from site_client.upload import noised_share
from tests.site_client.rank_site import (
    CLIP,
    PATCHES,
    REPORTS,
    LocalGroup,
    Seeded,
    adapted,
    base,
    broken,
    command,
    samples,
    selection,
    task,
)

__all__ = ["adapted", "base", "selection"]

LEVELS = 1 << 16


def shared_task(selection: Any, **stage: Any) -> LocalTask:
    """A private round whose noise is a third of the stage's."""
    made = task(private=True, **stage)
    return replace(made, share=NoiseShare(LEVELS, selection.size + 3, CLIP, made.stage.noise_multiplier, 3))


def people_of(adapted: AdaptedModel) -> list[Any]:
    reports, patches = adapted.encode(REPORTS), adapted.encode(PATCHES)
    bad = [broken(sample, "not a number") for sample in adapted.encode(PATCHES[:1])]
    return [{"reports": reports[:2]}, {"patches": patches}, {"reports": reports, "patches": patches}, {},
            {"patches": bad}, {"reports": reports[3:]}]


@pytest.mark.parametrize("size", [2, 3, 7])
def test_the_rounded_sum_is_that_of_one_process_whatever_the_shares(
    base: Path, adapted: AdaptedModel, selection: Any, size: int
) -> None:
    what, found = shared_task(selection), []
    for make in (PatientMechanism, ranked(LocalGroup(base, size))):  # type: ignore[arg-type]
        mechanism = make(adapted, selection, what, Seeded())
        found.append(mechanism.clipped_sum(samples(adapted)))
        mechanism.close()
    alone, apart = found
    assert np.array_equal(alone.vector, apart.vector) and np.abs(alone.vector).max() > 100
    assert np.array_equal(alone.vector, np.rint(alone.vector)) and alone.l2_bound == apart.l2_bound == LEVELS
    assert (apart.num_patients_local, apart.num_nonfinite_local) == (5, 0)


def test_the_share_of_the_noise_is_added_once_by_the_first_rank(
    base: Path, adapted: AdaptedModel, selection: Any
) -> None:
    """On an empty sum, where noise is all that is released: its variance is one share's for any number of ranks."""
    what = shared_task(selection)
    assert what.share is not None
    noise = []
    for size in (2, 5):
        mechanism = RankedMechanism(LocalGroup(base, size), adapted, selection, what, Seeded())  # type: ignore[arg-type]
        noise += [mechanism.noised_levels(mechanism.clipped_sum([])) for _ in range(20)]
        mechanism.close()
    assert np.var(np.concatenate(noise)) == pytest.approx(float(what.share.variance), rel=0.1)


@pytest.mark.slow  # seconds to start a process with torch and peft
def test_an_upload_over_two_processes_is_that_of_one_bit_for_bit(
    base: Path, adapted: AdaptedModel, selection: Any, tmp_path: Path
) -> None:
    """Draw, samples, a patient who fails, rounding, share and turn of signs: what leaves under the mask."""
    group = RankGroup(tmp_path, 2, command(base, 2), start_s=120.0, order_s=60.0)
    try:
        uploads = []
        for mechanism in (PatientMechanism, ranked(group)):
            for rate in (1.0, 0.5, 1e-9):
                adapted.write(adapted.initial)
                uploads.append(noised_share(adapted, selection, people_of(adapted), shared_task(
                    selection, sampling_rate=rate), Seeded(), mechanism))
        assert len(group.pids) == 1
    finally:
        group.close()
    for one, several in zip(uploads[:3], uploads[3:], strict=True):
        assert one.dtype == np.uint32 and np.array_equal(one, several)
    assert not np.array_equal(uploads[0], uploads[2])
