"""Measures one point of `benchmarks.secagg`: arms interleaved, process CPU time; peak memory in a traced run apart.

A repetition runs every arm once, in an order that rotates; a ratio is that of one repetition, so that what slows the
machine for a while slows all. Peak memory is what tracemalloc sees above the level at the start, with numpy's arrays.
"""

from __future__ import annotations

import gc
import hashlib
import statistics
import time
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from benchmarks._secagg_flower import FlowerSite, FlowerSum, Vectors
from benchmarks._secagg_round import SATURATION, Federation, record, replay
from privacy.entropy import SystemEntropy
from privacy.secagg.keys import Agreement, pair_mask_key, self_mask_key
from privacy.secagg.masking import apply_masks, mask_and_pack
from privacy.secagg.params import ring_params
from privacy.secagg.quantize import quantize

__all__ = ["Spread", "coordinator_memory", "coordinator_point", "flower_memory", "round_point", "site_memory",
           "site_point", "spread_of"]

_CHUNK = 1 << 18  # bytes of keystream at a time, as masks are made
Seconds = dict[str, list[float]]


@dataclass(frozen=True)
class Spread:
    """Median and range."""

    median: float
    low: float
    high: float
    count: int = field(default=1)


def spread_of(values: list[float]) -> Spread:
    """Raises ValueError when empty."""
    if not values:
        raise ValueError("a spread needs at least one value")
    return Spread(statistics.median(values), min(values), max(values), len(values))


def _vector(dimension: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).uniform(-SATURATION, SATURATION, dimension).astype(np.float32)


def _interleaved(arms: Mapping[str, Callable[[], object]], repetitions: int) -> Seconds:
    """CPU seconds of each arm in each repetition, in the same order in every list."""
    taken: Seconds = {name: [] for name in arms}
    names = list(arms)
    for turn in range(repetitions):
        at = turn % len(names)
        for name in names[at:] + names[:at]:
            gc.collect()
            begin = time.process_time()
            kept = arms[name]()
            taken[name].append(time.process_time() - begin)
            del kept
    return taken


def _traced(work: Callable[[], object]) -> int:
    """The peak of `work` above the level before it, bytes."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = work()
        peak = tracemalloc.get_traced_memory()[1] - before
        del kept
    finally:
        tracemalloc.stop()
    return peak


class _Site:
    """A site of `n` between the envelopes and its upload."""

    def __init__(self, n: int, vector: npt.NDArray[np.float32], bits: int = 24) -> None:
        draw = SystemEntropy()
        self._vector, self._ring = vector, ring_params(bits, SATURATION, n)
        self._pair, self._seed = Agreement.fresh(draw), draw.random_bytes(32)
        self._peers = [Agreement.fresh(draw).public_bytes() for _ in range(n - 1)]
        self.keys = self._derived()

    def _derived(self) -> tuple[list[bytes], list[bytes]]:
        ctx, h2 = bytes(32), bytes(32)
        pairs = [pair_mask_key(Agreement(self._pair.private_bytes()), peer, ctx, h2, "a", f"b{i}")
                 for i, peer in enumerate(self._peers)]
        return [self_mask_key(self._seed, ctx, h2, "a"), *pairs[::2]], pairs[1::2]

    def upload(self) -> npt.NDArray[np.uint8]:
        """Quantise, derive the keys, mask, pack."""
        values = quantize(self._vector, self._ring).values
        add, subtract = self._derived()
        return mask_and_pack(values, add, subtract, self._ring.bits)


def _keystream(keys: list[bytes], size: int) -> None:
    """The bare AES-256-CTR keystream of every key, `size` bytes each, made as masks are made and thrown away."""
    zeros, scratch = bytes(_CHUNK), bytearray(_CHUNK + 15)
    for key in keys:
        stream = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
        for start in range(0, size, _CHUNK):
            stream.update_into(memoryview(zeros)[: min(_CHUNK, size - start)], scratch)


def site_point(n: int, dimension: int, repetitions: int) -> Seconds:
    """A site's upload: flower, ours (quantise, keys, mask, pack), and of ours the masks, the bare keystream and the
    SHA-256 of the packed upload, which is not in `ours`."""
    vector = _vector(dimension)
    flower, ours = FlowerSite(n, vector), _Site(n, vector)
    packed, values = ours.upload(), np.zeros(dimension, dtype=np.uint32)
    add, subtract = ours.keys
    return _interleaved({
        "flower": flower.upload,
        "ours": ours.upload,
        "masks": lambda: apply_masks(values, add, subtract),
        "keystream": lambda: _keystream(add + subtract, 4 * dimension),
        "sha256": lambda: hashlib.sha256(packed.data).digest(),
    }, repetitions)


def coordinator_point(n: int, dimension: int, dropped: int, repetitions: int, *, flower: bool) -> Seconds:
    """From the first upload to the real sum. ours: `CoordinatorRound` on recorded bytes, with every check of it;
    fold: the part of it that takes uploads in, SHA-256 included."""
    made = record(Federation(n, dimension), _vector(dimension), dropped)
    parts: Seconds = {"ours": [], "fold": []}
    arms: dict[str, Callable[[], object]] = {}

    def ours() -> object:
        done = replay(made)
        parts["ours"].append(done.sums)
        parts["fold"].append(done.fold)
        return done

    arms["ours"] = ours
    if flower:
        threshold = made.federation.roster.threshold(n)
        total = FlowerSum(n, dropped, threshold)
        upload: Vectors = [np.array([1 << 21]), np.zeros(dimension, dtype=np.int64)]
        arms["flower"] = lambda: total.total([upload] * (n - dropped))
    taken = _interleaved(arms, repetitions)
    return taken | parts


def round_point(n: int, dimension: int, bits: int) -> dict[str, float]:
    """A whole round without dropouts: CPU seconds of the median and the slowest site and of the coordinator (control
    and sums), bytes a site sends and receives, bytes a parameter of its upload."""
    made = record(Federation(n, dimension, bits), _vector(dimension), 0)
    done = replay(made)
    sites = spread_of(list(made.seconds.values()))
    packed = next(iter(made.sent[2].values()))[1]
    return {"site": sites.median, "slowest": sites.high, "coordinator": done.control + done.sums,
            "control": done.control, "sums": done.sums, "up": max(made.up.values()), "down": max(made.down.values()),
            "bytes_a_parameter": packed.nbytes / dimension}


def site_memory(n: int, dimension: int) -> tuple[float, float]:
    """(ours, Flower's): peak of a site's upload above the float vector it starts from, as a multiple of uint32[d]."""
    vector = _vector(dimension)
    return _traced(_Site(n, vector).upload) / (4 * dimension), _traced(FlowerSite(n, vector).upload) / (4 * dimension)


def coordinator_memory(n: int, dimension: int) -> float:
    """Peak of a whole round at our coordinator, the upload that is just being read not counted, as a multiple of
    uint32[d]."""
    made = record(Federation(n, dimension), _vector(dimension), 0)
    return _traced(lambda: replay(made)) / (4 * dimension)


def flower_memory(n: int, dimension: int) -> float:
    """The same for Flower's workflow, which holds every site's decoded upload until all are in."""
    total = FlowerSum(n, 0, 2 * n // 3 + 1)
    return _traced(lambda: total.total(
        [[np.array([1 << 21]), np.zeros(dimension, dtype=np.int64)] for _ in range(n)])) / (4 * dimension)
