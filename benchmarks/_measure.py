"""Measures one point: every arm's peak memory, then interleaved rounds of timed steps until the time is up.

A round runs each arm once, in an order that rotates from round to round; an arm's ratio is taken to the non-private
step of the same round, so that what slows the machine for a while slows both. The arms that carry a goal run in every
round, the others in every fourth. Time is the process's CPU time with one torch thread, on CUDA the wall clock between
two synchronisations.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from benchmarks._arms import GOAL_ARMS, NONPRIVATE, OURS, Arm, Ours, UnsuitedArmError, arms_of
from benchmarks._grid import Point
from benchmarks._memory import peak_bytes
from benchmarks._ratios import Ratio, ratio_of
from benchmarks._workload import build, make_batch, precision

__all__ = ["ArmResult", "PointResult", "Settings", "measure"]

_MOST_ROUNDS = 60


@dataclass(frozen=True)
class Settings:
    """device: cpu or cuda; dtype: of `DTYPES`; attention: transformers' name of the implementation, in all arms."""

    device: str
    dtype: str
    attention: str


@dataclass
class ArmResult:
    """One arm at one point; time and memory None when it was skipped, with the reason."""

    median_s: float | None = None
    ratio: Ratio | None = None
    peak_bytes: int | None = None
    memory_ratio: float | None = None
    skipped: str = ""


@dataclass
class PointResult:
    """All arms at one point; noise_s: seconds of one release's noise (once a logical batch, not part of a step)."""

    point: Point
    arms: dict[str, ArmResult] = field(default_factory=dict)
    noise_s: float | None = None


def measure(point: Point, settings: Settings, deadline: float) -> PointResult:
    """Measure until `deadline` (of time.monotonic), at least three rounds. Running out of memory is a skip reason."""
    result = PointResult(point)
    adapted = build(point, settings.device, settings.dtype, settings.attention)
    batch = make_batch(point, settings.device)
    running: list[Arm] = []
    for kind in arms_of(point):
        made = result.arms[kind.name] = ArmResult()
        try:
            arm = kind(adapted, point, batch)
            _prepare(arm, settings)
            made.peak_bytes = _peak(kind(adapted, point, batch), settings)
            running.append(arm)
        except (UnsuitedArmError, torch.OutOfMemoryError) as error:
            made.skipped = _sentence(error)
        except Exception as error:
            if (isinstance(kind, type) and issubclass(kind, Ours)) or kind.name == NONPRIVATE:
                raise
            made.skipped = _sentence(error)  # what Opacus cannot do shows as an error of its own
    _rounds(running, result, settings, deadline)
    base = result.arms[NONPRIVATE].peak_bytes
    for made in result.arms.values():
        if made.peak_bytes is not None and base:
            made.memory_ratio = made.peak_bytes / base
    result.noise_s = _noise(running)
    return result


def _prepare(arm: Arm, settings: Settings) -> None:
    """Static buffers, and one step so that whatever is made once is made."""
    with precision(settings.dtype, settings.device):
        arm.attach()
        arm.step()
    arm.clear()


def _peak(arm: Arm, settings: Settings) -> int:
    """Peak of attaching and one step: static buffers count in full."""
    def work() -> object:
        with precision(settings.dtype, settings.device):
            arm.attach()
            return arm.step()

    return peak_bytes(work, settings.device)


def _rounds(arms: Sequence[Arm], result: PointResult, settings: Settings, deadline: float) -> None:
    """Fill in times and ratios."""
    if not any(arm.name == NONPRIVATE for arm in arms):
        return
    seconds: dict[str, list[tuple[int, float]]] = {arm.name: [] for arm in arms}
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        for turn in range(_MOST_ROUNDS):
            if turn >= 3 and time.monotonic() > deadline:
                break
            chosen = [arm for arm in arms if arm.name in GOAL_ARMS or turn % 4 == 0]
            start = turn % len(chosen)
            for arm in chosen[start:] + chosen[:start]:
                seconds[arm.name].append((turn, _seconds(arm, settings)))
            gc.collect()
    finally:
        gc.enable()
        gc.unfreeze()
    base = dict(seconds[NONPRIVATE])
    for name, values in seconds.items():
        result.arms[name].median_s = statistics.median(value for _, value in values)
        result.arms[name].ratio = ratio_of([value / base[turn] for turn, value in values])


def _seconds(arm: Arm, settings: Settings) -> float:
    with precision(settings.dtype, settings.device):
        taken = _cuda_seconds(arm.step) if settings.device == "cuda" else _cpu_seconds(arm.step)
    arm.clear()
    return taken


def _cpu_seconds(step: Callable[[], object]) -> float:
    begin = time.process_time()
    step()
    return time.process_time() - begin


def _cuda_seconds(step: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    begin = time.perf_counter()
    step()
    torch.cuda.synchronize()
    return time.perf_counter() - begin


def _noise(arms: Sequence[Arm]) -> float | None:
    """Seconds for the noise on one clipped sum, from the production source."""
    from privacy.dp.noise import noisy_sum
    from privacy.entropy import SystemEntropy

    ours = next((arm for arm in arms if arm.name == OURS), None)
    if not isinstance(ours, Ours):
        return None
    total, entropy = ours.engine.finish(), SystemEntropy()
    begin = time.process_time()
    noisy_sum(total, 1.0, entropy)
    return time.process_time() - begin


def _sentence(error: Exception) -> str:
    """What an arm said, short."""
    text = str(error).split("\n")[0][:110]
    return text if isinstance(error, UnsuitedArmError) else f"{type(error).__name__}: {text}"
