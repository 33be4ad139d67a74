"""Each protocol step of a round is told to an observer: its time, and how many sites were asked and answered well."""

from __future__ import annotations

from typing import Any

from coordinator.run_store.records import event_of, step_row
from tests.coordinator.test_rounds import IDS, Sites, losing, run

STEPS = ["sa_train", "sa_share", "sa_mask", "sa_confirm", "sa_unmask", "sa_result"]


def told(link: Sites) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = []
    run(link, observe_step=seen.append)
    return seen


def test_every_step_of_every_round_in_order() -> None:
    seen = told(Sites())
    rounds = max(event["round"] for event in seen)
    assert [(event["round"], event["step"]) for event in seen] == [
        (number, step) for number in range(1, rounds + 1) for step in STEPS] and rounds > 1
    assert all(event["asked"] == event["answered"] == len(IDS) and event["seconds"] >= 0 for event in seen)


def test_a_site_that_is_lost_is_asked_and_has_not_answered() -> None:
    first = [event for event in told(Sites(losing((IDS[0], 1, "sa_mask")))) if event["round"] == 1]
    counts = {event["step"]: (event["asked"], event["answered"]) for event in first}
    everybody, rest = len(IDS), len(IDS) - 1
    assert counts["sa_mask"] == (everybody, rest) and counts["sa_confirm"] == (rest, rest)


def test_the_store_takes_what_is_told() -> None:
    import json

    event = {"event": "step", "time": 1.0, **told(Sites())[0]}
    assert step_row(event_of(json.dumps(event).encode()))["step"] == "sa_train"
