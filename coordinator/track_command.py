"""`coordinator track DIR RUN`: a run's measures in TensorBoard, MLflow or OpenTelemetry, once or as they come."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coordinator.trackers import Tracker

__all__ = ["add_track_command"]

EXIT_OK, EXIT_FAILED = 0, 1


def add_track_command(commands: Any) -> None:
    """Add `track` to the parser's `commands` (of `add_subparsers`)."""
    parser = commands.add_parser(
        "track", help="a run's measures for TensorBoard, MLflow or OpenTelemetry",
        description="Writes what each round measured: public questions, noised means over all sites, cohort counts, "
                    "bytes and times. Nothing of a single site or patient is in it. Nothing is sent but to the address "
                    "given here.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="the coordinator's folder")
    parser.add_argument("run_id", metavar="RUN", help="the run's name")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--tensorboard", type=Path, metavar="FOLDER", help="event files in FOLDER/RUN (extra "
    "`tensorboard`)")
    target.add_argument("--mlflow", metavar="URI", help="tracking server or sqlite:///FILE (extra `mlflow`)")
    target.add_argument("--otlp", metavar="URL", help="collector that takes OTLP over HTTP (extra `opentelemetry`)")
    parser.add_argument("--follow", action="store_true", help="go on until the run ends; Ctrl-C ends it too")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(command=_track)


def _track(arguments: argparse.Namespace) -> int:
    from coordinator.home import Home
    from coordinator.measures import StepTime, measures_of, step_times
    from coordinator.progress import events_after, follow
    from coordinator.run_queue import RunQueue

    home = Home.open(arguments.folder)
    queue = RunQueue(home.runs_folder)
    queue.get(arguments.run_id)  # a run that does not exist is refused here
    folder = queue.folder(arguments.run_id)
    tracker = _tracker(arguments, home.config.federation_id)
    written, position, steps = 0, 0, defaultdict[int, list[StepTime]](list)
    try:
        events = (follow(queue, arguments.run_id, every_s=1.0) if arguments.follow
                  else iter(events_after(folder / "progress.jsonl", 0)[0]))
        for event in events:
            if (measures := measures_of(event)) is None:
                continue
            came, position = events_after(folder / "steps.jsonl", position)
            for step in step_times(came):
                steps[step.round].append(step)
            tracker.add(measures, steps.pop(measures.round, []))
            written += 1
    except KeyboardInterrupt:
        pass
    finally:
        tracker.close()
    facts = {"run_id": arguments.run_id, "rounds_written": written}
    print(json.dumps(facts) if arguments.json else f"{arguments.run_id}: {written} rounds written")
    return EXIT_OK


def _tracker(arguments: argparse.Namespace, federation_id: str) -> Tracker:
    from coordinator.trackers import MlflowTracker, SpanTracker, TensorboardTracker

    if arguments.tensorboard is not None:
        return TensorboardTracker(arguments.tensorboard, arguments.run_id)
    if arguments.mlflow is not None:
        return MlflowTracker(arguments.mlflow, federation_id, arguments.run_id)
    return SpanTracker(arguments.otlp, federation_id, arguments.run_id)
