"""A checkpoint of any layout becomes a base model folder of this project, without ever being in memory as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from model.backbone import check_tokenizer, empty, expected_tensors, write_description
from model.checkpoint import Source, Step
from model.weights_writing import SHARD_BYTES, Progress, write_weights

__all__ = ["convert"]


def convert(
    source: Source, directory: Path, *, shard_bytes: int = SHARD_BYTES, progress: Progress | None = None
) -> None:
    """Write `source` into the empty folder `directory`; all of it is checked before the first byte is written.

    The same source gives the same bytes. Raises ValueError, one sentence, as `Source.plan` and `Step.tensors`.
    """
    check_tokenizer(source.tokenizer, source.spec)
    model = empty(source.spec)
    expected = expected_tensors(model)
    steps = source.plan(expected)
    write_weights(_tensors(steps), expected, directory, shard_bytes=shard_bytes, progress=progress)
    write_description(model, source.tokenizer, source.spec, directory)


def _tensors(steps: tuple[Step, ...]) -> Iterator[tuple[str, Tensor]]:
    for step in steps:
        yield from step.tensors()
