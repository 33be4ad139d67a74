"""`coordinator launch | watch | stop | resume | export`: a run from its settings to its adapter.

Heavy imports happen inside the commands. Launching, stopping and resuming change small files in the coordinator's
folder; the executor of `coordinator up` does the rest.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from configs.schema import RunConfig
    from coordinator.home import Home
    from coordinator.run_queue import RunQueue

__all__ = ["add_run_commands"]

EXIT_OK, EXIT_FAILED = 0, 1


def add_run_commands(commands: Any) -> None:
    """Add the commands to the parser's `commands` (of `add_subparsers`)."""
    launch = _command(commands, "launch", _launch, "begin a run", (
        "Queue the run that CONFIG describes and follow it until the sites were asked. The signed manifest fixes "
        "everything in it; each site decides by its own policy."), run=False)
    launch.add_argument("config", metavar="CONFIG", help="YAML file, see configs/runs/example.yaml")
    launch.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings that replace the file's")
    launch.add_argument("--detach", action="store_true", help="do not wait for the sites' answers")
    launch.add_argument("--watch", action="store_true", help="follow the run to its end, like `coordinator watch`")
    watch = _command(commands, "watch", _watch, "follow a run", (
        "A live table with the time left; plain lines where the output is no terminal. Ctrl-C ends the watching, not "
        "the run. Exit code 1 when the run has failed."))
    for command in (launch, watch):
        command.add_argument("--json", action="store_true", help="print each event as one line of JSON")
    stop = _command(commands, "stop", _stop, "end a run after the round that is going on", (
        "Nothing is lost: `coordinator resume` goes on with the next round."))
    resume = _command(commands, "resume", _resume, "go on with a run that stopped or failed", (
        "Queue the run again; it goes on after its last checkpoint, with the same signed manifest."))
    export = _command(commands, "export", _export, "write a run as a signed release that others load and check", (
        "From the newest checkpoint: the average over rounds that the evaluation measures, with a model card, what it "
        "says about privacy, and the signatures that `coordinator verify-release` checks."))
    export.add_argument("out", type=Path, metavar="OUT", help="the new folder")
    export.add_argument("--format", choices=("peft", "merged"), default="peft", dest="kind",
                        help="an adapter in PEFT layout (default), or the base model with it added")
    export.add_argument("--audit", type=Path, metavar="FILE", help="audit.json of `simulate audit`, for the card")
    for command in (stop, resume, export):
        command.add_argument("--json", action="store_true", help="print JSON instead of text")


def _command(commands: Any, name: str, action: Any, text: str, more: str, run: bool = True) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=more)
    parser.add_argument("folder", type=Path, metavar="DIR", help="the coordinator's folder")
    if run:
        parser.add_argument("run_id", metavar="RUN", help="the run's name")
    parser.set_defaults(command=action)
    return parser


def _queue(folder: Path) -> tuple[Home, RunQueue]:
    from coordinator.home import Home
    from coordinator.run_queue import RunQueue

    home = Home.open(folder)
    return home, RunQueue(home.runs_folder)


def _require_up(home: Home) -> None:
    from coordinator.up_command import status_file
    from privacy.transport.supervisor import read_status

    status = read_status(status_file(home.folder))
    if status is None or not status["alive"]:
        raise ValueError(f"the coordinator is not up, so nothing would run; start it: `coordinator up {home.folder}`")


def _launch(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from configs.load import load_config, resolve_config_path
    from configs.schema import CurriculumConfig, RunConfig

    home, queue = _queue(arguments.folder)
    config = load_config(RunConfig, arguments.config, arguments.settings)
    curriculum = resolve_config_path(config.curriculum)
    load_config(CurriculumConfig, curriculum)
    config = replace(
        config, curriculum=str(curriculum.resolve()), base_model=_existing(config, "base_model"),
        public_examples=_existing(config, "public_examples"))
    home.roster()
    _require_up(home)
    queue.add(config)
    ahead = [run.run_id for run in queue.all() if run.state in ("queued", "running") and run.run_id != config.run_id]
    if arguments.json:
        print(json.dumps({"event": "queued", "run_id": config.run_id, "behind": ahead}), flush=True)
    else:
        print(f"run {config.run_id} is queued" + (f" behind {', '.join(ahead)}" if ahead else ""), flush=True)
    if arguments.detach:
        return EXIT_OK
    if arguments.watch:
        return _follow(queue, config.run_id, as_json=arguments.json)
    return _until_asked(queue, config.run_id, as_json=arguments.json)


def _existing(config: RunConfig, name: str) -> str:
    path = Path(getattr(config, name)).expanduser()
    if not path.exists():
        raise ValueError(f"run.{name}={path} does not exist; correct it, or give {name}=PATH")
    return str(path.resolve())


def _until_asked(queue: RunQueue, run_id: str, *, as_json: bool) -> int:
    """Until a cohort stands, or the run's end."""
    from coordinator.progress import events_after

    seen = 0
    while True:
        events, seen = events_after(queue.folder(run_id) / "progress.jsonl", seen)
        for event in events:
            if as_json:
                print(json.dumps(event), flush=True)
            elif event["event"] == "cohort":
                print(f"accepted: {', '.join(event['accepted']) or 'nobody yet'} ({event['floor']} needed)"
                      + "".join(f"\n  refused: {one}" for one in event["refused"]), flush=True)
            if event["event"] == "begin":
                if not as_json:
                    print(f"the run has begun; follow it with `coordinator watch DIR {run_id}`")
                return EXIT_OK
        run = queue.get(run_id)
        if run.state in ("failed", "stopped"):
            print(f"run {run_id} {run.state}: {run.reason}", file=sys.stderr)
            return EXIT_FAILED
        if run.state == "finished":
            return EXIT_OK
        time.sleep(0.1)


def _watch(arguments: argparse.Namespace) -> int:
    _, queue = _queue(arguments.folder)
    return _follow(queue, arguments.run_id, as_json=arguments.json)


def _follow(queue: RunQueue, run_id: str, *, as_json: bool) -> int:
    from coordinator.progress import follow, lines_of
    from privacy.transport.terminal import is_live

    queue.get(run_id)
    if as_json:
        for event in follow(queue, run_id):
            print(json.dumps(event), flush=True)
    elif is_live():
        from coordinator.watch_table import watch

        watch(queue, run_id)
    else:
        for event in follow(queue, run_id):
            for line in lines_of(event):
                print(line, flush=True)
    run = queue.get(run_id)
    if run.state == "failed":
        print(f"run {run_id} failed: {run.reason}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


def _stop(arguments: argparse.Namespace) -> int:
    _, queue = _queue(arguments.folder)
    return _said(queue, arguments, queue.stop(arguments.run_id))


def _resume(arguments: argparse.Namespace) -> int:
    home, queue = _queue(arguments.folder)
    _require_up(home)
    return _said(queue, arguments, queue.resume(arguments.run_id))


def _said(queue: RunQueue, arguments: argparse.Namespace, said: str) -> int:
    facts = {"run_id": arguments.run_id, "state": queue.get(arguments.run_id).state, "said": said}
    print(json.dumps(facts) if arguments.json else said)
    return EXIT_OK


def _export(arguments: argparse.Namespace) -> int:
    from coordinator.export_run import export_run
    from coordinator.exports import record_export

    home, queue = _queue(arguments.folder)
    queue.get(arguments.run_id)
    folder = queue.folder(arguments.run_id)
    said = export_run(folder, arguments.out, home.key(), arguments.kind, arguments.audit)
    print(json.dumps({"run_id": arguments.run_id, "folder": str(arguments.out), "format": arguments.kind,
                      "said": said}) if arguments.json else said)
    record_export(folder, arguments.out, arguments.kind)
    return EXIT_OK
