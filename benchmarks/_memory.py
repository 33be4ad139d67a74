"""Peak memory of a piece of work: bytes above what was held when it began.

On the CPU it is the highest running sum of the allocator's events in a torch.profiler trace, on CUDA
`torch.cuda.max_memory_allocated`. What was allocated before (the weights) does not count; what the work keeps does.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch

__all__ = ["peak_bytes"]


def peak_bytes(work: Callable[[], object], device: str) -> int:
    """The peak of `work()` above the level before it, in bytes. Whatever it returns is kept until the end."""
    gc.collect()
    return _cuda(work) if device == "cuda" else _cpu(work)


def _cuda(work: Callable[[], object]) -> int:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    kept = work()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    del kept
    return peak


def _cpu(work: Callable[[], object]) -> int:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        kept = work()
        del kept
    events = [e for e in trace.profiler.kineto_results.events() if e.name() == "[memory]"]  # type: ignore[union-attr]
    if not events:
        raise RuntimeError("the profiler recorded no allocation: this build of torch cannot measure CPU memory")
    level = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        level += event.nbytes()
        peak = max(peak, level)
    return peak
