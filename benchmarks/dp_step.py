"""What exact patient-level privacy costs: one training step with and without it, time and peak memory, and its error.

    python -m benchmarks.dp_step [--quick] [--json FILE] [--device cpu|cuda] [--grid cpu|gpu]
        [--dtype TYPE] [--minutes M]

Non-private stock PEFT, this project's engine, Opacus with hooks and with ghost clipping, and a micro-batch of 1, over
batch, length, rank, width, experts, gradient checkpointing and packing. Every number is for one micro-batch: forward,
backward, clip and sum; the noise, drawn once a logical batch, has a column of its own. `--quick` (within 50 s) measures
one point of each family: it can find a goal short, it cannot find one met.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks._goals import goals_of
from benchmarks._grid import EXACT, EXACT_QUICK, Point, chosen
from benchmarks._ratios import exit_code, goal_line
from benchmarks._table import error_lines, footnotes, header, row

if TYPE_CHECKING:
    from benchmarks._exactness import Deviation
    from benchmarks._measure import PointResult, Settings

__all__ = ["main", "processor"]

# Minutes for the timed rounds and what they need; the float64 loop comes on top.
_MINUTES = {"cpu": 9.0, "gpu": 5.0}
_QUICK_MINUTES = 0.2


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print tables and goals; exit code 1 if one is short, 2 for arguments that do not go together."""
    arguments = _arguments(argv)
    import os

    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would announce itself on every use
    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("dp_step: torch finds no CUDA device here; run with --device cpu")
        return 2
    from benchmarks._measure import Settings

    torch.set_num_threads(1)
    settings = Settings(arguments.device, arguments.dtype, arguments.attention)
    where = _where(settings)
    print(", ".join(f"{key} {value}" for key, value in where.items()), flush=True)
    grid = arguments.grid or ("gpu" if arguments.device == "cuda" else "cpu")
    points = chosen(grid, arguments.quick)
    minutes = arguments.minutes or (_QUICK_MINUTES if arguments.quick else _MINUTES[grid])
    results = _measured(points, settings, 60 * minutes)
    deviations = _deviations(settings, arguments.quick)
    goals = goals_of(results, deviations, quick=arguments.quick)
    print(*(goal_line(goal) for goal in goals), sep="\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(
            {"where": where, "quick": arguments.quick, "points": [asdict(result) for result in results],
             "deviations": [asdict(deviation) for deviation in deviations],
             "goals": [asdict(goal) for goal in goals]}, indent=1))
    return exit_code(goals)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one point of each family, end within 50 s")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--grid", choices=("cpu", "gpu"), help="which points (default: those of the device)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "autocast"), default="float32",
                        help="type of the weights; autocast is float32 weights under bfloat16 autocast")
    parser.add_argument("--attention", default="fused_sinks", help="transformers' implementation, in all arms")
    parser.add_argument("--minutes", type=float, help="time for the timed part (default 9, for the gpu grid 5)")
    return parser.parse_args(argv)


def _where(settings: Settings) -> dict[str, str]:
    """What the numbers belong to."""
    import os

    import peft
    import torch
    import transformers

    device = torch.cuda.get_device_name() if settings.device == "cuda" else f"{processor()}, {os.cpu_count()} cores"
    return {"device": device, "torch": torch.__version__, "transformers": transformers.__version__,
            "peft": peft.__version__, "weights": settings.dtype, "attention": settings.attention, "torch threads": "1"}


def processor() -> str:
    """The CPU's name, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _measured(points: Sequence[Point], settings: Settings, seconds: float) -> list[PointResult]:
    """Each point in turn, the time that is left divided evenly; its line is printed as soon as it is there."""
    from benchmarks._measure import measure

    end = time.monotonic() + seconds
    results: list[PointResult] = []
    for index, point in enumerate(points):
        now = time.monotonic()
        result = measure(point, settings, now + (end - now) / (len(points) - index))
        if not results or results[-1].point.family != point.family:
            print("", *header(result), sep="\n")
        print(row(result), flush=True)
        results.append(result)
    print("", *footnotes(results), sep="\n", flush=True)
    return results


def _deviations(settings: Settings, quick: bool) -> list[Deviation]:
    from benchmarks._arms import our_arms
    from benchmarks._exactness import deviations

    found: list[Any] = []
    for point in EXACT_QUICK if quick else EXACT:
        found += deviations(point, our_arms(point), settings.device, settings.attention)
    print("", *error_lines(found), "", sep="\n", flush=True)
    return found


if __name__ == "__main__":
    raise SystemExit(main())
