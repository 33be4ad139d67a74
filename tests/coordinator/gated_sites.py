"""A coordinator's round loop and four real site sessions, of a run with gates; training and model are stand-ins.

A site's validation patients are their own losses: `Hospital.losses` says what its model is worth there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.exchange import Outgoing, Reply
from coordinator.rounds import Federation, RunState, run_rounds
from privacy.evaluation import EvaluationTerms, Gate
from privacy.messages import RunManifest
from site_client.session import SiteSession
from tests.coordinator.test_rounds import Memory
from tests.site_client.small_site import COORDINATOR, IDS, INITIAL, MANIFEST, ROSTER, SIZE, STAGE, Site, session_of

GATE = Gate(threshold=2.0, min_patients=10, max_repeats=1, spare=1)
TERMS = EvaluationTerms(every_rounds=0, loss_cap=4.0, noise_multiplier=1.0, gate=GATE)
GOOD, BAD = [0.5] * 60, [3.5] * 60
LARGE = 1e6  # epsilon that nothing here reaches


def gated(gate: Gate | None = GATE, *, rounds: int = 1, every_rounds: int = 0, **changed: Any) -> RunManifest:
    """Two stages of so many rounds; the first has an evaluation, and `gate`."""
    stage = replace(STAGE, max_rounds=rounds)
    terms = replace(TERMS, gate=gate, every_rounds=every_rounds)
    stages = (replace(stage, evaluation=terms), replace(stage, name="two"))
    return replace(MANIFEST, **{
        "stages": stages, "integrity_tags": 1, "validation_share": 0.2, "target_epsilon": LARGE, **changed})


class Hospital(Site):
    """A site whose validation patients have these losses."""

    def __init__(self, folder: Path, site_id: str, losses: list[float], **policy: Any) -> None:
        super().__init__(folder, site_id, **{"max_epsilon": LARGE, **policy})
        self.losses = losses
        self.evaluations = 0

    def split_patients(self, adapted: object, validation_share: float) -> tuple[list[Any], list[float]]:
        return [], self.losses


@pytest.fixture(autouse=True)
def evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "site_client.evaluation.patient_losses", lambda adapted, patients, stage: np.array(patients, dtype=float))


Tamper = Callable[[str, int, str, Outgoing], Outgoing | None]


class Hospitals:
    """A link to four sessions; `tamper` changes a message on its way, or loses it (None)."""

    def __init__(
        self, folder: Path, losses: Mapping[str, list[float]] | None = None, manifest: RunManifest | None = None,
        tamper: Tamper = lambda site, number, step, message: message,
    ) -> None:
        self.manifest = gated() if manifest is None else manifest
        self.sites = {name: Hospital(folder / name, name, (losses or {}).get(name, GOOD)) for name in IDS}
        self.sessions: dict[str, SiteSession] = {
            name: session_of(site, self.manifest) for name, site in self.sites.items()}
        self.tamper, self.number, self.replies = tamper, 0, dict[tuple[str, int, str], Reply]()
        self.memory = Memory()

    def exchange(self, step: str, outgoing: Mapping[str, Outgoing], timeout_s: float) -> Iterator[Reply]:
        if step == "sa_train":
            self.number = self.memory.used[-1]
        for name in sorted(outgoing):
            message = self.tamper(name, self.number, step, outgoing[name])
            if message is None:
                yield Reply(name, failure="transport")
                continue
            reply = Reply(name, *self.sessions[name].answer(step, message.body, message.vector))
            self.replies[name, self.number, step] = reply
            yield reply

    def newcomers(self) -> bool:
        return False

    def meet(self, body: bytes, timeout_s: float, step: str = "hello") -> Iterator[Reply]:
        raise NotImplementedError

    def bind(self, reply_index: int, site_id: str) -> None:
        raise NotImplementedError

    def federation(self) -> Federation:
        return Federation(
            manifest=self.manifest, roster=ROSTER, signing_key=COORDINATOR, link=self, timeout_s=1.0,
            select=lambda groups, factor: np.arange(SIZE, dtype=np.int64), participants=IDS, admit=lambda: IDS)

    def run(self, state: RunState | None = None) -> Iterator[RunState]:
        return run_rounds(self.federation(), state or RunState(INITIAL.adapter, INITIAL.velocity, INITIAL.average),
                          self.memory)

    def newest(self) -> RunState:
        """What the coordinator's journal holds."""
        return self.memory.kept[-1]


def rounds_of(state: RunState) -> list[tuple[int, int, str]]:
    """(round, stage, factor) of each finished round."""
    return [(report.round, report.stage, report.factor) for report in state.history]
