"""When the answer to a plan leaves: at a scheduled time, so that it does not tell how long the training took.

Training takes longer when more patients are drawn. A reply that leaves as soon as it is ready would tell the
coordinator, and anybody who watches the network, something about the draw, which privacy amplification needs secret.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["ReplySchedule", "release_time"]

_log = logging.getLogger(__name__)


def release_time(arrived: float, ready: float, period: float) -> float:
    """The first whole multiple of `period` after `arrived`, at least one, that is not before `ready`; all in seconds.

    A period of 0 is no schedule: `ready` itself.
    """
    if period <= 0:
        return ready
    return arrived + period * max(1, math.ceil((ready - arrived) / period))


class ReplySchedule:
    """Holds a reply back until its time.

    Args:
        clock: seconds that only ever grow, such as `time.monotonic`.
        sleep: waits so many seconds; it may return early.
    """

    def __init__(self, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._clock, self._sleep = clock, sleep
        self.overruns = 0  # replies that missed the first multiple; this number never leaves the site

    def now(self) -> float:
        """The clock's reading, to be taken when the message arrives."""
        return self._clock()

    @contextmanager
    def release(self, arrived: float, period: float) -> Iterator[None]:
        """Whatever ends the block, a result or an error, comes out at its scheduled time."""
        try:
            yield
        finally:
            ready = self._clock()
            due = release_time(arrived, ready, period)
            if period > 0 and ready - arrived > period:
                self.overruns += 1
                _log.warning("a reply missed its scheduled time and leaves at the next one; ask the coordinator for a "
                             "longer reply_after_s")
            while (left := due - self._clock()) > 0:
                self._sleep(left)
