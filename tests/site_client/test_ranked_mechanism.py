"""Several ranks are one mechanism: the same sum as one process, noise once, and no sum at all when a rank differs.

The other ranks are workers in this process here; `test_ranks.py` has them as processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.adapted import AdaptedModel, adapted_from
from model.backbone import load_base
from model.inputs import Encoded
from model.placement import place
from privacy.dp.clipping import SLACK
from privacy.dp.ranks import RankError, StepFacts, joined
from privacy.dp.shares import NoiseShare
from privacy.messages import AdaptiveClip
from site_client.mechanism import DeviceLostError, PatientMechanism, PatientSums
from site_client.rank_messages import Part, Ready, pack, samples_of, tensors_of, unpack
from site_client.rank_process import RankWorker
from site_client.ranked_mechanism import RankedMechanism, ranked
from site_client.training import rehearse, run_local_steps
from tests.site_client.rank_site import (
    CLIP,
    DECLARED,
    LORA,
    PATCHES,
    REPORTS,
    STAGE,
    LocalGroup,
    Seeded,
    adapted,
    base,
    broken,
    samples,
    selection,
    sent_patients,
    task,
)

__all__ = ["adapted", "base", "selection"]


def single(adapted: AdaptedModel, selection: Any, chosen: Sequence[list[Encoded]], what: Any) -> Any:
    mechanism = PatientMechanism(adapted, selection, what, Seeded())
    try:
        return mechanism.clipped_sum(chosen)
    finally:
        mechanism.close()


def over_ranks(group: Any, adapted: AdaptedModel, selection: Any, chosen: Sequence[list[Encoded]], what: Any) -> Any:
    mechanism = RankedMechanism(group, adapted, selection, what, Seeded())
    try:
        return mechanism.clipped_sum(chosen)
    finally:
        mechanism.close()


def test_samples_cross_to_another_rank_bit_for_bit(adapted: AdaptedModel) -> None:
    for chosen in samples(adapted):
        for ours, theirs in zip(chosen, samples_of(tensors_of(chosen)), strict=True):
            assert torch.equal(ours.input_ids, theirs.input_ids) and torch.equal(ours.labels, theirs.labels)
            if ours.pixel_values is None:
                assert theirs.pixel_values is None
            else:
                assert theirs.pixel_values is not None and torch.equal(ours.pixel_values, theirs.pixel_values)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_the_sum_over_ranks_is_that_of_one_process(
    base: Path, adapted: AdaptedModel, selection: Any, size: int
) -> None:
    """To the last bit that of the shares added in order; to rounding that of one process. Of seven, two are empty."""
    chosen, group = samples(adapted), LocalGroup(base, size)
    total = over_ranks(group, adapted, selection, chosen, task())
    shares = [[p for p in range(5) if p not in {q for r in range(1, size) for q in sent_patients(group, r)}]]
    shares += [sent_patients(group, rank) for rank in range(1, size)]
    assert sorted(position for share in shares for position in share) == list(range(5))
    by_share = [single(adapted, selection, [chosen[p] for p in share], task()).vector for share in shares]
    assert np.array_equal(total.vector, np.sum(by_share, axis=0))
    whole = single(adapted, selection, chosen, task())
    assert np.abs(whole.vector).max() > 1e-3 * CLIP
    assert np.abs(total.vector - whole.vector).max() <= 1e-6 * CLIP
    assert (total.num_patients_local, total.num_nonfinite_local, total.l2_bound) == (5, 0, CLIP)


def test_an_empty_draw_is_the_zero_sum(base: Path, adapted: AdaptedModel, selection: Any) -> None:
    total = over_ranks(LocalGroup(base), adapted, selection, [], task())
    assert not total.vector.any() and total.vector.size == selection.size + 3 and total.num_patients_local == 0


@pytest.mark.parametrize("how", ["not a number", "no such token"])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_patient_who_fails_on_any_rank_contributes_zero_and_is_counted(
    base: Path, adapted: AdaptedModel, selection: Any, how: str, rank: int
) -> None:
    class OnThatRank(RankedMechanism):
        def _shares(self, chosen: Sequence[list[Encoded]]) -> tuple[tuple[int, ...], ...]:
            mine = (1, 3)
            other = tuple(p for p in range(len(chosen)) if p not in mine)
            return (mine, other) if rank == 0 else (other, mine)

    people = samples(adapted)
    bad = [broken(sample, how) for sample in adapted.encode(PATCHES[:1])]
    mechanism = OnThatRank(LocalGroup(base), adapted, selection, task(), Seeded())  # type: ignore[arg-type]
    total = mechanism.clipped_sum([people[0], bad, *people[1:]])
    mechanism.close()
    assert (total.num_patients_local, total.num_nonfinite_local) == (6, 1)
    assert np.abs(total.vector - single(adapted, selection, people, task()).vector).max() <= 1e-6 * CLIP


class LostImage:
    """A stored picture whose file went after its sample was encoded."""

    def num_tiles(self, *, image_size: int, max_tiles: int) -> int:
        return 1

    def tiles(self, *, image_size: int, max_tiles: int) -> Any:
        raise FileNotFoundError("tiles/ab/abcd.npy")


@pytest.mark.parametrize("rank", [0, 1])
def test_a_patient_whose_stored_picture_is_gone_contributes_zero_and_no_more(
    base: Path, adapted: AdaptedModel, selection: Any, rank: int, caplog: pytest.LogCaptureFixture
) -> None:
    class OnThatRank(RankedMechanism):
        def _shares(self, chosen: Sequence[list[Encoded]]) -> tuple[tuple[int, ...], ...]:
            mine = (1, 3)
            other = tuple(p for p in range(len(chosen)) if p not in mine)
            return (mine, other) if rank == 0 else (other, mine)

    people = samples(adapted)
    lost = adapted.encode([replace(PATCHES[0], images=(LostImage(),))])
    mechanism = OnThatRank(LocalGroup(base), adapted, selection, task(), Seeded())  # type: ignore[arg-type]
    total = mechanism.clipped_sum([people[0], lost, *people[1:]])
    mechanism.close()
    assert (total.num_patients_local, total.num_nonfinite_local) == (6, 1)
    assert np.abs(total.vector - single(adapted, selection, people, task()).vector).max() <= 1e-6 * CLIP
    assert "abcd" not in caplog.text


@pytest.mark.parametrize(
    "choice", [{}, {"adaptive_clip": AdaptiveClip(0.5, 0.2, 10.0)}, {"clipping": "auto-s"}], ids=str)
def test_a_private_round_over_ranks_is_that_of_one_process_with_the_same_noise(
    base: Path, adapted: AdaptedModel, selection: Any, choice: dict[str, Any]
) -> None:
    reports, patches = adapted.encode(REPORTS), adapted.encode(PATCHES)
    people: list[Any] = [{"reports": reports[:2]}, {"patches": patches}, {"reports": reports, "patches": patches}, {}]
    what = task(private=True, local_steps=4, sampling_rate=0.6, **choice)
    seen: list[list[Any]] = [[], []]
    updates = []
    for log, mechanism in zip(seen, (PatientMechanism, ranked(LocalGroup(base, 3))), strict=True):  # type: ignore[arg-type]
        adapted.write(adapted.initial)
        updates.append(run_local_steps(
            adapted, selection, people, what, Seeded(), mechanism,
            observe=lambda drawn, released, log=log: log.append((tuple(drawn), released))))
    assert [draw for draw, _ in seen[0]] == [draw for draw, _ in seen[1]] and len({d for d, _ in seen[0]}) > 1
    for (_, one), (_, many) in zip(*seen, strict=True):
        assert np.abs(one - many).max() <= 1e-5 * CLIP
    assert np.abs(updates[0].delta - updates[1].delta).max() <= 1e-5 * CLIP / DECLARED * 10
    assert np.abs(updates[0].delta).max() > 100 * np.abs(updates[0].delta - updates[1].delta).max()


def test_the_rehearsal_runs_on_every_rank_before_a_patient_is_read(
    base: Path, adapted: AdaptedModel, selection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    real = PatientSums.rehearse
    monkeypatch.setattr(PatientSums, "rehearse", lambda self, public: ran.append(len(public)) or real(self, public))
    rehearse(adapted, selection, adapted.encode([REPORTS[0], PATCHES[0]]), task(), ranked(LocalGroup(base, 3)))  # type: ignore[arg-type]
    assert ran == [2, 2, 2]


def test_other_ranks_get_no_source_of_randomness_and_draw_nothing(
    base: Path, adapted: AdaptedModel, selection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = LocalGroup(base)
    mechanism = RankedMechanism(group, adapted, selection, task(private=True), Seeded())  # type: ignore[arg-type]
    chosen = samples(adapted)
    used: list[int] = []
    stream = Seeded._stream
    monkeypatch.setattr("privacy.entropy.Entropy._stream", lambda self, n: used.append(n) or stream(self, n))
    clipped = mechanism.clipped_sum(chosen)
    assert not used  # a sum needs none, on any rank
    mechanism.release(clipped)
    assert used
    assert all(not hasattr(worker._sums, "_entropy") for worker in group.workers)
    mechanism.close()


def test_a_patient_in_two_shares_or_in_none_is_refused_and_nothing_is_sent(
    base: Path, adapted: AdaptedModel, selection: Any
) -> None:
    for shares in (((0, 1), (1, 2)), ((0, 1), (3,)), ((0, 1), (2, 2))):
        group = LocalGroup(base)
        mechanism = RankedMechanism(group, adapted, selection, task(), Seeded())  # type: ignore[arg-type]
        mechanism._shares = lambda chosen, shares=shares: shares  # type: ignore[method-assign]
        with pytest.raises(ValueError, match="exactly once"):
            mechanism.clipped_sum(samples(adapted)[:3])
        assert not group.pids and not sent_patients(group, 1)
        mechanism.close()


# ------------------------------------------------------------------ a rank that differs


class OtherDraw(RankWorker):
    def _facts(self, shares: Any, threshold: Any) -> StepFacts:
        return super()._facts(tuple(reversed(shares)), threshold)


class OldAdapter(RankWorker):
    def _step(self, order: Any, tensors: Any) -> bytes:
        return super()._step(order, {"adapter": tensors["adapter"] * 0})


class OtherCode(RankWorker):
    def _facts(self, shares: Any, threshold: Any) -> StepFacts:
        return replace(super()._facts(shares, threshold), release="0" * 64)


class OtherBase(RankWorker):
    def _facts(self, shares: Any, threshold: Any) -> StepFacts:
        return replace(super()._facts(shares, threshold), base_model=bytes(32))


class _Changed(RankWorker):
    """Changes its part."""

    def _step(self, order: Any, tensors: Any) -> bytes:
        part, beside = unpack(super()._step(order, tensors), Part)
        return self.changed(part, beside["vector"])

    def changed(self, part: Any, vector: torch.Tensor) -> bytes:
        raise NotImplementedError


class FewerPatients(_Changed):
    def changed(self, part: Any, vector: torch.Tensor) -> bytes:
        return pack(replace(part, patients=part.patients - 1), {"vector": vector})


class TooLong(_Changed):
    def changed(self, part: Any, vector: torch.Tensor) -> bytes:
        longer = vector / vector.norm() * part.patients * CLIP * 1.001
        return pack(part, {"vector": longer})


class NotFinite(_Changed):
    def changed(self, part: Any, vector: torch.Tensor) -> bytes:
        return pack(part, {"vector": vector * float("nan")})


class AnotherLength(_Changed):
    def changed(self, part: Any, vector: torch.Tensor) -> bytes:
        return pack(part, {"vector": vector[:-1].clone()})


class AnotherBound(_Changed):
    def changed(self, part: Any, vector: torch.Tensor) -> bytes:
        return pack(replace(part, l2_bound=2 * CLIP), {"vector": vector})


class AnotherName(_Changed):
    def changed(self, part: Any, vector: torch.Tensor) -> bytes:
        return pack(replace(part, rank=1), {"vector": vector})


class Single(_Changed):
    def changed(self, part: Any, vector: torch.Tensor) -> bytes:
        return pack(part, {"vector": vector.float()})


class NoSum(_Changed):
    def changed(self, part: Any, vector: torch.Tensor) -> bytes:
        return pack(Ready(part.digest))


class Raises(RankWorker):
    def _step(self, order: Any, tensors: Any) -> bytes:
        raise RuntimeError("patient Smith")


class LeavesOneOut(RankWorker):
    """Sums one patient less than it was sent, and says so."""

    def _mechanism(self) -> Any:
        sums = super()._mechanism()
        self._sums = None
        real = sums.clipped_sum
        sums.clipped_sum = lambda chosen: real(chosen[1:])  # type: ignore[method-assign]
        return sums


LIARS = [OtherDraw, OldAdapter, OtherCode, OtherBase, FewerPatients, TooLong, NotFinite, AnotherLength, AnotherBound,
         AnotherName, Single, NoSum, Raises, LeavesOneOut]


@pytest.mark.parametrize("liar", LIARS, ids=lambda kind: kind.__name__)
def test_a_rank_that_differs_in_anything_ends_the_step_and_nothing_is_released(
    base: Path, adapted: AdaptedModel, selection: Any, liar: type[RankWorker]
) -> None:
    released: list[Any] = []
    group = LocalGroup(base, 3, (RankWorker, liar))
    people: list[Any] = [{"reports": adapted.encode(REPORTS[i : i + 1])} for i in range(4)] * 2
    adapted.write(adapted.initial + 0.01)  # not what a fresh model holds
    entropy = Seeded()
    with pytest.raises(RankError) as caught:
        run_local_steps(
            adapted, selection, people, task(private=True), entropy, ranked(group),  # type: ignore[arg-type]
            observe=lambda *step: released.append(step))
    assert not released and not group.pids and "Smith" not in str(caught.value)
    with pytest.raises(RankError):  # and it stays so
        group.send(1, Ready(bytes(32)))
    assert single(adapted, selection, samples(adapted), task()).num_patients_local == 5  # the model was given back


def test_a_sum_of_another_step_does_not_fit(base: Path, adapted: AdaptedModel, selection: Any) -> None:
    """A rank that gives the last step's part again, though draw and adapter are the same."""
    kept: list[bytes] = []

    class Replays(RankWorker):
        def _step(self, order: Any, tensors: Any) -> bytes:
            kept.append(super()._step(order, tensors))
            return kept[0]

    mechanism = RankedMechanism(LocalGroup(base, 2, (Replays,)), adapted, selection, task(), Seeded())  # type: ignore[arg-type]
    mechanism.clipped_sum(samples(adapted))
    with pytest.raises(RankError, match="out of step"):
        mechanism.clipped_sum(samples(adapted))
    mechanism.close()


def test_the_reach_of_a_share_is_that_of_its_patients(base: Path, adapted: AdaptedModel, selection: Any) -> None:
    """Removing any one patient moves the ranks' sum by at most C, whoever's share it was in."""
    chosen = samples(adapted)
    whole = over_ranks(LocalGroup(base, 2), adapted, selection, chosen, task()).vector
    for left_out in range(5):
        rest = [patient for index, patient in enumerate(chosen) if index != left_out]
        less = over_ranks(LocalGroup(base, 2), adapted, selection, rest, task()).vector
        assert 0 < np.linalg.norm(whole - less) <= CLIP * (1 - SLACK) * (1 + 1e-4)


def test_a_sum_of_rounded_patients_may_take_up_all_of_its_bound(
    base: Path, adapted: AdaptedModel, selection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gradient that rounds up everywhere leaves no slack: that an honest rank's sum was refused would tell of it."""
    given: list[float] = []

    def reach(*parts: Any, slack: float) -> Any:
        given.append(slack)
        return joined(*parts, slack=slack)

    monkeypatch.setattr("site_client.ranked_mechanism.joined", reach)
    share = NoiseShare(1 << 16, selection.size + 3, CLIP, 2.0, 1)
    for what in (task(), replace(task(), share=share)):
        over_ranks(LocalGroup(base, 2), adapted, selection, samples(adapted), what)
    assert given == [SLACK, 0.0]


def test_an_accelerator_that_is_lost_ends_the_step_instead_of_counting_everybody_as_failed(
    adapted: AdaptedModel, selection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After one patient's fault nobody can be computed any more: a sum of zeros would tell who it was."""
    monkeypatch.setattr("site_client.mechanism.collate", lambda _: 1 / 0)
    mechanism = PatientMechanism(adapted, selection, task(), Seeded())
    assert mechanism.clipped_sum(samples(adapted)).num_nonfinite_local == 5  # the processor is not lost
    lost = torch.nn.Parameter(torch.empty(1, device="meta"))
    monkeypatch.setattr(adapted.model, "parameters", lambda: iter([lost]))
    with pytest.raises(DeviceLostError):
        mechanism.clipped_sum(samples(adapted))
    monkeypatch.undo()
    mechanism.close()


def test_a_spread_model_whose_layers_are_recomputed_sums_the_same(
    base: Path, adapted: AdaptedModel, selection: Any
) -> None:
    """accelerate's hooks on one device: layers, losses and adapters meet as they do over several."""
    loaded = load_base(base)
    place(loaded.model, ["cpu"], force_hooks=True)
    spread = adapted_from(loaded, LORA, checkpointing=True)
    spread.write(adapted.read())
    chosen = samples(adapted)
    found = single(spread, spread.layout.select(STAGE.groups, "B"), chosen, task()).vector
    assert np.abs(found - single(adapted, selection, chosen, task()).vector).max() <= 1e-6 * CLIP
