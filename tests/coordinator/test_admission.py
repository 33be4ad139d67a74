"""The door of a run: whom it waits for, and whom not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from coordinator.admission import Door
from coordinator.conversation import RoundFailedError
from coordinator.exchange import Reply
from privacy.errors import NOBODY
from privacy.messages import ErrorReply
from tests.coordinator.test_rounds import MANIFEST, ROSTER


class Refusing:
    """A link whose sites all refuse the manifest with one code; `times` counts how often they were asked."""

    def __init__(self, code: str) -> None:
        self.code, self.times = code, 0

    def meet(self, body: bytes, timeout_s: float, step: str = "hello") -> Iterator[Reply]:
        self.times += step == "hello"
        for site in ROSTER.active_ids:
            yield Reply(site, ErrorReply(self.code, NOBODY).to_bytes())


def door(link: Any, wait_s: float) -> Door:
    return Door(MANIFEST, b"signed", ROSTER, link, 1.0, lambda event, facts: None, wait_s=wait_s)


def test_nobody_waits_for_sites_that_refuse_for_good():
    link, begin = Refusing("P_BUDGET"), time.monotonic()
    with pytest.raises(RoundFailedError, match="P_BUDGET"):
        door(link, 60.0).admit_first()
    assert link.times == 1
    assert time.monotonic() - begin < 3


def test_sites_that_may_change_their_mind_are_asked_again():
    link = Refusing("P_HOURS")
    with pytest.raises(RoundFailedError, match="P_HOURS"):
        door(link, 4.0).admit_first()
    assert link.times >= 2
