"""Checks a real federation's sums from outside: what each site was about to mask, and what the coordinator opened.

A site keeps a trained, noised, quantised update on its disk until it is masked (`site_client.spool`), and a coordinator
keeps each round's ring sum in its checkpoint. A thread copies both while they are there; afterwards the updates of the
sites that a round claims to have summed must add up to its sum, exactly. Nothing of the federation is touched.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load

from privacy.messages import Plan
from privacy.secagg.quantize import pack

__all__ = ["SumWatch"]

_EVERY_S = 0.05


class SumWatch:
    """Watches state folders of sites, and the folder `runs` of their coordinator."""

    def __init__(self, states: Mapping[str, Path], runs: Path) -> None:
        self._states, self._runs = dict(states), runs
        self._updates: dict[tuple[str, str], tuple[int, bytes]] = {}   # (site, file) -> (its time, content)
        self._sums: dict[tuple[str, int], npt.NDArray[np.uint8]] = {}  # (run, finished rounds) -> packed sum
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Watch until `end`."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Stop; idempotent."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_EVERY_S):
            self._look()

    def _look(self) -> None:
        for site, state in self._states.items():
            for path in state.glob("spool/*.bin"):
                with suppress(FileNotFoundError):
                    written = path.stat().st_mtime_ns
                    if self._updates.get((site, path.name), (0, b""))[0] != written:
                        self._updates[site, path.name] = (written, path.read_bytes())
        for path in self._runs.glob("*/checkpoints/round-*/state.safetensors"):
            key = (path.parent.parent.parent.name, int(path.parent.name.split("-")[1]))
            if key not in self._sums:
                with suppress(FileNotFoundError):
                    self._sums[key] = load(path.read_bytes())["packed_sum"]

    def wrong(self, run: str, finished: int, number: int, bits: int, summed: list[str]) -> str:
        """"" when the sum of the run's round `number`, its `finished`-th, is the sum of those sites' updates; else
        what is not as it should be."""
        self._look()
        packed = self._sums.get((run, finished))
        if packed is None:
            return f"round {number}: no sum was seen"
        total: npt.NDArray[np.uint32] | None = None
        for site in summed:
            plan = _plan(self._states[site], run, number)
            kept = None if plan is None else self._updates.get((site, f"{replace(plan, attempt=0).hash().hex()}.bin"))
            if kept is None:
                return f"round {number}: no update of {site} was seen"
            values = np.frombuffer(kept[1], dtype="<u4").astype(np.uint32)
            total = values if total is None else total + values
        if total is None:
            return f"round {number}: a sum of nobody"
        modulus = np.uint32((1 << bits) - 1)
        if not np.array_equal(pack(total & modulus, bits), packed):
            return f"round {number}: the sum is not that of {', '.join(summed)}"
        return ""


def _plan(state: Path, run: str, number: int) -> Plan | None:
    database = sqlite3.connect(f"file:{state / 'rounds.sqlite'}?mode=ro", uri=True, timeout=10)
    try:
        row = database.execute("SELECT plan FROM rounds WHERE run = ? AND round = ?", (run, number)).fetchone()
    finally:
        database.close()
    return None if row is None else Plan.from_bytes(bytes(row[0]))
