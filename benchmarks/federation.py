"""What a real federation costs: processes on loopback with TLS, secure rounds beside plain ones, many sites.

    OMP_NUM_THREADS=1 python -m benchmarks.federation [--quick] [--only PART] [--json FILE]

deploy: `coordinator up` and four `site-client start` as processes. From the start of `coordinator launch`, while all
rest, to the event of the first aggregated and attested round of the tiny model. Then the rounds of a run whose adapter
is 1 MiB on the wire (rank 214, 24 bits): a round's seconds at the coordinator, from its plan to its quorum of
attestations, without the seconds in which at least one site was training. Those come from the sites' own logs (`trained
seconds=`, which covers the budget's reservation, the rehearsal and the local steps); their union is taken off, so a
step that waited for the slowest site's training is counted without it. The run's first round is not counted.

large: a vector of 64 MiB of float32 in place of a model. Hub, nodes and the sites' executor loop are the product's. A
plain round sends the model to four sites and each site's model back; a secure one sends keys, shares, masked vectors,
confirmations and openings, then the packed sum, from which each site computes the next model, whose hash it returns.
Arms in turn, the first of each not counted. Bytes: every request to the hub and its answer, as the sites' nodes count
them. CPU: user and system time of hub, nodes, executors and coordinator. What a real site keeps of the server's
optimiser, on its disk, is in neither arm.

memory: the coordinator's peak in a secure round of 4, 16 and 50 sites (`benchmarks._federation_memory`), up to the
sum; the server's step after it is in the table, it does not depend on the number of sites.

many: 100 simulated sites in one process with adapters of 1 MiB, ten rounds (`benchmarks._federation_many`).

Nothing but the machine's load is left out: wall-clock goals mean something on quiet cores only. `--quick` ends within
50 s on two of them: it measures the coordinator's memory alone, because starting nine processes takes longer. It finds
that goal short, it cannot find it met.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks._ratios import Goal, exit_code, goal_line

if TYPE_CHECKING:
    from simulations.materials import Materials

__all__ = ["FULL", "PARTS", "QUICK", "Size", "goals_of", "main"]

PARTS = ("deploy", "large", "memory", "many")
M = 1 << 20
RANK_ON_THE_WIRE = 214  # 1632 coordinates a rank at 3 bytes: 1.0 MiB
RANK_IN_FLOATS = 161    # at 4 bytes: 1.0 MiB
_NO_BASE = "the base model is not cached; run without --quick"


@dataclass(frozen=True)
class Size:
    """How much is measured. dimension: coordinates of the large rounds. memory: (sites, coordinates)."""

    launches: int
    steady_rounds: int
    rest_s: float            # before a launch, so that it meets sites that rest
    dimension: int
    large_rounds: int
    memory: tuple[tuple[int, int], ...]
    sites: tuple[int, int]   # few, many
    rounds: int
    parts: tuple[str, ...] = PARTS


FULL = Size(5, 9, 10.0, 16 * M, 5, ((4, 4 * M), (16, 4 * M), (50, 4 * M)), (20, 100), 10)
QUICK = Size(0, 0, 0.0, 0, 0, ((4, M), (16, M)), (0, 0), 0, ("memory",))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print tables and goals; exit code 1 if a goal is short."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small points, end within 50 s")
    parser.add_argument("--only", action="append", choices=PARTS, help="only this part; may be given again")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args(argv)
    logging.getLogger("flwr").setLevel(logging.ERROR)
    size = QUICK if arguments.quick else FULL
    asked = tuple(part for part in size.parts if not arguments.only or part in arguments.only)
    figures: dict[str, Any] = {"load": os.getloadavg()[0], "quick": arguments.quick}
    print(f"{os.cpu_count()} cores, load {figures['load']:.1f} at the start", flush=True)
    materials = _materials(arguments.quick)
    measure: dict[str, Callable[[Path, Any, Size], Any]] = {
        "deploy": _deploy, "large": _large, "memory": _memory, "many": _many}
    for part in asked:
        if materials is None and part != "memory":
            continue
        with tempfile.TemporaryDirectory(prefix="federation-") as folder:
            figures[part] = measure[part](Path(folder), materials, size)
    reason = _NO_BASE if materials is None else "not asked for, or left out with --quick"
    goals = goals_of(figures, reason)
    print("", *(goal_line(goal) for goal in goals), sep="\n")
    if arguments.json:
        figures["goals"] = [{"name": goal.name, "most": goal.most, "value": goal.value} for goal in goals]
        arguments.json.write_text(json.dumps(figures, indent=1))
    return exit_code(goals)


def _materials(quick: bool) -> Materials | None:
    from configs.load import load_config
    from configs.schema import SimulationConfig
    from simulations.materials import is_prepared, prepare

    config = load_config(SimulationConfig, "configs/simulations/smoke.yaml")
    return None if quick and not is_prepared(config) else prepare(config, lambda what, done, total: None)


def _deploy(folder: Path, materials: Materials, size: Size) -> dict[str, Any]:
    from benchmarks._federation_deploy import federation, protocol_seconds
    from benchmarks._federation_many import curriculum_file

    short = curriculum_file(folder / "short.yaml", rounds=1, local_steps=2)
    steady = curriculum_file(folder / "steady.yaml", rounds=size.steady_rounds, local_steps=1, sampling_rate=0.1)
    first: list[float] = []
    with federation(folder, materials) as made:
        for number in range(size.launches):
            time.sleep(size.rest_s)
            events = made.launch(f"launch-{number}", short, rank=8)
            first.append(next(event["time"] for event in events if event["event"] == "round") - events[0]["time"])
        events = made.launch("steady", steady, rank=RANK_ON_THE_WIRE)
        protocol = protocol_seconds(events, made.trainings())[1:]
    rounds = [event for event in events if event["event"] == "round"][1:]
    whole = [event["seconds"] for event in rounds]
    uploads = max(rounds[0]["bytes_from_sites"].values())
    _table("Four sites as processes, TLS, seconds: median (range)", "what", "seconds")
    _row("launch to the first attested round", _shown(first))
    _row(f"a round with {uploads / M:.2f} MiB from each site", _shown(whole))
    _row("the same, without training", _shown(protocol))
    return {"first": first, "whole": whole, "protocol": protocol, "bytes_from_a_site": uploads}


def _large(folder: Path, materials: Materials, size: Size) -> dict[str, Any]:
    from benchmarks._federation_large import large_rounds, ratios

    found = large_rounds(folder, materials, size.dimension, size.large_rounds)
    _table(f"Rounds of four sites, {size.dimension * 4 / M:g} MiB of float32: median (range)", "what", "plain",
           "secure", "secure / plain")
    for what, unit in (("bytes", M), ("cpu", 1), ("wall", 1)):
        name = {"bytes": "MiB of all sites, both ways", "cpu": "CPU seconds of all processes", "wall": "seconds"}[what]
        _row(name, *(_shown([value / unit for value in found[arm][what]]) for arm in ("plain", "secure")),
             _shown(ratios(found, what)))
    print(f"\npeak resident: hub {found['hub_peak'] / M:.0f} MiB, coordinator {found['coordinator_peak'] / M:.0f} MiB")
    return found


def _memory(folder: Path, materials: Materials | None, size: Size) -> dict[str, Any]:
    from benchmarks._federation_memory import coordinator_memory

    _table("Peak memory of the coordinator in a secure round, as a multiple of one upload (24 bits)", "sites, d",
           "to the sum", "in the server's step after it")
    found: dict[str, Any] = {}
    for n, dimension in size.memory:
        one = found[f"{n}"] = coordinator_memory(n, dimension)
        _row(f"{n}, {dimension / M:g}M", f"{one['sum']:.2f}", f"{one['step']:.2f}")
    return found


def _many(folder: Path, materials: Materials, size: Size) -> dict[str, Any]:
    from benchmarks._federation_many import many_sites

    found = many_sites(folder, materials, size.sites, RANK_IN_FLOATS, size.rounds)
    many = found["many"]
    _table(f"{size.sites[1]} simulated sites in one process, {size.rounds} rounds", "what", "value")
    _row("adapter, MiB", f"{many['adapter_bytes'] / M:.2f}")
    _row("memory of a further site, MiB", f"{found['bytes_a_site'] / M:.2f}")
    _row("peak resident, MiB", f"{many['peak'] / M:.0f}")
    _row("rounds, seconds", f"{many['wall']:.1f}")
    _row("local training, seconds", f"{many['training_s']:.1f}")
    return found


def _shown(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def _table(title: str, *heads: str) -> None:
    print("", title, "", f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads), sep="\n", flush=True)


def _row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def goals_of(figures: dict[str, Any], reason: str) -> list[Goal]:
    """Every goal in order; `reason` says why a part is not among the figures."""
    quick = "quick, a small part" if figures["quick"] else ""

    def goal(name: str, most: float, part: str, value: Callable[[dict[str, Any]], float]) -> Goal:
        if part not in figures:
            return Goal(name, most, reason=reason)
        return Goal(name, most, float(value(figures[part])), partial=quick, decides=part == "memory")

    def over_plain(what: str) -> Callable[[dict[str, Any]], float]:
        def value(found: dict[str, Any]) -> float:
            pairs = zip(found["secure"][what], found["plain"][what], strict=True)
            return statistics.median(one / other for one, other in pairs)

        return value

    return [
        goal("launch-to-first-round-s", 20, "deploy", lambda found: statistics.median(found["first"])),
        goal("steady-round-s", 6, "deploy", lambda found: statistics.median(found["protocol"])),
        goal("large-bytes", 1.3, "large", over_plain("bytes")),
        goal("large-cpu", 1.3, "large", over_plain("cpu")),
        goal("large-wall", 1.5, "large", over_plain("wall")),
        goal("coordinator-memory-uploads", 3, "memory", lambda found: max(one["sum"] for one in found.values())),
        goal("site-memory-adapters", 4, "many", lambda found: found["bytes_a_site"] / found["many"]["adapter_bytes"]),
        goal("hundred-sites-time", 2, "many", lambda found: found["many"]["wall"] / found["many"]["training_s"]),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
