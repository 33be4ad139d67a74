"""Flower in, Flower out: the ServerApp that deployments and simulations run. Nothing else lives here."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from configs.load import load_config
from configs.schema import CoordinatorConfig
from coordinator.link import FlowerLink
from coordinator.run import run_federation
from coordinator.run_queue import STOP_FILE

__all__ = ["RunStoppedError", "app"]



app = ServerApp()


class RunStoppedError(RuntimeError):
    """The operator asked for it; the run can go on later."""


@app.main()  # type: ignore[untyped-decorator]
def main(grid: Grid, context: Context) -> None:
    """Run the federation that the file `run_config["coordinator-file"]` describes."""
    config = load_config(CoordinatorConfig, str(context.run_config["coordinator-file"]))
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)

    def observe(event: str, values: dict[str, Any]) -> None:
        name = "steps.jsonl" if event == "step" else "progress.jsonl"  # six a round: not what a run's watcher waits for
        with (output / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": event, "time": time.time(), **values}) + "\n")
        if event == "round" and (output / STOP_FILE).exists():
            raise RunStoppedError("the operator stopped the run; `coordinator resume` goes on with the next round")

    try:
        run_federation(config, FlowerLink(grid, resend_s=config.resend_s), observe)
    except RunStoppedError as error:
        observe("stopped", {"text": str(error)})
        raise
    except Exception as error:
        observe("failed", {"kind": type(error).__name__, "text": str(error)})
        raise
