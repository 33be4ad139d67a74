"""A site's mechanism over several processes: whole patients are shared out, their clipped sums added, noise drawn once.

Only `clipped_sum` differs from one process. Draw, samples, noise and the optimiser's step stay in this process, rank 0;
the next step's orders carry the adapter that the noised sum led to.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from model.adapted import AdaptedModel
from model.adapter import Selection, adapter_hash
from model.inputs import Encoded
from privacy.dp.clipping import SLACK, ClippedSum
from privacy.dp.ranks import RankError, RankSum, StepFacts, joined, require_partition, share_out
from privacy.entropy import Entropy, SystemEntropy
from privacy.release import release_hash
from site_client.mechanism import LocalTask, PatientMechanism
from site_client.rank_messages import Begin, Close, Part, Patient, Ready, Rehearse, Step, tensors_of
from site_client.ranks import RankGroup
from site_client.training import Mechanism

__all__ = ["RankedMechanism", "ranked"]

_log = logging.getLogger(__name__)
_TILE_COST = 4  # of an image tile, in text tokens on top of those that stand for it: a rough guess, only for balance
_SESSION_BYTES = 16


def ranked(group: RankGroup) -> Mechanism:
    """What makes the mechanisms of a site that trains on `group`."""

    def make(adapted: AdaptedModel, selection: Selection, task: LocalTask, entropy: Entropy) -> PatientMechanism:
        return RankedMechanism(group, adapted, selection, task, entropy)

    return make


class RankedMechanism(PatientMechanism):
    """The mechanism of one round on all ranks of `group`, which it starts where they do not run.

    Raises RankError when a rank does not come up, does not hold the same model, or later is lost or out of step.
    """

    def __init__(
        self, group: RankGroup, adapted: AdaptedModel, selection: Selection, task: LocalTask, entropy: Entropy
    ) -> None:
        group.start()
        super().__init__(adapted, selection, task, entropy)
        self._group, self._selection, self._number = group, selection, 0
        self._session = SystemEntropy().random_bytes(_SESSION_BYTES)
        try:
            with group.whole():
                self._begin()
        except BaseException:
            super().close()
            raise

    def rehearse(self, public: Sequence[Encoded]) -> None:
        """On every rank."""
        with self._group.whole():
            for rank in range(1, self._group.size):
                self._group.send(rank, Rehearse(), tensors_of(public))
            super().rehearse(public)
            self._require_ready()

    def clipped_sum(self, chosen: Sequence[list[Encoded]]) -> ClippedSum:
        """As one process'; RankError, and nothing, when it is not the sum over all of `chosen`."""
        with self._group.whole():
            self._number += 1
            shares = self._shares(chosen)
            require_partition(shares, len(chosen))
            facts = self._facts(shares)
            for rank in range(1, self._group.size):
                self._send_share(rank, facts, chosen)
            own = super().clipped_sum([chosen[position] for position in shares[0]])
            parts = [RankSum(0, facts.digest(), own), *(_sum_of(*answer) for answer in self._group.answers(Part))]
            slack = SLACK if self._task.share is None else 0.0
            total = joined(parts, facts, own.l2_bound, own.vector.size, slack=slack)
            return self._engine.sum_of(total.vector, total.num_patients_local, total.num_nonfinite_local)

    def close(self) -> None:
        """Give the model back, on every rank."""
        super().close()
        if self._group.pids:
            with self._group.whole():
                for rank in range(1, self._group.size):
                    self._group.send(rank, Close())
                self._group.answers(Ready)

    def _shares(self, chosen: Sequence[list[Encoded]]) -> tuple[tuple[int, ...], ...]:
        costs = [sum(len(sample) + _TILE_COST * sample.num_tiles for sample in samples) for samples in chosen]
        return share_out(costs, self._group.size)

    def _send_share(self, rank: int, facts: StepFacts, chosen: Sequence[list[Encoded]]) -> None:
        share = facts.shares[rank]
        adapter = torch.from_numpy(self._adapted.read(self._selection))
        self._group.send(rank, Step(facts, len(share)), {"adapter": adapter})
        for position in share:
            self._group.send(rank, Patient(position), _readable(chosen[position]))

    def _begin(self) -> None:
        task, lora = self._task, self._adapted.lora
        begin = Begin(
            self._session, release_hash(), self._adapted.base.content_hash, lora.rank, lora.alpha, tuple(lora.groups),
            self._selection.names, task.stage, task.clip_norm, task.private, task.lanes.unit, task.lanes.gain,
            task.lane_bound, task.expected_patients, task.max_rows, task.max_tokens, task.engine,
            *((0, 0, 0) if task.share is None else (task.share.levels, task.share.dimension, task.share.honest)))
        for rank in range(1, self._group.size):
            self._group.send(rank, begin, {"adapter": torch.from_numpy(self._adapted.read())})
        self._require_ready()

    def _require_ready(self) -> None:
        """Every rank holds the same code, base model and adapter."""
        digest = self._facts(()).digest()
        for rank, (ready, _) in enumerate(self._group.answers(Ready), 1):
            if ready.digest != digest:
                raise RankError(f"rank {rank} holds another release, base model or adapter")

    def _facts(self, shares: tuple[tuple[int, ...], ...]) -> StepFacts:
        threshold = None if self._threshold is None or not shares else self._threshold.value
        return StepFacts(
            self._session, self._number, release_hash(), self._adapted.base.content_hash,
            adapter_hash(self._adapted.read()), shares, threshold)


def _readable(samples: list[Encoded]) -> dict[str, torch.Tensor]:
    """What the patient's rank needs; nothing where a picture cannot be read, and that rank counts it as one who
    failed: an error here would end the round for everybody."""
    try:
        return tensors_of(samples)
    except Exception as error:  # never its text: it may name a file
        _log.warning("a patient cannot be read kind=%s", type(error).__name__)
        return {}


def _sum_of(part: Part, tensors: dict[str, torch.Tensor]) -> RankSum:
    """RankError for a vector that is not a sum of finite numbers."""
    vector = tensors.get("vector")
    if vector is None or vector.dtype != torch.float64:
        raise RankError(f"rank {part.rank} sent no sum")
    try:
        return RankSum(part.rank, part.digest, ClippedSum(vector.numpy(), part.l2_bound, part.patients, part.nonfinite))
    except ValueError as error:
        raise RankError(f"rank {part.rank} sent a sum that is none: {error}") from error
