"""`coordinator`: what the consortium's operator plans and looks at. Heavy imports happen inside the commands.

Exit codes: 0 done, 1 the run that was asked about has failed, a roster is not signed by enough officers, or a release
does not hold, 2 bad input (one sentence on stderr).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from coordinator import evidence_commands

__all__ = ["main"]

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
WORTH_SAYING = 0.01  # of an upload's coordinates saturated


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    arguments = _parser().parse_args(argv)
    _quiet_environment()
    try:
        return int(arguments.command(arguments))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except (ValueError, OSError) as error:
        print(f"coordinator: {error}", file=sys.stderr)
        return EXIT_USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="coordinator", description="Plan and watch federated runs.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    noise = commands.add_parser(
        "noise", help="solve the noise that a curriculum needs for a target epsilon",
        description="Solve one common noise scale over every step of the curriculum, and print what it costs.")
    noise.add_argument("curriculum", help="YAML file, such as configs/curriculum/three-stage.yaml")
    noise.add_argument("--patients", type=_count, required=True, metavar="N",
                       help="declared patients of the largest site; fixes delta = min(1e-5, 1/(10 N))")
    noise.add_argument("--epsilon", type=float, default=8.0, help="target for the whole run (default: 8)")
    noise.set_defaults(command=_noise)
    status = commands.add_parser(
        "status", help="where a run, or the whole federation, stands",
        description="Of a run: rounds done, last cohort, who is missing and why. Of a coordinator's folder: processes, "
                    "roster, what each site last answered, and the queue of runs.")
    status.add_argument("folder", type=Path, metavar="DIR|RUN_FOLDER", help="the coordinator's or a run's folder")
    status.add_argument("run", nargs="?", metavar="RUN", help="a run of the coordinator's folder")
    status.set_defaults(command=_status)
    hashed = commands.add_parser(
        "hash-model", help="the content hash that manifests and site policies name",
        description="Print the SHA-256 of a base model folder, one of this project or MedGPT-oss as published: name, "
                    "length and bytes of every file that counts.")
    hashed.add_argument("folder", type=Path, metavar="FOLDER")
    hashed.set_defaults(command=_hash_model)
    from coordinator.backup_commands import add_backup_commands
    from coordinator.console_command import add_console_command
    from coordinator.doctor import add_doctor_command
    from coordinator.evaluate_command import add_evaluate_command
    from coordinator.home_commands import add_home_commands
    from coordinator.make_base_command import add_make_base_command
    from coordinator.release_commands import add_release_commands
    from coordinator.roster_commands import add_roster_commands
    from coordinator.run_commands import add_run_commands
    from coordinator.tokenizer_command import add_tokenizer_command
    from coordinator.track_command import add_track_command
    from coordinator.up_command import add_up_command

    add_make_base_command(commands)
    add_home_commands(commands)
    add_roster_commands(commands)
    add_up_command(commands)
    add_console_command(commands)
    add_run_commands(commands)
    add_track_command(commands)
    add_release_commands(commands)
    add_evaluate_command(commands)
    add_doctor_command(commands)
    add_backup_commands(commands)
    add_tokenizer_command(commands)
    evidence_commands.add_command(commands)
    release = commands.add_parser("release", help="which code and which libraries run here: two hashes to compare")
    release.set_defaults(command=_release)
    for command in (noise, status, release, hashed):
        command.add_argument("--json", action="store_true", help="print JSON instead of text")
    return parser


def _release(arguments: argparse.Namespace) -> int:
    from privacy.release import describe_release

    print(describe_release(as_json=arguments.json))
    return EXIT_OK


def _count(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of patients; give a whole number from 1 up")
    return value


def _quiet_environment() -> None:
    """No hub and no advisory output: before any library reads these."""
    for name, value in {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error",
                        "GRPC_VERBOSITY": "ERROR"}.items():
        os.environ.setdefault(name, value)


def _noise(arguments: argparse.Namespace) -> int:
    from configs.load import load_config
    from configs.schema import CurriculumConfig
    from coordinator.manifest import planned_event, solve_noise, stage_spec
    from privacy.dp.accounting import ReleaseEvent, epsilon
    from privacy.gates import evaluation_events, evaluations
    from privacy.manifest import standard_delta

    curriculum = load_config(CurriculumConfig, arguments.curriculum)
    delta = standard_delta(arguments.patients)
    multipliers = solve_noise(curriculum, arguments.epsilon, delta)
    events: list[ReleaseEvent] = []
    stages: list[dict[str, Any]] = []
    for stage, multiplier in zip(curriculum.stages, multipliers, strict=True):
        spec, training = stage_spec(stage, multiplier, private=True), planned_event(stage, multiplier)
        events += [training, *evaluation_events(spec)]
        stages.append({
            "name": stage.name, "rounds": training.steps // stage.local_steps, "steps": training.steps,
            "sampling_rate": stage.sampling_rate, "noise_multiplier": multiplier,
            "evaluations": evaluations(spec),
            "epsilon_of_evaluations": epsilon(evaluation_events(spec), delta),
            "epsilon_so_far": epsilon(events, delta)})
    facts = {"target_epsilon": arguments.epsilon, "epsilon": stages[-1]["epsilon_so_far"], "delta": delta,
             "patients": arguments.patients, "stages": stages}
    print(json.dumps(facts) if arguments.json else _noise_text(facts))
    return EXIT_OK


def _noise_text(facts: dict[str, Any]) -> str:
    lines = [f"{'stage':<16}{'rounds':>7}{'steps':>7}{'rate':>8}{'noise':>9}{'epsilon so far':>16}"]
    lines += [
        f"{stage['name']:<16}{stage['rounds']:>7}{stage['steps']:>7}{stage['sampling_rate']:>8g}"
        f"{stage['noise_multiplier']:>9.4f}{stage['epsilon_so_far']:>16.3f}" for stage in facts["stages"]]
    lines += [
        f"{stage['name']}: at most {stage['evaluations']} evaluations, epsilon "
        f"{stage['epsilon_of_evaluations']:.3f} by themselves" for stage in facts["stages"] if stage["evaluations"]]
    lines.append(
        f"each patient: epsilon {facts['epsilon']:.3f} (target {facts['target_epsilon']:g}) at delta "
        f"{facts['delta']:.3g}, add or remove one patient, if every planned round runs")
    return "\n".join(lines)


def _status(arguments: argparse.Namespace) -> int:
    from coordinator import status_report

    if not status_report.is_home(arguments.folder):
        if arguments.run is not None:
            raise ValueError(f"{arguments.folder} is not a coordinator's folder, so it has no run {arguments.run}")
        return _run_status(arguments.folder, {}, arguments.json)
    if arguments.run is not None:
        return _queued_status(arguments)
    facts = status_report.home_facts(arguments.folder)
    print(json.dumps(facts) if arguments.json else status_report.home_text(facts, arguments.folder))
    return EXIT_OK if facts["processes"]["state"] == "ready" else EXIT_FAILED


def _queued_status(arguments: argparse.Namespace) -> int:
    """A run of a coordinator's folder: its place in the queue counts before its journal's last word."""
    from coordinator.run_queue import RunQueue

    queue = RunQueue(arguments.folder / "runs")
    run = queue.get(arguments.run)
    if run.state == "queued" and not (queue.folder(run.run_id) / "progress.jsonl").is_file():
        facts = {"state": run.state, "reason": run.reason or None}
        print(json.dumps(facts) if arguments.json else f"state      queued, not begun{_because(run.reason)}")
        return EXIT_OK
    return _run_status(queue.folder(run.run_id), {"state": run.state, "reason": run.reason or None}, arguments.json)


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


def _run_status(folder: Path, known: dict[str, Any], as_json: bool) -> int:
    facts = {**_run_facts(folder), **known}
    print(json.dumps(facts) if as_json else _status_text(facts))
    return EXIT_FAILED if facts["state"] == "failed" else EXIT_OK


def _run_facts(folder: Path) -> dict[str, Any]:
    """What the newest checkpoint and the journal in `folder` say; ValueError if it holds neither."""
    inner = folder / "coordinator"
    folder = inner if inner.is_dir() else folder
    history = _checkpointed(folder / "checkpoints")
    events = _journal(folder / "progress.jsonl")
    if history is None and not events:
        raise ValueError(f"no run in {folder}; name the folder that holds progress.jsonl and checkpoints/")
    by_name = {event["event"]: event for event in events}  # the last of each kind
    rounds = history or []
    last = events[-1] if events else {}
    cohort = by_name.get("cohort", {})
    newest = rounds[-1] if rounds else {}
    return {
        "state": _state(str(last.get("event", ""))),
        "reason": last.get("text") if last.get("event") == "failed" else None,
        "rounds_done": len(rounds), "rounds_total": by_name.get("begin", {}).get("rounds_total"),
        "stage": newest.get("stage_name"), "summed": newest.get("summed", []),
        "saturated": newest.get("saturated"), "missing": newest.get("missing", {}), "public": newest.get("public", {}),
        "accepted": cohort.get("accepted", []), "refused": cohort.get("refused", []),
        "floor": cohort.get("floor"),
        "evidence": sum(path.name != "roster.bin" for path in (folder / "evidence").glob("*.bin")),
        "seconds_since_last_event": round(max(0.0, time.time() - last["time"]), 1) if "time" in last else None,
    }


def _state(last_event: str) -> str:
    return {"end": "finished", "failed": "failed", "": "unknown"}.get(last_event, "running")


def _checkpointed(folder: Path) -> list[dict[str, Any]] | None:
    """The round records in the newest checkpoint; None without one."""
    found = sorted(path for path in folder.glob("round-*") if (path / "state.json").is_file())
    if not found:
        return None
    try:
        return list(json.loads((found[-1] / "state.json").read_text(encoding="utf-8"))["history"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"checkpoint {found[-1]} cannot be read; the run goes on from the one before "
                         "when that folder is removed") from None


def _journal(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a journal; a last line that is still being written is left out."""
    events = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            events.append(event)
    return events


def _status_text(facts: dict[str, Any]) -> str:
    total = facts["rounds_total"] if facts["rounds_total"] is not None else "?"
    age = facts["seconds_since_last_event"]
    lines = [
        f"state      {facts['state']}" + ("" if age is None else f", last event {age:.0f} s ago"),
        f"rounds     {facts['rounds_done']} of {total}" + (f", stage {facts['stage']}" if facts["stage"] else ""),
        f"accepted   {', '.join(facts['accepted']) or 'nobody yet'}"
        + (f" (at least {facts['floor']} needed)" if facts["floor"] is not None else ""),
        f"last sum   {', '.join(facts['summed']) or 'none yet'}",
    ]
    if facts["refused"]:
        lines.append(f"refused    {', '.join(facts['refused'])}")
    lines += [f"missing    {site}: {why}" for site, why in sorted(facts["missing"].items())]
    lines += [f"public     {name} {value:.4g}" for name, value in sorted(facts["public"].items())]
    if (facts["saturated"] or 0.0) > WORTH_SAYING:
        lines.append(f"saturated  {facts['saturated']:.1%} of an upload's coordinates were cut off in the last round: "
                     "raise `saturation` in the next run's configuration")
    lines += _advice(" ".join([*facts["missing"].values(), *facts["refused"]]))
    if facts["evidence"]:
        lines.append(f"evidence   {facts['evidence']} kept: see `coordinator evidence`")
    if facts["reason"]:
        lines.append(f"reason     {facts['reason']}")
    return "\n".join(lines)


def _advice(text: str) -> list[str]:
    """What each code in `text` means, and what to do about it."""
    from privacy.errors import FAULTS, POLICY_ACTIONS, POLICY_REFUSALS

    known = {**{code: (fault.sentence, fault.action) for code, fault in FAULTS.items()},
             **{code: (sentence, POLICY_ACTIONS[code]) for code, sentence in POLICY_REFUSALS.items()}}
    codes = sorted(set(re.findall(r"[EP]_[A-Z0-9_]+", text)) & set(known))
    return [f"  {code}: {known[code][0]} {known[code][1]}" for code in codes]


def _hash_model(arguments: argparse.Namespace) -> int:
    from model.backbone import hash_model

    found = hash_model(arguments.folder).hex()
    print(json.dumps({"folder": str(arguments.folder), "hash": found}) if arguments.json else found)
    return EXIT_OK
