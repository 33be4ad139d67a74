"""A tiny base model on the disk, ragged patients with images, and ranks in this process, for tests of several ranks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model.adapted import AdaptedModel, adapted_from
from model.backbone import build, load_base, save_base
from model.inputs import Encoded, Example
from model.spec import LoraSpec
from model.tokenizer import train_tokenizer
from privacy.dp.ranks import RankError
from privacy.messages import SourceShare
from privacy.statistics import LaneScale
from site_client.mechanism import LocalTask
from site_client.rank_messages import Failed, Patient, Step, Tensors, pack, unpack
from site_client.rank_process import RankWorker
from tests.site_client.test_training import CLIP, DECLARED, MICRO, SHARE, Seeded, patch
from tests.site_client.test_training import STAGE as ONE_STAGE

__all__ = [
    "CLIP", "DECLARED", "LORA", "PATCHES", "REPORTS", "STAGE", "LocalGroup", "Seeded", "adapted", "base", "broken",
    "command", "fresh", "samples", "selection", "sent_patients", "task",
]  # fmt: skip

LORA = LoraSpec(rank=2, alpha=4)
STAGE = replace(ONE_STAGE, sources=(SourceShare("reports", 2), SourceShare("patches", 2)))
REPORTS = [Example("Findings: " + "effusion " * (1 + 3 * i) + "Is this study normal?", "abnormal",
                   ("normal", "abnormal")) for i in range(4)]
PATCHES = [Example("Are the two patches alike?", "yes", ("yes", "no"), (patch(i), patch(9))[: 1 + i % 2])
           for i in range(4)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapted(base: Path) -> AdaptedModel:
    return fresh(base)


@pytest.fixture
def selection(adapted: AdaptedModel) -> Any:
    adapted.write(adapted.initial)
    return adapted.layout.select(STAGE.groups, "B")


def write_base(folder: Path) -> Path:
    tokenizer = train_tokenizer([e.question + " " + e.answer for e in REPORTS + PATCHES], MICRO.vocab_size)
    save_base(build(MICRO, seed=3), tokenizer, MICRO, folder)
    return folder


def fresh(folder: Path) -> AdaptedModel:
    """The model of another process: nothing is shared with one opened before."""
    return adapted_from(load_base(folder), LORA)


def samples(adapted: AdaptedModel) -> list[list[Encoded]]:
    """Five patients: text alone, one image, two images in two samples, both kinds, a long text."""
    reports, patches = adapted.encode(REPORTS), adapted.encode(PATCHES)
    return [reports[:1], patches[:1], patches[1:3], [reports[2], patches[3]], reports[3:]]


def broken(sample: Encoded, how: str) -> Encoded:
    if how == "not a number":
        assert sample.pixel_values is not None
        return replace(sample, pixel_values=sample.pixel_values * float("nan"))
    return replace(sample, input_ids=sample.input_ids + MICRO.vocab_size)  # outside the vocabulary: it raises


def task(private: bool = False, clip: float = CLIP, **stage: Any) -> LocalTask:
    return LocalTask(
        stage=replace(STAGE, **stage), clip_norm=clip, private=private,
        lanes=LaneScale(SHARE * clip / 3**0.5, 1.0), lane_bound=SHARE * clip, expected_patients=float(DECLARED))


def command(base: Path, processes: int) -> Callable[[int, Path, float], Sequence[str]]:
    """As `RankGroup.of` makes it."""
    return lambda rank, folder, timeout_s: [
        sys.executable, "-m", "site_client.rank_process", "--rank", str(rank), "--processes", str(processes),
        "--folder", str(folder), "--base-model", str(base), "--timeout-s", str(timeout_s), "--device", "cpu"]


class LocalGroup:
    """Stands for `RankGroup`: the other ranks are workers in this process, each with a model of its own."""

    def __init__(self, base: Path, size: int = 2, kinds: Sequence[type[RankWorker]] = ()) -> None:
        self.size, self.pids = size, [1] * (size - 1)
        self.boxes = [Box() for _ in range(1, size)]
        self.workers = [
            (kinds[i] if kinds else RankWorker)(i + 1, box, lambda _, base=base: fresh(base))  # type: ignore[arg-type]
            for i, box in enumerate(self.boxes)]
        self.orders: list[tuple[int, bytes]] = []

    def start(self) -> None:
        """They run."""

    @contextmanager
    def whole(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.pids = []
            raise

    def send(self, rank: int, message: Any, tensors: Tensors | None = None) -> None:
        if not self.pids:
            raise RankError("the ranks do not run")
        frame = pack(message, tensors)
        self.orders.append((rank, frame))
        self.boxes[rank - 1].orders.append(frame)

    def answers(self, kind: type[Any]) -> list[Any]:
        return [self._answer(worker, box, kind) for worker, box in zip(self.workers, self.boxes, strict=True)]

    def _answer(self, worker: RankWorker, box: Box, kind: type[Any]) -> Any:
        try:
            answer = worker.follow(*unpack(box.receive(0), *ORDERS))
        except RankError:
            raise
        except Exception as error:
            answer = pack(Failed(type(error).__name__))
        found, tensors = unpack(answer, kind, Failed)
        if isinstance(found, Failed):
            raise RankError(found.kind)
        return found, tensors


class Box:
    """The orders that wait for one worker."""

    def __init__(self) -> None:
        self.orders: list[bytes] = []

    def receive(self, timeout_s: float) -> bytes:
        return self.orders.pop(0)


def sent_patients(group: LocalGroup, rank: int) -> list[int]:
    """Positions that were sent to one rank."""
    frames = [frame for to, frame in group.orders if to == rank]
    found: list[int] = []
    for frame in frames:
        try:
            message, _ = unpack(frame, Patient)
        except RankError:
            continue
        assert isinstance(message, Patient)
        found.append(message.position)
    return found


def _orders() -> tuple[type[Any], ...]:
    from site_client.rank_messages import Begin, Close, Rehearse

    return Begin, Rehearse, Step, Close


ORDERS = _orders()
torch.set_num_threads(1)
