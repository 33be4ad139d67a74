"""What the console's pages read from the run store, as plain dictionaries; every function takes an open connection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import BigInteger, Connection, Table, case, cast, func, select, union

from coordinator.run_store.schema import cohorts, measures, participation, planned, rounds, runs, steps

__all__ = ["measures_of", "newest_cohort", "newest_rounds", "participants", "planned_of", "run_of", "run_summaries",
           "site_runs", "site_totals", "sites_known", "steps_of", "summed_up", "unsummed_streaks"]

Row = dict[str, Any]


def run_summaries(connection: Connection) -> list[Row]:
    """Every run, newest first: the columns of `runs` with `rounds_done`, `stage_name` and `ends` (the newest times)."""
    found = _rows(connection.execute(select(runs).order_by(runs.c.queued.desc().nulls_last(), runs.c.run_id)))
    counted = connection.execute(select(rounds.c.run_id, func.count()).group_by(rounds.c.run_id)).tuples()
    counts: dict[str, int] = dict(counted.all())
    for run in found:
        newest = newest_rounds(connection, run["run_id"], 6)
        run["rounds_done"] = counts.get(run["run_id"], 0)
        run["stage_name"] = newest[-1]["stage_name"] if newest else ""
        run["ends"] = [one["ended"] for one in newest if one["ended"] is not None]
        run["saturated"] = newest[-1]["saturated"] if newest else None
        run["newest"] = newest[-1]["round"] if newest else None
    return found


def run_of(connection: Connection, run_id: str) -> Row | None:
    """One of `run_summaries`; None where there is no such run."""
    return next((run for run in run_summaries(connection) if run["run_id"] == run_id), None)


def newest_rounds(connection: Connection, run_id: str, count: int, upto: int | None = None) -> list[Row]:
    """The last `count` rounds up to round `upto`, oldest first."""
    chosen = select(rounds).where(rounds.c.run_id == run_id).order_by(rounds.c.round.desc()).limit(count)
    if upto is not None:
        chosen = chosen.where(rounds.c.round <= upto)
    return _rows(connection.execute(chosen))[::-1]


def participants(connection: Connection, run_id: str, numbers: Iterable[int]) -> dict[int, list[Row]]:
    """Who took part, for each of these rounds."""
    wanted = list(numbers)
    found: dict[int, list[Row]] = {number: [] for number in wanted}
    chosen = select(participation).where(participation.c.run_id == run_id, participation.c.round.in_(wanted))
    for row in _rows(connection.execute(chosen.order_by(participation.c.site_id))):
        found[row["round"]].append(row)
    return found


def measures_of(connection: Connection, run_id: str) -> dict[str, list[tuple[int, float]]]:
    """(round, value) of each thing that was measured on public questions, in the order of the rounds."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in _of(connection, measures, run_id, measures.c.name, measures.c.round):
        found.setdefault(row["name"], []).append((row["round"], row["value"]))
    return found


def steps_of(connection: Connection, run_id: str, numbers: Iterable[int]) -> list[Row]:
    """The protocol steps of these rounds, in the order in which they were closed."""
    chosen = select(steps).where(steps.c.run_id == run_id, steps.c.round.in_(list(numbers)))
    return _rows(connection.execute(chosen.order_by(steps.c.position)))


def planned_of(connection: Connection, run_id: str) -> list[Row]:
    """What the manifest plans for each site."""
    return _of(connection, planned, run_id, planned.c.site_id)


def newest_cohort(connection: Connection, run_id: str) -> list[Row]:
    """The answers to the run's last admission."""
    last = select(func.max(cohorts.c.position)).where(cohorts.c.run_id == run_id).scalar_subquery()
    return _rows(connection.execute(
        select(cohorts).where(cohorts.c.run_id == run_id, cohorts.c.position == last).order_by(cohorts.c.entry)))


def summed_up(connection: Connection, run_id: str) -> list[Row]:
    """For each site of a run: rounds it was invited to, uploaded in, was summed in, attested and missed; bytes."""
    return _rows(connection.execute(
        select(participation.c.site_id, *_sums()).where(participation.c.run_id == run_id)
        .group_by(participation.c.site_id).order_by(participation.c.site_id)))


def unsummed_streaks(connection: Connection, run_id: str, numbers: Sequence[int]) -> dict[str, tuple[int, str]]:
    """Sites that are missing in the newest of these rounds: in how many in a row, and the newest reason."""
    people = participants(connection, run_id, numbers)
    found: dict[str, tuple[int, str]] = {}
    for place, number in enumerate(sorted(numbers, reverse=True)):
        for row in people[number]:
            site = row["site_id"]
            streak, why = found.get(site, (0, row["missing"]))
            if not row["summed"] and row["missing"] and streak == place:
                found[site] = (streak + 1, why)
    return found


def sites_known(connection: Connection) -> list[str]:
    """Every site that a run names."""
    named = {*connection.scalars(select(participation.c.site_id).distinct()),
             *connection.scalars(select(planned.c.site_id).distinct()),
             *connection.scalars(select(cohorts.c.site_id).distinct())}
    return sorted(named - {""})


def site_totals(connection: Connection) -> dict[str, Row]:
    """For each site that a run asked: `summed` and `missed` rounds over all runs, `runs`, and the `newest` of these."""
    found: dict[str, Row] = {}
    sums = {row["site_id"]: row for row in _rows(connection.execute(
        select(participation.c.site_id, *_sums()).group_by(participation.c.site_id)))}
    asked = union(select(participation.c.run_id, participation.c.site_id),
                  select(cohorts.c.run_id, cohorts.c.site_id)).subquery()
    for row in _rows(connection.execute(
            select(asked).join(runs, runs.c.run_id == asked.c.run_id)
            .order_by(runs.c.queued.desc().nulls_last(), runs.c.run_id))):
        known = found.setdefault(row["site_id"], {"runs": 0, "newest": row["run_id"], **{
            name: sums.get(row["site_id"], {}).get(name, 0) for name in ("summed", "missed")}})
        known["runs"] += 1
    return found


def site_runs(connection: Connection, site_id: str) -> list[Row]:
    """For each run that names the site, newest first: the columns of `summed_up`, what is planned, and refusals."""
    took = {row["run_id"]: row for row in _rows(connection.execute(
        select(participation.c.run_id, *_sums()).where(participation.c.site_id == site_id)
        .group_by(participation.c.run_id)))}
    plans = {row["run_id"]: row for row in _rows(connection.execute(
        select(planned).where(planned.c.site_id == site_id)))}
    said = _rows(connection.execute(
        select(cohorts).where(cohorts.c.site_id == site_id).order_by(cohorts.c.run_id, cohorts.c.position)))
    lacked = _rows(connection.execute(
        select(participation.c.run_id, participation.c.round, participation.c.missing)
        .where(participation.c.site_id == site_id, participation.c.missing != "")
        .order_by(participation.c.run_id, participation.c.round)))
    found = []
    for run in run_summaries(connection):
        run_id = run["run_id"]
        answers = [row for row in said if row["run_id"] == run_id]
        if run_id in took or run_id in plans or answers:
            found.append({**run, "took": took.get(run_id), "plan": plans.get(run_id), "answers": answers,
                          "missed": [row for row in lacked if row["run_id"] == run_id]})
    return found


def _sums() -> list[Any]:
    return [*(func.sum(case((participation.c[name], 1), else_=0)).label(name)
              for name in ("invited", "started", "masked", "summed", "attested")),
            func.sum(case((participation.c.missing != "", 1), else_=0)).label("missed"),
            *(cast(func.sum(participation.c[name]), BigInteger).label(name) for name in ("bytes_to", "bytes_from")),
            func.max(participation.c.round).label("newest")]


def _of(connection: Connection, table: Table, run_id: str, *order: Any) -> list[Row]:
    return _rows(connection.execute(select(table).where(table.c.run_id == run_id).order_by(*order)))


def _rows(result: Any) -> list[Row]:
    return [dict(row) for row in result.mappings()]
