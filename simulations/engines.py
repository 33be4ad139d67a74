"""One federation, two engines: the in-process grid, and Flower's simulation engine (Ray). Same apps, same result.

Seeds reach the sites only from here: `set_session_factory` is called by this module in the process that runs the
ClientApp, and no file of a site can do the same.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from configs.schema import FaultConfig
from coordinator.app import app as coordinator_app
from simulations.in_process import InProcessGrid, LossyGrid, Traffic
from simulations.seeded import SeededEntropy
from site_client.app import app as site_app
from site_client.app import set_session_factory
from site_client.installation import Installation
from site_client.session import SiteSession

__all__ = ["ENGINES", "SimulatedRun", "run_engine"]

ENGINES = ("in-process", "flower")


@dataclass(frozen=True)
class SimulatedRun:
    """What an engine needs: the coordinator's file, a file a site (in node order), the seed, the network's faults."""

    coordinator_file: str
    site_files: Sequence[str]
    seed: int
    faults: Sequence[FaultConfig] = field(default_factory=tuple)


def run_engine(engine: str, run: SimulatedRun) -> Traffic | None:
    """Run to the end; the serialised traffic where the engine can count it.

    Raises:
        ValueError: unknown engine, or Ray is missing for `flower`.
        Exception: whatever ended the coordinator.
    """
    if engine == "in-process":
        return _run_in_process(run)
    if engine == "flower":
        return _run_flower(run)
    raise ValueError(f"engine={engine!r} must be one of {', '.join(ENGINES)}")


def _seeded_session(seed: int, site_file: str) -> SiteSession:
    site = Installation.open(site_file)
    return SiteSession(site, lambda purpose: SeededEntropy(seed, site.site_id, purpose))


def _run_in_process(run: SimulatedRun) -> Traffic:
    set_session_factory(lambda site_file: _seeded_session(run.seed, site_file))
    try:
        grid = InProcessGrid(site_app, [{"site-file": path} for path in run.site_files])
        context = Context(run_id=1, node_id=0, node_config={}, state=RecordDict(),
                          run_config={"coordinator-file": run.coordinator_file})
        coordinator_app(LossyGrid(grid, run.faults), context)
        return grid.traffic
    finally:
        set_session_factory(None)


class _SimulatedSites(ClientApp):
    """The site's ClientApp on Flower's virtual nodes: gives each partition its site file, and the run its seed."""

    def __init__(self, run: SimulatedRun) -> None:
        super().__init__()
        self._simulated = run

    def __call__(self, message: Message, context: Context) -> Message:
        run = self._simulated
        _seed_sessions_once(run.seed)
        context.node_config["site-file"] = run.site_files[int(context.node_config["partition-id"])]
        return site_app(message, context)


_worker_seed: int | None = None  # of the sessions in this process: a Ray worker keeps them between messages


def _seed_sessions_once(seed: int) -> None:
    global _worker_seed
    if _worker_seed != seed:
        set_session_factory(lambda site_file: _seeded_session(seed, site_file))
        _worker_seed = seed


class _SimulatedCoordinator(ServerApp):
    """The coordinator's ServerApp with the run's configuration (Flower's simulation passes an empty one)."""

    def __init__(self, run: SimulatedRun) -> None:
        super().__init__()
        self._simulated = run
        self.ended = threading.Event()

    def __call__(self, grid: Grid, context: Context) -> None:
        context.run_config["coordinator-file"] = self._simulated.coordinator_file
        coordinator_app(LossyGrid(grid, self._simulated.faults, self.ended), context)


def _run_flower(run: SimulatedRun) -> None:
    """One Ray actor plays all sites, because a round's secrets live in one process's memory between messages."""
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray  # noqa: F401
    except ImportError:
        raise ValueError("engine=flower needs Ray; run: pip install -e '.[simulation]'") from None
    from flwr.simulation import run_simulation

    cpus = os.cpu_count() or 1
    coordinator = _SimulatedCoordinator(run)
    try:
        run_simulation(
            server_app=coordinator, client_app=_SimulatedSites(run), num_supernodes=len(run.site_files),
            backend_config={"client_resources": {"num_cpus": float(cpus)},
                            "init_args": {"num_cpus": cpus, "include_dashboard": False}},
        )
    finally:
        coordinator.ended.set()  # its thread would otherwise wait for replies that cannot come
