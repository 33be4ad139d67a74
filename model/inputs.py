"""From an Example (question, answer, images) to the tensors of one padded batch.

Rows are padded on the LEFT, so that every answer ends at the last position and the language head runs on the few
trailing positions that carry loss. Padding is masked; position embeddings are relative, so a row's result does not
depend on its neighbours in the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from model.harmony import HEADER_LENGTH, header_length, render
from model.spec import ModelSpec
from model.tiling import cut_tiles, normalised
from model.tokenizer import text_ids

__all__ = [
    "IGNORE", "Batch", "Encoded", "Example", "Image", "PendingTiles", "StoredImage", "arrays_of", "collate", "encode",
    "encode_all", "length_buckets", "tiles_of",
]  # fmt: skip

IGNORE = -100
"""Label of a token without loss (torch's `ignore_index`)."""


@runtime_checkable
class StoredImage(Protocol):
    """A picture that stays where it is, such as on disk, until a batch needs its tiles."""

    def num_tiles(self, *, image_size: int, max_tiles: int) -> int:
        """How many tiles it has in that form, without reading them."""

    def tiles(self, *, image_size: int, max_tiles: int) -> NDArray[np.uint8]:
        """uint8 (n, 3, image_size, image_size), as `model.tiling.cut_tiles` makes them."""


Image = NDArray[np.uint8] | StoredImage


@dataclass(frozen=True, eq=False)
class Example:
    """One question with its answer; choices: all answers to choose from, () for free text.

    images: uint8 (H, W, 3), RGB, or stored, in the order the question refers to them. key: a label of the caller's own.
    """

    question: str
    answer: str
    choices: tuple[str, ...] = ()
    images: tuple[Image, ...] = ()
    key: str = ""


@dataclass(frozen=True, eq=False)
class PendingTiles:
    """The tiles of a sample's images, of which stored ones are read each time they are asked for.

    parts: uint8 (n, 3, S, S), or a stored image with its number of tiles.
    """

    parts: tuple[torch.Tensor | tuple[StoredImage, int], ...]
    image_size: int
    max_tiles: int
    normalisation: str

    @property
    def counts(self) -> list[int]:
        """Tiles of each image."""
        return [part[1] if isinstance(part, tuple) else int(part.shape[0]) for part in self.parts]

    @property
    def num_tiles(self) -> int:
        """Tiles of all the images together."""
        return sum(self.counts)

    def read(self) -> torch.Tensor:
        """float32 (n_tiles, 3, S, S). Raises whatever reading raises, ValueError when a stored image has changed."""
        return normalised(torch.cat([self._tiles(part) for part in self.parts]), self.normalisation)

    def _tiles(self, part: torch.Tensor | tuple[StoredImage, int]) -> torch.Tensor:
        if isinstance(part, torch.Tensor):
            return part
        tiles = torch.from_numpy(part[0].tiles(image_size=self.image_size, max_tiles=self.max_tiles))
        if tiles.dtype != torch.uint8 or tiles.shape != (part[1], 3, self.image_size, self.image_size):
            raise ValueError("a stored image is not what it was when its sample was encoded")
        return tiles


class FrozenStates(Protocol):
    """What a sample's frozen layers put out; see `model.frozen_prefix`."""

    def read(self) -> torch.Tensor:
        """Floats (T, d) of this sample alone, unpadded."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """An Example as tensors; encode once, collate often.

    input_ids, labels: int64 (T,), labels IGNORE outside the assistant's turn. pixel_values: float32
    (n_tiles, 3, S, S) or None. prompt_length: tokens before the answer proper, i.e. `<|channel|>final<|message|>`
    included. choices: token ids of each choice; answer: which of them is right, -1 without choices. stored: tiles that
    are read when a batch needs them, in place of pixel_values. header: supervised tokens before the answer proper.
    frozen: outputs of the frozen layers, from which the rest is computed (`model.frozen_prefix`).
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    pixel_values: torch.Tensor | None
    prompt_length: int
    choices: tuple[tuple[int, ...], ...] = ()
    answer: int = -1
    truncated: bool = False
    key: str = ""
    stored: PendingTiles | None = None
    header: int = HEADER_LENGTH
    frozen: FrozenStates | None = None

    @property
    def num_tiles(self) -> int:
        """Tiles of all its images together."""
        if self.stored is not None:
            return self.stored.num_tiles
        return 0 if self.pixel_values is None else int(self.pixel_values.shape[0])

    def read_pixels(self) -> torch.Tensor | None:
        """float32 (n_tiles, 3, S, S) or None; stored tiles are read for each call, and reading may fail."""
        return self.pixel_values if self.stored is None else self.stored.read()

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])


@dataclass(frozen=True, eq=False)
class Batch:
    """B rows padded on the left to T tokens.

    input_ids, attention_mask, labels: int64 (B, T). pixel_values: float32 (n_tiles, 3, S, S) in row order, or None.
    tile_rows: int64 (n_tiles,), the row each tile belongs to. num_logits: trailing positions that the loss needs.
    header: of every row, as `Encoded.header`. states: (B, T, d) outputs of the frozen layers, zero on padding, or None.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor
    pixel_values: torch.Tensor | None
    tile_rows: torch.Tensor
    num_logits: int
    header: int = HEADER_LENGTH
    states: torch.Tensor | None = None

    @property
    def position_ids(self) -> torch.Tensor:
        """int64 (B, T): a row's first token is at 0, however much padding stands before it. Rotary angles are float32:
        with the padding counted, a row's numbers would depend on how long its neighbours are."""
        return (self.attention_mask.cumsum(dim=1) - 1).clamp(min=0)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        pixels = None if self.pixel_values is None else self.pixel_values.to(device)
        tensors = (self.input_ids, self.attention_mask, self.labels)
        ids, mask, labels = (tensor.to(device) for tensor in tensors)
        states = None if self.states is None else self.states.to(device)
        return Batch(ids, mask, labels, pixels, self.tile_rows.to(device), self.num_logits, self.header, states)


def encode(example: Example, tokenizer: Tokenizer, spec: ModelSpec) -> Encoded:
    """Tile the images and render the conversation. Raises ValueError for an example that cannot be one."""
    if example.choices and example.answer not in example.choices:
        raise ValueError("encode: the answer of an example must be one of its choices.")
    if not example.answer:
        raise ValueError("encode: an example needs a non-empty answer.")
    tiles = _pending(example, spec)
    counts, lazy = tiles.counts, any(isinstance(part, tuple) for part in tiles.parts)
    rendered = render(example.question, example.answer, counts, tokenizer, spec)
    if example.choices and rendered.ids[-1] != spec.eos_token_id:
        raise ValueError("encode: a choice must be shorter than half of the model's max_tokens.")
    ids = torch.tensor(rendered.ids, dtype=torch.int64)
    mask = torch.tensor(rendered.mask)
    return Encoded(
        input_ids=ids,
        labels=torch.where(mask, ids, IGNORE),
        pixel_values=None if lazy or not tiles.parts else tiles.read(),
        prompt_length=rendered.mask.index(True) + header_length(spec),
        choices=tuple(tuple(text_ids(tokenizer, choice)) for choice in example.choices),
        answer=example.choices.index(example.answer) if example.choices else -1,
        truncated=rendered.truncated,
        key=example.key,
        stored=tiles if lazy else None,
        header=header_length(spec),
    )


def tiles_of(example: Example, spec: ModelSpec) -> list[torch.Tensor]:
    """Each image's tiles as the model takes them, float32 (n, 3, S, S)."""
    pending = _pending(example, spec)
    return list(torch.split(pending.read(), pending.counts)) if pending.parts else []


def arrays_of(example: Example) -> tuple[NDArray[np.uint8], ...]:
    """Its images, which must be in memory. Raises ValueError when one is stored."""
    if any(isinstance(image, StoredImage) for image in example.images):
        raise ValueError("an example with stored images cannot be copied; read its pictures first")
    return tuple(image for image in example.images if isinstance(image, np.ndarray))


def _pending(example: Example, spec: ModelSpec) -> PendingTiles:
    form = {"image_size": spec.image_size, "max_tiles": spec.max_tiles}
    parts = [(image, image.num_tiles(**form)) if isinstance(image, StoredImage) else cut_tiles(image, **form)
             for image in example.images]
    return PendingTiles(tuple(parts), spec.image_size, spec.max_tiles, spec.normalisation)


def encode_all(examples: Iterable[Example], tokenizer: Tokenizer, spec: ModelSpec) -> list[Encoded]:
    """`encode` for each, in order."""
    return [encode(example, tokenizer, spec) for example in examples]


def collate(samples: Sequence[Encoded]) -> Batch:
    """Pad on the left and stack. Raises ValueError for an empty list (an empty draw needs no forward) and for samples
    of two formats; and whatever reading stored tiles or frozen states raises."""
    if not samples:
        raise ValueError("collate: a batch needs at least one sample.")
    if len({sample.header for sample in samples}) > 1:
        raise ValueError("collate: the samples of a batch must be of one conversation format.")
    length = max(map(len, samples))
    shape = (len(samples), length)
    input_ids = torch.zeros(shape, dtype=torch.int64)  # id 0 under the mask: never read
    attention_mask = torch.zeros(shape, dtype=torch.int64)
    labels = torch.full(shape, IGNORE, dtype=torch.int64)
    for row, sample in enumerate(samples):
        input_ids[row, length - len(sample) :] = sample.input_ids
        attention_mask[row, length - len(sample) :] = 1
        labels[row, length - len(sample) :] = sample.labels
    pixels = [tiles for sample in samples if (tiles := sample.read_pixels()) is not None]
    counts = torch.tensor([sample.num_tiles for sample in samples])
    return Batch(
        input_ids=input_ids,
        attention_mask=attention_mask,
        labels=labels,
        pixel_values=torch.cat(pixels) if pixels else None,
        tile_rows=torch.repeat_interleave(torch.arange(len(samples)), counts),
        num_logits=_num_logits(labels),
        header=samples[0].header,
        states=_padded_states(samples, length),
    )


def _padded_states(samples: Sequence[Encoded], length: int) -> torch.Tensor | None:
    """(B, length, d) where every sample has its frozen layers' outputs, else None: then all layers are computed."""
    held = [sample.frozen.read() for sample in samples if sample.frozen is not None]
    if len(held) < len(samples):
        return None
    states = held[0].new_zeros((len(held), length, held[0].shape[1]))
    for row, own in enumerate(held):
        states[row, length - len(own) :] = own
    return states


def length_buckets(samples: Sequence[Encoded], batch_size: int) -> list[list[int]]:
    """Indices in batches of similar length (images apart from text), every sample once; least padding, fixed order."""
    order = sorted(range(len(samples)), key=lambda i: (samples[i].num_tiles > 0, len(samples[i]), i))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def _num_logits(labels: torch.Tensor) -> int:
    """Trailing positions from the one that predicts the earliest label to the end; at least 1."""
    supervised = (labels != IGNORE).any(dim=0).nonzero()
    first = int(supervised[0]) if len(supervised) else labels.shape[1]
    return int(labels.shape[1]) - max(first - 1, 0) if len(supervised) else 1
