"""Sites with one defence switched off, to show that the attack against it is real and that the judge sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from privacy.identity import Roster
from privacy.secagg import checks
from privacy.secagg.client import SiteRound

__all__ = ["AnswersAgain", "NoFloor", "NoQuorum", "NoSignatures", "ThresholdOne"]


class _Blind(SiteRound):
    """A site that takes its steps under `_blinded`."""

    def share(self, advertise_list: bytes) -> bytes:
        """See `SiteRound`."""
        with self._blinded():
            return super().share(advertise_list)

    def mask(self, envelope_list: bytes) -> tuple[bytes, npt.NDArray[np.uint8]]:
        """See `SiteRound`."""
        with self._blinded():
            return super().mask(envelope_list)

    def confirm(self, masked_list: bytes) -> bytes:
        """See `SiteRound`."""
        with self._blinded():
            return super().confirm(masked_list)

    def unmask(self, confirm_list: bytes) -> bytes:
        """See `SiteRound`."""
        with self._blinded():
            return super().unmask(confirm_list)

    @contextmanager
    def _blinded(self) -> Iterator[None]:
        raise NotImplementedError
        yield


class _Ignores(_Blind):
    """Carries on where `privacy.secagg.checks` would have refused with one of these codes."""

    ignored: ClassVar[tuple[str, ...]]

    @contextmanager
    def _blinded(self) -> Iterator[None]:
        refuse: Callable[[bool, str], None] = checks._refuse

        def selective(condition: bool, code: str) -> None:
            refuse(condition and code not in self.ignored, code)

        with patch.object(checks, "_refuse", selective):
            yield


class NoSignatures(_Ignores):
    """Does not check who signed what it is told."""

    ignored = ("E_SIG",)


class NoQuorum(_Ignores):
    """Reveals shares without a quorum on its survivor list."""

    ignored = ("E_QUORUM",)


class NoFloor(_Blind):
    """Takes part in a cohort of any size."""

    @contextmanager
    def _blinded(self) -> Iterator[None]:
        with patch.object(checks, "_check_floor", lambda size, cohort: None):
            yield


class ThresholdOne(_Blind):
    """Deals shares of which one is enough."""

    @contextmanager
    def _blinded(self) -> Iterator[None]:
        with patch.object(Roster, "threshold", lambda self, n: 1):
            yield


class AnswersAgain(SiteRound):
    """Answers a second survivor list as if it were the first."""

    def confirm(self, masked_list: bytes) -> bytes:
        """See `SiteRound`."""
        if self._state in ("confirmed", "done"):
            self._state = "masked"
        return super().confirm(masked_list)

    def unmask(self, confirm_list: bytes) -> bytes:
        """See `SiteRound`."""
        dealt: dict[str, Any] = dict(self._dealt)
        reply = super().unmask(confirm_list)
        self._dealt = dealt
        return reply
