"""What a server can do instead of answering, and how often it is asked again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from site_client.sources.interface import SourceError

__all__ = ["NotGivenError", "Patience", "ServerFaultError", "ServerSilentError", "TooLargeError"]

WAITS_S = (0.5, 1.0, 2.0, 4.0)  # before each further try
_T = TypeVar("_T")


class NotGivenError(SourceError):
    """The server refuses this one request; another try does not help."""


class TooLargeError(NotGivenError):
    """The answer is longer than its bound."""


class ServerFaultError(SourceError):
    """The server reports an error of its own, or that it is busy; another try may help."""


class ServerSilentError(SourceError):
    """No connection, no answer in time, or an answer that broke off; another try may help."""


class Patience:
    """Tries again after each of `WAITS_S`; `pause` waits (seconds).

    After a fault that stayed, only once until an attempt succeeds: a server that is broken is not asked for long.
    """

    def __init__(self, pause: Callable[[float], None] = time.sleep) -> None:
        self._pause = pause
        self._faulty = False

    def of(self, attempt: Callable[[], _T]) -> _T:
        """The attempt's result, or what the last try raised; other errors than a fault and a silence pass at once."""
        for wait_s in () if self._faulty else WAITS_S:
            try:
                return attempt()
            except (ServerFaultError, ServerSilentError):
                self._pause(wait_s)
        try:
            result = attempt()
        except ServerFaultError:
            self._faulty = True
            raise
        self._faulty = False
        return result
