"""How long a newcomer waits: `--help` of each command, and the smoke federation with its base model cached.

    python -m benchmarks.first_look [--quick] [--json FILE]

Wall-clock seconds, medians of several starts; a busy machine makes them larger. `--quick` leaves the smoke run out
when its base model is not cached yet (pretraining would take longer than the quick limit).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

__all__ = ["main"]

COMMANDS = {"simulate": "simulations.cli", "coordinator": "coordinator.cli", "site-client": "site_client.cli"}
GOALS = {"help": 0.5, "smoke": 40.0}  # seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the goals; exit code 1 if one is short."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer starts, end within 50 s")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args(argv)
    starts = 3 if arguments.quick else 9
    help_s = {name: _median([_run(module, "--help") for _ in range(starts)]) for name, module in COMMANDS.items()}
    smoke_s = _smoke(arguments.quick)
    for name, seconds in help_s.items():
        print(f"{name} --help{seconds:10.2f} s")
    lines = [_goal("help-seconds", max(help_s.values()), GOALS["help"]),
             _goal("smoke-seconds", smoke_s, GOALS["smoke"])]
    print(*lines, sep="\n")
    if arguments.json:
        arguments.json.write_text(json.dumps({"help_s": help_s, "smoke_s": smoke_s}, indent=1))
    return int(any(line.endswith("short") for line in lines))


def _goal(name: str, value: float | None, most: float) -> str:
    if value is None:
        return f"goal {name}: not measured (the base model is not cached; run without --quick)"
    return f"goal {name}: {value:.2f} <= {most:g} {'ok' if value <= most else 'short'}"


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


def _run(module: str, *arguments: str) -> float:
    code = f"import sys; from {module} import main; sys.exit(main(sys.argv[1:]))"
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def _smoke(quick: bool) -> float | None:
    """Seconds of one smoke run into a fresh folder, after its data and base model are there."""
    from configs.load import load_config
    from configs.schema import SimulationConfig
    from simulations.materials import is_prepared, prepare

    config = load_config(SimulationConfig, "configs/simulations/smoke.yaml")
    if not is_prepared(config):
        if quick:
            return None
        prepare(config, lambda what, done, total: None)
    with tempfile.TemporaryDirectory() as folder:
        return _run("simulations.cli", "run", "configs/simulations/smoke.yaml", "--out", f"{folder}/smoke")


if __name__ == "__main__":
    raise SystemExit(main())
