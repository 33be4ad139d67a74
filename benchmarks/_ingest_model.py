"""Private steps of the small model on pictures that lie in the cache, and on the same pictures in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from model.adapted import AdaptedModel
from model.adapter import AdapterLayout, attach
from model.backbone import BaseModel, build
from model.inputs import Example
from model.spec import TINY, LoraSpec
from model.tiling import cut_tiles
from model.tokenizer import train_tokenizer
from privacy.messages import SourceShare, StageSpec
from privacy.statistics import LaneScale
from site_client.indexing.tile_cache import CachedImage, TileCache, TileForm
from site_client.mechanism import LocalTask, PatientSums

__all__ = ["PrivateEpoch"]

_QUESTION, _ANSWERS = "Which of the two patches is larger?", ("the first", "the second")
_CLIP = 0.05


class PrivateEpoch:
    """Every patient once: forward, per-patient gradient, clip, sum. `folder` holds the cache."""

    def __init__(self, folder: Path, patients: int) -> None:
        torch.set_num_threads(1)
        tokenizer = train_tokenizer([f"{_QUESTION} {answer}" for answer in _ANSWERS], TINY.vocab_size)
        base = BaseModel(build(TINY, seed=3), tokenizer, TINY, bytes(32))
        model = attach(base.model, LoraSpec(rank=4, alpha=8), seed=0)
        model.eval()
        layout = AdapterLayout(model)
        self._adapted = AdaptedModel(base, model, layout, layout.read(model))
        stage = StageSpec(
            name="bench", sources=(SourceShare("questions", 1),), groups=("attention", "projector"), schedule="both",
            learning_rate=1.0, momentum=0.0, local_steps=1, sampling_rate=1.0, noise_multiplier=1.0, max_rounds=1)
        self._task = LocalTask(
            stage=stage, clip_norm=_CLIP, private=True, lanes=LaneScale(0.1 * _CLIP / 3**0.5, 1.0),
            lane_bound=0.1 * _CLIP, expected_patients=float(patients))
        self._selection = layout.select(stage.groups, "AB")
        self._arms = {"cache": [], "memory": []}  # type: dict[str, list[list[Encoded]]]
        cache, form = TileCache(folder / "tiles"), TileForm(TINY.image_size, TINY.max_tiles)
        for number in range(patients):
            pictures = [_picture(number, place) for place in (0, 1)]
            stored = [_cached(cache, form, f"{number}-{place}", picture) for place, picture in enumerate(pictures)]
            for name, images in (("cache", stored), ("memory", pictures)):
                example = Example(_QUESTION, _ANSWERS[number % 2], images=tuple(images))
                self._arms[name].append(self._adapted.encode([example]))

    @property
    def tiles_a_patient(self) -> int:
        """Of both pictures together."""
        return self._arms["cache"][0][0].num_tiles

    def run(self, arm: str) -> None:
        """One epoch of `cache` or `memory`."""
        sums = PatientSums(self._adapted, self._selection, self._task)
        try:
            sums.clipped_sum(self._arms[arm])
        finally:
            sums.close()


def _picture(number: int, place: int) -> np.ndarray:
    random = np.random.default_rng([3, number, place])
    return random.integers(0, 256, (300, 400, 3), dtype=np.uint8)


def _cached(cache: TileCache, form: TileForm, label: str, picture: np.ndarray) -> CachedImage:
    tiles = cut_tiles(picture, image_size=form.image_size, max_tiles=form.max_tiles).numpy()
    name = TileCache.name(label, 0, form)
    cache.write(name, tiles)
    return CachedImage(cache, name, form, len(tiles))
