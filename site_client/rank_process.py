"""One further rank of a site: sums the patients that rank 0 sends it, and gives the clipped sum back.

`site_client.ranks` starts it and ends it. It reads no patient's file, no key and no ledger, and has no random source:
it gets a base model's folder, its devices, and over its standard input the key of its channel. It stays with its model
loaded for all rounds, and ends when rank 0 does.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.adapted import AdaptedModel
from model.adapter import AdapterLayout, Selection, adapter_hash
from model.placement import open_placed
from model.spec import LoraSpec
from privacy.dp.ranks import RankError, StepFacts
from privacy.release import release_hash
from privacy.transport.child import log_to_output
from privacy.wire import Message
from site_client.mechanism import PatientSums
from site_client.rank_channel import KEY_BYTES, RankChannel, open_group
from site_client.rank_messages import (
    Begin,
    Close,
    Failed,
    Part,
    Patient,
    Ready,
    Rehearse,
    Step,
    pack,
    samples_of,
    task_of,
    unpack,
)

__all__ = ["FOR_EVER_S", "RankWorker", "arrival", "main"]

FOR_EVER_S = 10.0 * 365 * 86400  # between two rounds; the end of rank 0 ends the wait
_ANSWER_S = 600.0
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG
_log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """`python -m site_client.rank_process --rank R --processes N --folder DIR --base-model DIR --timeout-s S
    --device cuda:1 [--device cuda:2]...`, with the key on the standard input."""
    parser = argparse.ArgumentParser(prog="site_client.rank_process", description=__doc__)
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--processes", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--base-model", required=True)
    parser.add_argument("--timeout-s", type=float, required=True)
    parser.add_argument("--device", action="append", required=True)
    arguments = parser.parse_args(argv)
    os.umask(0o077)
    _end_with_parent()
    log_to_output(strict=True)
    key = sys.stdin.buffer.read(KEY_BYTES)
    arrival(arguments.folder, arguments.rank).touch(0o600)
    group = open_group(arguments.folder, arguments.rank, arguments.processes, arguments.timeout_s)
    channel = RankChannel(group, arguments.rank, 0, key)
    worker = RankWorker(
        arguments.rank, channel,
        lambda lora: open_placed(arguments.base_model, lora, arguments.device, arguments.device != ["cpu"]))
    try:
        channel.send(pack(Ready(bytes(32))), arguments.timeout_s)
        worker.serve()
    except RankError as error:  # rank 0 is gone, or does not speak as it should: it starts another in our place
        _log.info("over: %s", error)
    return 0


def _end_with_parent() -> None:
    """The kernel kills this process when the one that started it ends (Linux)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "prctl"):
        libc.prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def arrival(folder: Path, rank: int) -> Path:
    """The file that says that this rank is about to join the group."""
    return folder / f"rank-{rank}.here"


class RankWorker:
    """Follows rank 0's orders, one after the other."""

    def __init__(self, rank: int, channel: RankChannel, open_model: Callable[[LoraSpec], AdaptedModel]) -> None:
        self._rank, self._channel, self._open_model = rank, channel, open_model
        self._begun: Begin | None = None
        self._adapted: AdaptedModel | None = None
        self._selection: Selection | None = None
        self._sums: PatientSums | None = None
        self._number = 0

    def serve(self) -> None:
        """Until RankError: the channel is closed or broken."""
        while True:
            order, tensors = unpack(self._channel.receive(FOR_EVER_S), Begin, Rehearse, Step, Close)
            try:
                answer = self.follow(order, tensors)
            except RankError:
                raise
            except Exception as error:  # never its text: it may quote a patient's value
                _log.error("order=%s failed kind=%s", type(order).__name__, type(error).__name__)
                answer = pack(Failed(type(error).__name__))
            # Process 0 may still be at its own share, for as long as its patients take: a limit would make the round
            # fail by what one patient's share weighs.
            self._channel.send(answer, FOR_EVER_S)

    def follow(self, order: Message, tensors: dict[str, Tensor]) -> bytes:
        """The answer to one order."""
        if isinstance(order, Begin):
            return self._begin(order, tensors)
        if isinstance(order, Step):
            return self._step(order, tensors)
        if isinstance(order, Rehearse):
            self._mechanism().rehearse(samples_of(tensors))
            return pack(Ready(self._facts((), None).digest()))
        self._close()
        return pack(Ready(bytes(32)))

    def _begin(self, order: Begin, tensors: dict[str, Tensor]) -> bytes:
        self._close()
        adapted = self._open_model(LoraSpec(rank=order.lora_rank, alpha=order.lora_alpha, groups=order.lora_groups))
        adapted.write(tensors["adapter"].numpy())
        self._begun, self._adapted, self._number = order, adapted, 0
        self._selection = _named(adapted.layout, order.names)
        self._sums = PatientSums(adapted, self._selection, task_of(order))
        return pack(Ready(self._facts((), None).digest()))

    def _step(self, order: Step, tensors: dict[str, Tensor]) -> bytes:
        patients = [unpack(self._channel.receive(_ANSWER_S), Patient) for _ in range(order.patients)]
        sums, adapted = self._mechanism(), self._adapted
        if adapted is None or tuple(_position(one) for one, _ in patients) != order.facts.shares[self._rank]:
            raise ValueError("other patients arrived than this rank's share names")
        adapted.write(tensors["adapter"].numpy(), self._selection)
        if order.facts.threshold is not None:
            sums.set_threshold(order.facts.threshold)
        self._number += 1
        facts = self._facts(order.facts.shares, order.facts.threshold)
        clipped = sums.clipped_sum([samples_of(beside) if beside else [] for _, beside in patients])
        part = Part(
            self._rank, facts.digest(), clipped.l2_bound, clipped.num_patients_local, clipped.num_nonfinite_local)
        return pack(part, {"vector": torch.from_numpy(clipped.vector)})

    def _facts(self, shares: tuple[tuple[int, ...], ...], threshold: float | None) -> StepFacts:
        """What this rank holds itself, whatever it was told."""
        if self._begun is None or self._adapted is None:
            raise ValueError("there is no round: the first order begins one")
        return StepFacts(
            self._begun.session, self._number, release_hash(), self._adapted.base.content_hash,
            adapter_hash(self._adapted.read()), shares, threshold)

    def _mechanism(self) -> PatientSums:
        if self._sums is None:
            raise ValueError("there is no round: the first order begins one")
        return self._sums

    def _close(self) -> None:
        sums, self._sums, self._begun = self._sums, None, None
        if sums is not None:
            sums.close()


def _position(patient: Message) -> int:
    return patient.position if isinstance(patient, Patient) else -1


def _named(layout: AdapterLayout, names: tuple[str, ...]) -> Selection:
    """The selection of these factors; ValueError for one that the layout does not have."""
    chosen = [entry for entry in layout.entries if entry.name in set(names)]
    if tuple(entry.name for entry in chosen) != names:
        raise ValueError("the trained factors are not this model's, in its order")
    parts = [np.arange(entry.offset, entry.offset + entry.size, dtype=np.int64) for entry in chosen]
    indices = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
    return Selection(names, int(indices.size), indices)


if __name__ == "__main__":
    sys.exit(main())
