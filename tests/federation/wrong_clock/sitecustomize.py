"""Every Python process that has this folder on its path is told a time that is CLOCK_SHIFT_S seconds off.

A library loaded before the C library, such as libfaketime, shifts the clocks too with which waits are measured, and
Python's waits for a lock then never end. What OpenSSL thinks of the time is not changed.
"""

import datetime as module
import os
import time

_SHIFT_S = float(os.environ["CLOCK_SHIFT_S"])
_time, _time_ns, _real = time.time, time.time_ns, module.datetime


class _Either(type):
    def __instancecheck__(cls, value):
        return isinstance(value, _real)


class _Shifted(_real, metaclass=_Either):
    @classmethod
    def now(cls, tz=None):
        return _real.now(tz) + module.timedelta(seconds=_SHIFT_S)

    @classmethod
    def utcnow(cls):
        return _real.now(module.UTC).replace(tzinfo=None) + module.timedelta(seconds=_SHIFT_S)


time.time = lambda: _time() + _SHIFT_S
time.time_ns = lambda: _time_ns() + int(_SHIFT_S * 1e9)
module.datetime = _Shifted
