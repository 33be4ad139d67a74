"""When the answer to a plan leaves: at a scheduled time, so that it does not tell how long the training took.

Training takes longer when more patients are drawn. A reply that leaves as soon as it is ready would tell the
coordinator, and anybody who watches the network, something about the draw, which privacy amplification needs secret.
A late reply leaves at a power-of-two multiple of the period, so that a miss tells the order of magnitude only.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["ReplySchedule", "release_time"]

_log = logging.getLogger(__name__)


def release_time(arrived: float, ready: float, period: float) -> float:
    """`arrived` plus the first of `period`, 2, 4, 8... times `period` that is not before `ready`; all in seconds.

    A period of 0 is no schedule: `ready` itself. Raises ValueError for a negative period, or a number not finite.
    """
    if not (period >= 0 and math.isfinite(period) and math.isfinite(arrived) and math.isfinite(ready)):
        raise ValueError("a schedule needs finite times and a period of 0 or more")
    if period == 0:
        return ready
    wait = period
    while arrived + wait < ready:  # doubling ends, however short the period is
        wait *= 2
    return arrived + wait


class ReplySchedule:
    """Holds a reply back until its time.

    Args:
        clock: seconds that only ever grow, such as `time.monotonic`.
        sleep: waits so many seconds; it may return early.
    """

    def __init__(self, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._clock, self._sleep = clock, sleep
        self.overruns = 0  # replies that missed their first time; this number never leaves the site

    def now(self) -> float:
        """The clock's reading, to be taken when the message arrives."""
        return self._clock()

    @contextmanager
    def release(self, arrived: float, period: float) -> Iterator[None]:
        """Whatever ends the block, a result or an error, comes out at its scheduled time.

        Raises SystemExit when the time cannot be kept: no handler turns that into a reply, so the process ends without
        one, and the coordinator asks its successor again.
        """
        try:
            yield
        finally:
            try:
                self._hold(arrived, period)
            except Exception as error:  # as a reply it would leave at once, and tell how long the training took
                raise SystemExit(f"a reply cannot be held back until its time kind={type(error).__name__}") from None

    def _hold(self, arrived: float, period: float) -> None:
        if period == 0:
            return
        ready = self._clock()
        due = release_time(arrived, ready, period)
        if ready - arrived > period:
            self.overruns += 1
            _log.warning("a reply missed its scheduled time and leaves at a later one; ask the coordinator for a "
                         "longer reply_after_s")
        while (left := due - self._clock()) > 0:
            self._sleep(left)
