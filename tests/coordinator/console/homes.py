"""Coordinator's folders for the console's tests, made by the product's own commands.

`recorded/` holds the two journals of a run of three real sites, as `make console-demo` left them (three stages of three
rounds). The manifest beside them is made and signed here, so it has this release's form.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

import coordinator.cli
from configs.schema import FederationConfig, LoraConfig, PrivacyConfig, RunConfig
from coordinator.console.app import Console, console_app
from coordinator.home import Home
from coordinator.run_files import prepare_run
from coordinator.run_queue import RunQueue
from coordinator.run_store.database import file_url, open_database
from privacy.web.guard import host_names
from tests.coordinator.finished_run import make_base, make_home, make_run

RECORDED = Path(__file__).parent / "recorded"
TOKEN, METRICS_TOKEN = "T" * 43, "M" * 43
URL = "http://127.0.0.1:8444"
_STAGE = {"groups": ["attention"], "sources": {"reports": 1}, "learning_rate": 0.3,
          "learning_rate_without_privacy": 0.3, "local_steps": 1, "sampling_rate": 0.1, "rounds": 3, "reply_after_s": 0}


def make_recorded(folder: Path) -> Path:
    """A folder with the run `first`, exported, and the recorded run `demo`."""
    home, base = make_home(folder), make_base(folder / "base")
    make_run(folder, home, base)
    assert coordinator.cli.main(["export", str(home), "first", str(folder / "release")]) == 0
    finish(home, "first")
    add_recorded(folder, home, base)
    return home


def add_recorded(folder: Path, home: Path, base: Path, run_id: str = "demo") -> Path:
    """The recorded run, finished; its folder."""
    curriculum = folder / f"{run_id}.yaml"
    curriculum.write_text(json.dumps({"stages": [
        {**_STAGE, "name": name} for name in ("alignment", "multi-image", "instruction")]}))
    RunQueue(home / "runs").add(RunConfig(
        run_id=run_id, curriculum=str(curriculum), base_model=str(base), public_examples=str(curriculum),
        privacy=PrivacyConfig(target_epsilon=8.0), lora=LoraConfig(rank=4, alpha=8, groups=["attention"]),
        federation=FederationConfig()))
    prepare_run(Home.open(home), run_id)
    made = home / "runs" / run_id
    for name in ("progress.jsonl", "steps.jsonl"):
        shutil.copy(RECORDED / name, made / name)
    finish(home, run_id)
    return made


def finish(home: Path, run_id: str, **changed: Any) -> None:
    queue = RunQueue(home / "runs")
    queue.put(replace(queue.get(run_id), **{"state": "finished", **changed}))


@contextmanager
def serving(home: Path, store: Path, *, imported: bool = True, **changed: Any) -> Iterator[tuple[Console, TestClient]]:
    """The console of `home` and a browser without a session; what the files say is in the store already."""
    opened = Home.open(home)
    database = open_database(file_url(store / "runs.sqlite"), opened.config.federation_id)
    console = Console(opened, database, TOKEN, METRICS_TOKEN, host_names("127.0.0.1", 8444), **changed)
    if imported:
        console.live._importer.bring_up_to_date()
        while console.live._importer.plan():
            pass
    address = URL.replace("http:", "https:") if console.secure else URL
    with TestClient(console_app(console), base_url=address, follow_redirects=False) as client:
        yield console, client
    database.close()


def log_in(client: TestClient) -> TestClient:
    answer = client.post("/login", data={"token": TOKEN})
    assert answer.status_code == 303, answer.text
    return client
