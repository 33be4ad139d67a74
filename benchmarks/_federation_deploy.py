"""A real federation for `benchmarks.federation`: a coordinator's folder and four sites, by the product's own commands.

`coordinator up`, `site-client start` and `coordinator launch` run as processes. What only writes files (`init`,
`enroll`, `sign`) is called in this process, to save starts.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from benchmarks._federation_processes import Processes, wait_for
from privacy.transport.service import free_port
from simulations.materials import Materials

__all__ = ["SITES", "Federation", "excluded", "federation", "protocol_seconds"]

SITES = ("site-1", "site-2", "site-3", "site-4")
_TRAINED = re.compile(r"^(\S+ \S+) INFO \S+ trained seconds=([0-9.]+)$", re.MULTILINE)
Interval = tuple[float, float]  # seconds of the epoch


class Federation:
    """The folders of one federation, and its processes once it is `up`.

    Args:
        folder: a new one.
        busy_s: how long a site polls fast after a message; short, so that a launch can meet sites that rest.
    """

    def __init__(self, folder: Path, materials: Materials, busy_s: float = 8.0) -> None:
        self.folder, self.home, self._materials = folder, folder / "coordinator", materials
        self.site_files = {site: folder / site / "site.yaml" for site in SITES}
        self.processes = Processes(folder)
        port = free_port()
        officers = {name: _coordinator("roster", "officer-key", f"{folder}/{name}.key").strip()
                    for name in ("ann", "bob")}
        _coordinator("init", f"{self.home}", "--federation", "bench", "--address", f"127.0.0.1:{port}",
                     "--listen", f"127.0.0.1:{port}", *(f"--officer={name}:{key}" for name, key in officers.items()))
        for site, file in self.site_files.items():
            self._init_site(site, file, busy_s)
        _coordinator("enroll", f"{self.home}", *(f"{folder}/{site}/{site}.request" for site in SITES))
        for name in officers:
            _coordinator("roster", "sign", f"{self.home}", "--key", f"{folder}/{name}.key")

    def _init_site(self, site: str, file: Path, busy_s: float) -> None:
        hospital, base = self._materials.hospitals / site, self._materials.base_model
        rules = ("min_patients=10", "require_scheduled_replies=false", "max_total_delta=0.005",
                 "min_noise_multiplier=0.01")
        _site("init", f"{file.parent}", "--invitation", f"{self.home}/invitation.json", "--site-id", site,
              "--patients", str(self._materials.declared[site]), "--data", f"{hospital}", "--base-model", f"{base}",
              "--max-epsilon", "1000", "--auto-approve", *(f"--policy={rule}" for rule in rules))
        values = yaml.safe_load(file.read_text())
        values["transport"] = {**values.get("transport", {}), "busy_s": busy_s}
        file.write_text(yaml.safe_dump(values))

    def up(self) -> None:
        """Start `coordinator up` and the four `site-client start`, until all say that they are ready."""
        self.processes.start("up", "coordinator.cli", "up", self.home)
        for site, file in self.site_files.items():
            self.processes.start(site, "site_client.cli", "start", file)
        states = [self.home / "log" / "up.json"]
        states += [file.parent / "state" / "start.json" for file in self.site_files.values()]
        wait_for(lambda: all(map(_is_ready, states)), 600, "the start of the processes", self.processes)

    def launch(self, run_id: str, curriculum: Path, rank: int) -> list[dict[str, Any]]:
        """`coordinator launch` as a process of its own, to the run's end; its events, first one `launch`."""
        run = self.home / "runs" / run_id
        file = self.folder / f"run-{run_id}.yaml"
        file.write_text(yaml.safe_dump({
            "run_id": run_id, "curriculum": str(curriculum), "base_model": str(self._materials.base_model),
            "public_examples": str(self._materials.public_examples), "lora": {"rank": rank, "alpha": 2 * rank},
            "federation": {"timeout_s": 300.0}}))
        begun = {"event": "launch", "time": time.time()}
        launch = self.processes.start(f"launch-{run_id}", "coordinator.cli", "launch", self.home, file, "--detach")
        wait_for(lambda: launch.poll() or _ended(run), 600, f"run {run_id}")
        if launch.wait(60):
            raise RuntimeError(f"launch failed: {self.processes.tail(f'launch-{run_id}')}")
        del self.processes.running[f"launch-{run_id}"]
        state = json.loads((run / "state.json").read_text())
        if state["state"] != "finished":
            raise RuntimeError(f"run {run_id} {state['state']}: {state['reason']}")
        lines = (run / "progress.jsonl").read_text().splitlines()
        return [begun, *(json.loads(line) for line in lines)]

    def trainings(self) -> list[Interval]:
        """When a site was training, from the sites' own logs."""
        found: list[Interval] = []
        for file in self.site_files.values():
            log = (file.parent / "state" / "log" / "executor.log").read_text(errors="replace")
            for stamp, seconds in _TRAINED.findall(log):
                end = datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S,%f").timestamp()
                found.append((end - float(seconds), end))
        return found


@contextmanager
def federation(folder: Path, materials: Materials) -> Iterator[Federation]:
    """A federation that is up; everything ends with the block."""
    made = Federation(folder, materials)
    with made.processes:
        made.up()
        yield made


def excluded(rounds: Sequence[Interval], trainings: Sequence[Interval]) -> list[float]:
    """Of each round, the seconds in which at least one site was training."""
    return [sum(end - begin for begin, end in _union(_within(one, trainings))) for one in rounds]


def _within(one: Interval, others: Sequence[Interval]) -> Iterator[Interval]:
    return ((max(begin, one[0]), min(end, one[1])) for begin, end in others)


def _union(intervals: Iterator[Interval]) -> list[Interval]:
    merged: list[Interval] = []
    for begin, end in sorted(one for one in intervals if one[1] > one[0]):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def protocol_seconds(events: Sequence[dict[str, Any]], trainings: Sequence[Interval]) -> list[float]:
    """Of each round from its plan to its attested result, without the time in which a site trained.

    A round's event comes when it is attested and the public questions were asked, and names the seconds that it took
    without them. A round begins when the event of the one before is written.
    """
    ends = [event["time"] for event in events if event["event"] in ("begin", "round")]
    seconds = [event["seconds"] for event in events if event["event"] == "round"]
    trained = excluded(list(pairwise(ends)), trainings)
    return [whole - part for whole, part in zip(seconds, trained, strict=True)]


def _ended(run: Path) -> bool:
    try:
        return json.loads((run / "state.json").read_text())["state"] in ("finished", "failed", "stopped")
    except FileNotFoundError:
        return False


def _is_ready(state: Path) -> bool:
    try:
        return bool(json.loads(state.read_text())["ready"])
    except FileNotFoundError:
        return False


def _coordinator(*arguments: str) -> str:
    from coordinator.cli import main

    return _said(main, arguments)


def _site(*arguments: str) -> str:
    from site_client.cli import main

    return _said(main, arguments)


def _said(main: Any, arguments: Sequence[str]) -> str:
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = main(list(arguments))
    if code:
        raise RuntimeError(f"{' '.join(arguments)} ended with exit code {code}: {errors.getvalue().strip()}")
    return out.getvalue()
