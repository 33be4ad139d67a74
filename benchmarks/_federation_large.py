"""Large rounds for `benchmarks.federation`: hub, four nodes, four executors and a coordinator as processes.

The coordinator runs secure and plain rounds in turn (`benchmarks._federation_rounds`, `benchmarks._federation_site`).
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

from benchmarks._federation_deploy import SITES, Federation
from benchmarks._federation_processes import peak_memory, wait_for
from privacy.transport.service import free_port
from simulations.materials import Materials

__all__ = ["large_rounds", "ratios"]


def large_rounds(folder: Path, materials: Materials, dimension: int, rounds: int) -> dict[str, Any]:
    """Figures by arm (see `benchmarks._federation_rounds`) and `hub_peak`, `coordinator_peak` (bytes)."""
    made = Federation(folder, materials, busy_s=60.0)
    with made.processes as processes:
        hub_port, hub_secret = free_port(), _secret(folder / "hub.secret")
        hub = processes.start("hub", "coordinator.superlink_process", made.home, "--port", str(hub_port),
                              "--secret-file", hub_secret, "--ready", folder / "hub.ready")
        wait_for((folder / "hub.ready").exists, 600, "the start of the hub", processes)
        for site, file in made.site_files.items():
            port, secret = free_port(), _secret(folder / f"{site}.secret")
            shared = [file, "--port", str(port), "--secret-file", secret]
            processes.start(f"{site}-node", "site_client.supernode_process", *shared, "--ready",
                            folder / f"{site}.connected")
            processes.start(f"{site}-executor", "benchmarks._federation_site", *shared, "--ready",
                            folder / f"{site}.ready", "--roster", made.home / "roster.bin",
                            "--dimension", str(dimension))
        wait_for(lambda: all((folder / f"{site}.ready").exists() for site in SITES), 600, "the start of the executors",
                 processes)
        (folder / "pids").write_text(" ".join(map(str, processes.pids())))
        counters = [file.parent / "state" / "transport.json" for file in made.site_files.values()]
        out = folder / "rounds.json"
        coordinator = processes.start(
            "coordinator", "benchmarks._federation_rounds", made.home, "--port", str(hub_port), "--secret-file",
            hub_secret, "--dimension", str(dimension), "--rounds", str(rounds), "--pids", folder / "pids", "--out", out,
            "--counters", *counters)
        peaks = {}

        def over() -> bool:
            peaks["coordinator"] = peak_memory([coordinator.pid]) or peaks["coordinator"]
            return coordinator.poll() is not None

        wait_for(over, 1800, "the large rounds")
        if not out.is_file():
            raise RuntimeError(f"the large rounds failed: {processes.tail('coordinator')}")
        return {**json.loads(out.read_text()), "coordinator_peak": peaks["coordinator"],
                "hub_peak": peak_memory([hub.pid])}


def ratios(found: dict[str, Any], what: str) -> list[float]:
    """Secure over plain, by pairs of rounds that ran one after the other."""
    return [one / other for one, other in zip(found["secure"][what], found["plain"][what], strict=True)]


def _secret(path: Path) -> Path:
    path.write_text(secrets.token_hex(32))
    return path
