"""`/metrics` for Prometheus: the state of processes, runs and sites at the moment of the scrape.

Labels are runs, sites and names of public measures: never a patient, a file or a reason's free text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection

from coordinator.home import Home
from coordinator.run_store import queries
from coordinator.run_store.database import Database
from coordinator.up_command import status_file
from privacy.transport.supervisor import read_status

__all__ = ["METRICS_TYPE", "metrics_text"]

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "medgpt_coordinator_"
_NEWEST = 20  # runs that are shown: of a finished run nothing changes, and a database of metrics keeps what it saw
_STATES = ("queued", "running", "finished", "failed", "stopped", "unknown")


def metrics_text(home: Home, database: Database, imported: float) -> bytes:
    """Everything, in Prometheus' text format.

    Args:
        imported: when the store was last brought up to date, Unix seconds.
    """
    registry = CollectorRegistry()
    registry.register(_Collector(home, database, imported))
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, home: Home, database: Database, imported: float) -> None:
        self._home, self._database, self._imported = home, database, imported

    def collect(self) -> Iterator[Metric]:
        """One pass over the processes and the newest runs."""
        yield from _processes(self._home)
        yield _gauge("store_updated_timestamp_seconds", "When the run store was last brought up to date.",
                     [({}, self._imported)])
        with self._database.reading() as connection:
            runs = queries.run_summaries(connection)
            yield _gauge("runs", "Runs by state.", [
                ({"state": state}, sum(run["state"] == state for run in runs)) for state in _STATES])
            yield from _runs(runs[:_NEWEST])
            yield from _sites(connection, runs[:_NEWEST])


def _processes(home: Home) -> Iterator[Metric]:
    status = read_status(status_file(home.folder))
    up = status is not None and bool(status["alive"])
    yield _gauge("up", "Whether `coordinator up` runs.", [({}, up)])
    children = status["children"] if status is not None and up else []
    yield _gauge("process_running", "Whether a process of `coordinator up` runs and is ready.", [
        ({"process": child["name"]}, child["state"] == "running") for child in children])
    yield _gauge("process_starts", "How often it was started since `coordinator up` began.", [
        ({"process": child["name"]}, child["starts"]) for child in children])


def _runs(runs: list[dict[str, Any]]) -> Iterator[Metric]:
    def of(name: str, text: str, column: str) -> Metric:
        return _gauge(name, text, [({"run_id": run["run_id"]}, run[column]) for run in runs if run[column] is not None])

    yield of("run_rounds_done", "Rounds that ended with a sum.", "rounds_done")
    yield of("run_rounds_planned", "Rounds of the whole curriculum.", "rounds_total")
    yield of("run_event_timestamp_seconds", "When the run's newest event was written.", "last_time")
    yield of("run_saturated_ratio", "Share of an upload's coordinates that were cut off in the newest round.",
             "saturated")
    yield of("run_unreadable_lines", "Lines of the run's journals that cannot be read.", "unreadable")


def _sites(connection: Connection, runs: list[dict[str, Any]]) -> Iterator[Metric]:
    rows = [{"run_id": run["run_id"], **row} for run in runs for row in queries.summed_up(connection, run["run_id"])]
    for name, text, column in (
            ("site_rounds_summed", "Rounds of the run whose sum holds the site's update.", "summed"),
            ("site_rounds_missed", "Rounds of the run in which the site was missing.", "missed"),
            ("site_sent_bytes", "Bytes of messages to the site.", "bytes_to"),
            ("site_received_bytes", "Bytes of messages from the site.", "bytes_from")):
        yield _gauge(name, text, [({"run_id": row["run_id"], "site_id": row["site_id"]}, row[column]) for row in rows])
    values = []
    for run in runs:
        for name, points in queries.measures_of(connection, run["run_id"]).items():
            values.append(({"run_id": run["run_id"], "measure": name}, points[-1][1]))
    yield _gauge("public_measure", "Newest value of a measure on public questions.", values)


def _gauge(name: str, text: str, values: list[tuple[dict[str, str], float]]) -> Metric:
    labels = list(values[0][0]) if values else []
    family = GaugeMetricFamily(_PREFIX + name, text, labels=labels)
    for labelled, value in values:
        family.add_metric(list(labelled.values()), float(value))
    return family
