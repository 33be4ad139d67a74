"""What rank 0 of a site and its other ranks say to each other: a typed message, and tensors beside it.

Orders: :class:`Begin` (a round's constants and the adapter), :class:`Rehearse`, :class:`Step` followed by one
:class:`Patient` for each of the share, :class:`Close`. Answers: :class:`Ready`, :class:`Part`, :class:`Failed`. No
message has a place for a random source, a draw of the site or noise. Nothing that is read can run code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from model.inputs import Encoded
from privacy.dp.ranks import RankError, StepFacts
from privacy.dp.shares import NoiseShare
from privacy.errors import MessageFormatError
from privacy.messages import StageSpec
from privacy.statistics import LaneScale
from privacy.wire import Message
from site_client.mechanism import LocalTask

__all__ = [
    "Begin", "Close", "Failed", "Part", "Patient", "Ready", "Rehearse", "Step", "pack", "samples_of", "task_of",
    "Tensors", "tensors_of", "unpack",
]  # fmt: skip

Tensors = Mapping[str, Tensor]
_LENGTH_BYTES = 4


@dataclass(frozen=True)
class Begin(Message):
    """A new mechanism. Tensor beside it: `adapter` float64, all its numbers."""

    session: bytes
    release: str
    base_model: bytes
    lora_rank: int
    lora_alpha: int
    lora_groups: tuple[str, ...]
    names: tuple[str, ...]  # of the trained factors, in layout order
    stage: StageSpec
    clip_norm: float
    private: bool
    lane_unit: float
    lane_gain: float
    lane_bound: float
    expected_patients: float
    max_rows: int
    max_tokens: int
    engine: Literal["own", "opacus"]
    share_levels: int = 0     # of distributed noise; 0 = none
    share_dimension: int = 0
    share_honest: int = 0


@dataclass(frozen=True)
class Rehearse(Message):
    """Public samples, as of a patient, beside it: one forward and backward of them."""


@dataclass(frozen=True)
class Step(Message):
    """Sum your share. Tensor beside it: `adapter` float64, the trained numbers; `patients` messages follow."""

    facts: StepFacts
    patients: int


@dataclass(frozen=True)
class Patient(Message):
    """One patient of the share, whole: every sample of the step beside it. `position` is that in the draw."""

    position: int


@dataclass(frozen=True)
class Close(Message):
    """The mechanism is over; give the model back."""


@dataclass(frozen=True)
class Ready(Message):
    """The order was followed; `digest` is that of what this rank holds now."""

    digest: bytes


@dataclass(frozen=True)
class Part(Message):
    """The share's sum beside it: `vector` float64."""

    rank: int
    digest: bytes
    l2_bound: float
    patients: int
    nonfinite: int


@dataclass(frozen=True)
class Failed(Message):
    """The order was not followed; `kind` is the error's class, never its text."""

    kind: str


def pack(message: Message, tensors: Tensors | None = None) -> bytes:
    """One frame: length of the message, the message, the tensors as safetensors."""
    body = message.to_bytes()
    beside = save({name: tensor.contiguous() for name, tensor in (tensors or {}).items()})
    frame: bytes = len(body).to_bytes(_LENGTH_BYTES, "big") + body + beside
    return frame


def unpack(frame: bytes, *kinds: type[Message]) -> tuple[Message, dict[str, Tensor]]:
    """The message, one of `kinds`, and its tensors. RankError for anything else."""
    end = _LENGTH_BYTES + int.from_bytes(frame[:_LENGTH_BYTES], "big")
    for kind in kinds:
        try:
            return kind.from_bytes(frame[_LENGTH_BYTES:end]), load(frame[end:])
        except MessageFormatError:
            continue
        except SafetensorError as error:
            raise RankError("a rank sent tensors that cannot be read") from error
    raise RankError("a rank sent another message than the one it was to send")


def task_of(begin: Begin) -> LocalTask:
    """The round's constants."""
    share = None
    if begin.share_levels:
        share = NoiseShare(begin.share_levels, begin.share_dimension, begin.clip_norm, begin.stage.noise_multiplier,
                           begin.share_honest)
    return LocalTask(
        stage=begin.stage, clip_norm=begin.clip_norm, private=begin.private,
        lanes=LaneScale(begin.lane_unit, begin.lane_gain), lane_bound=begin.lane_bound,
        expected_patients=begin.expected_patients, max_rows=begin.max_rows, max_tokens=begin.max_tokens,
        engine=begin.engine, share=share)


def tensors_of(samples: Sequence[Encoded]) -> dict[str, Tensor]:
    """What a forward needs of one patient's samples."""
    tiles = [read for sample in samples if (read := sample.read_pixels()) is not None]
    beside = {
        "ids": torch.cat([sample.input_ids for sample in samples]),
        "labels": torch.cat([sample.labels for sample in samples]),
        "lengths": torch.tensor([len(sample) for sample in samples]),
        "tiles": torch.tensor([sample.num_tiles for sample in samples]),
        "headers": torch.tensor([sample.header for sample in samples]),
    }
    return beside | ({"pixels": torch.cat(tiles)} if tiles else {})


def samples_of(tensors: Tensors) -> list[Encoded]:
    """The samples again, without what only questions to the model need (choices, lengths of prompts)."""
    lengths, tiles = tensors["lengths"].tolist(), tensors["tiles"].tolist()
    pixels = torch.split(tensors["pixels"], tiles) if "pixels" in tensors else [None] * len(tiles)
    texts = (torch.split(tensors[name], lengths) for name in ("ids", "labels"))
    rows = zip(*texts, pixels, tiles, tensors["headers"].tolist(), strict=True)
    return [Encoded(ids, labels, part if count else None, prompt_length=0, header=header)
            for ids, labels, part, count, header in rows]
