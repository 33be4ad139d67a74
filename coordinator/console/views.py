"""What each page shows, as plain values; the templates only lay them out."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Connection

from coordinator.console.alarms import home_alarms, run_alarms
from coordinator.console.charts import Chart, line_chart, step_bars
from coordinator.console.words import meanings
from coordinator.exports import exports_of
from coordinator.home import Home
from coordinator.run_store import queries
from coordinator.up_command import status_file
from privacy.transport.process_status import process_facts
from privacy.web.words import STEPS

__all__ = ["overview", "round_page", "run_page", "site_page", "sites_page"]

Values = dict[str, Any]
_SHOWN = 25       # rounds in a run's table
_CHARTED = 2000   # rounds in its charts


def overview(connection: Connection, home: Home, failing: str) -> Values:
    """Every run, what is alarming, the processes and the roster."""
    processes = process_facts(status_file(home.folder), 0)
    runs = queries.run_summaries(connection)
    alarms = home_alarms(home, processes, failing)
    for run in runs:
        if run["state"] != "finished":
            alarms += run_alarms(connection, home, run)
        run["left_s"] = _left_s(run)
    alarms.sort(key=lambda one: one.level)
    return {"processes": processes, "runs": runs, "alarms": alarms, "roster": _roster(home)}


def run_page(connection: Connection, home: Home, run_id: str, upto: int | None) -> Values | None:
    """One run; None where there is none. `upto`: the newest round in the table, None = the last."""
    run = queries.run_of(connection, run_id)
    if run is None:
        return None
    every = queries.newest_rounds(connection, run_id, _CHARTED)
    shown = queries.newest_rounds(connection, run_id, _SHOWN, upto)
    numbers = [row["round"] for row in shown]
    people = queries.participants(connection, run_id, numbers)
    for row in shown:
        row.update(_cohort(people[row["round"]]))
    run["left_s"] = _left_s(run)
    cohort = queries.newest_cohort(connection, run_id)
    stages = _stages(run, every)
    return {
        "run": run, "stages": stages, "rounds": shown[::-1], "older": numbers[0] - 1 if numbers and numbers[0] > 1
        else None, "newer": bool(numbers) and numbers[-1] != run["newest"],
        "charts": _public_charts(connection, run_id, every), "noised": _noised_charts(every), "cohort": cohort,
        "sites": queries.summed_up(connection, run_id), "plan": queries.planned_of(connection, run_id),
        "now": _now(connection, run), "alarms": run_alarms(connection, home, run),
        "exports": exports_of(home.runs_folder / run_id), "lost": _lost(run),
        "meanings": meanings(run["reason"], *(row["reason"] for row in cohort),
                             *(row["missing"] for rows in people.values() for row in rows))}


def round_page(connection: Connection, run_id: str, number: int) -> Values | None:
    """One round of a run: who took part, and the time of each protocol step; None where there is none."""
    run = queries.run_of(connection, run_id)
    found = queries.newest_rounds(connection, run_id, 1, number)
    steps = queries.steps_of(connection, run_id, [number])
    finished = bool(found) and found[-1]["round"] == number
    if run is None or not (finished or steps):
        return None
    people = queries.participants(connection, run_id, [number])[number]
    measured = {name: value for name, points in queries.measures_of(connection, run_id).items()
                for place, value in points if place == number}
    return {"run": run, "number": number, "round": found[-1] if finished else None, "people": people,
            "bars": step_bars(steps), "measured": measured, "meanings": meanings(*(row["missing"] for row in people))}


def sites_page(connection: Connection, home: Home) -> Values:
    """Every site of the roster, and those that only runs name."""
    roster = _roster(home)
    on_roster = {one["site_id"]: one for one in roster["sites"]}
    totals, nothing = queries.site_totals(connection), {"summed": 0, "missed": 0, "runs": 0, "newest": None}
    sites = [{"site_id": site_id, **on_roster.get(site_id, {"status": "not on the roster", "patients": None}),
              **totals.get(site_id, nothing)} for site_id in sorted({*on_roster, *queries.sites_known(connection)})]
    return {"sites": sites, "roster": roster}


def site_page(connection: Connection, home: Home, site_id: str) -> Values | None:
    """One site over all runs; None where neither the roster nor a run names it."""
    runs = queries.site_runs(connection, site_id)
    known = {one["site_id"]: one for one in _roster(home)["sites"]}
    if not runs and site_id not in known:
        return None
    reasons = [row["reason"] for run in runs for row in run["answers"]]
    reasons += [row["missing"] for run in runs for row in run["missed"]]
    for run in runs:
        run["last_answer"] = run["answers"][-1] if run["answers"] else None
        run["missed"] = run["missed"][-10:]
    return {"site_id": site_id, "site": known.get(site_id), "runs": runs, "meanings": meanings(*reasons)}


def _roster(home: Home) -> Values:
    try:
        roster = home.roster().roster
    except (ValueError, OSError) as error:
        return {"fault": str(error), "version": None, "sites": []}
    return {"fault": "", "version": roster.version, "hash": roster.hash().hex(), "sites": [
        {"site_id": site.site_id, "status": site.status, "patients": site.declared_patients} for site in roster.sites]}


def _left_s(run: Values) -> float | None:
    """Seconds until the end, from the mean time between the newest rounds' ends; None where nobody can say."""
    ends, total = run["ends"], run["rounds_total"]
    if run["state"] != "running" or total is None or len(ends) < 2 or total <= run["rounds_done"]:
        return None
    each = (ends[-1] - ends[0]) / (len(ends) - 1)
    return float(max(0.0, each * (total - run["rounds_done"]) - (time.time() - ends[-1])))


def _cohort(people: list[Values]) -> Values:
    counts = {name: sum(bool(row[name]) for row in people)
              for name in ("invited", "started", "masked", "summed", "attested")}
    return {**counts, "lacking": [row for row in people if row["missing"]],
            "bytes_to": sum(row["bytes_to"] for row in people), "bytes_from": sum(row["bytes_from"] for row in people)}


def _stages(run: Values, rows: list[Values]) -> list[Values]:
    """The curriculum: of each stage its rounds, and whether it is done, goes on, or is ahead."""
    done = [0] * 64
    for row in rows:
        done[min(row["stage"], 63)] += 1
    newest = max((row["stage"] for row in rows), default=-1)
    stages: list[Values] = []
    for number, stage in enumerate((run["manifest"] or {}).get("stages", [])):
        whole = done[min(number, 63)]
        over = number < newest or whole >= stage["max_rounds"] or run["state"] == "finished"
        going = not over and run["state"] == "running" and (number == newest or newest < number == _after(stages))
        stages.append({**stage, "done": whole, "state": "done" if over else "going on" if going else "ahead"})
    return stages


def _after(stages: list[Values]) -> int:
    """The first stage that is not done."""
    return next((number for number, stage in enumerate(stages) if stage["state"] != "done"), len(stages))


_EVALUATED = {  # by the sites on their validation patients, with noise
    "validation_loss": ("Noised validation loss, all sites together", "nats"),
    "gate_failed_sites": ("Sites that failed the stage's gate", "sites")}


def _public_charts(connection: Connection, run_id: str, rows: list[Values]) -> list[Chart]:
    measured = queries.measures_of(connection, run_id)
    starts = _stage_starts(rows)
    charts, titles = [], {"loss": ("Loss", "nats"), "accuracy": ("Accuracy", "share")}
    for kind, (title, unit) in titles.items():
        series = {name.removeprefix(f"{kind}_"): points[-_CHARTED:] for name, points in measured.items()
                  if name.startswith(f"{kind}_") or name == kind}
        charts.append(line_chart(f"public-{kind}", f"{title} on public questions", unit, series, starts,
                                 share=kind == "accuracy"))
    for name, (title, unit) in _EVALUATED.items():
        points = measured.pop(name, [])[-_CHARTED:]
        charts.append(line_chart(f"evaluated-{name}", title, unit, {name: points} if points else {}, starts))
    other = {name: points[-_CHARTED:] for name, points in measured.items() if name.partition("_")[0] not in titles}
    charts.append(line_chart("public-other", "Other measures on public questions", "", other, starts))
    return [chart for chart in charts if chart is not None]


def _noised_charts(rows: list[Values]) -> list[Chart]:
    starts, charts = _stage_starts(rows), []
    for name, title, unit in (("mean_loss", "Mean loss of drawn patients", "nats"),
                              ("accuracy", "Accuracy on drawn patients", "share"),
                              ("drawn", "Patients drawn, all sites together", "patients")):
        points = [(row["round"], row[name]) for row in rows if row[name] is not None]
        charts.append(line_chart(f"noised-{name.replace('_', '-')}", f"{title}, with noise", unit,
                                 {"noised": points}, starts))
    return [chart for chart in charts if chart is not None]


def _stage_starts(rows: list[Values]) -> list[tuple[int, str]]:
    starts: list[tuple[int, str]] = []
    for row in rows:
        if not starts or starts[-1][1] != row["stage_name"]:
            starts.append((row["round"], row["stage_name"]))
    return starts


def _lost(run: Values) -> list[int]:
    """Rounds without a sum; the newest one may still go on while the run does."""
    return [number for number in run["lost_rounds"] if run["state"] != "running" or number < (run["newest"] or 0)]


def _now(connection: Connection, run: Values) -> Values | None:
    """The step that a running run is in, from the last one that was closed; None while that cannot be said."""
    if run["state"] != "running" or run["ended"]:
        return None
    newest = max(run["newest"] or 0, *_lost(run), 0) + 1
    steps = queries.steps_of(connection, run["run_id"], range(max(1, newest - 2), newest + 2))
    order = list(STEPS)
    if not steps or steps[-1]["step"] not in order:
        since = run["last_time"]
        return None if since is None or run["rounds_total"] is None else {
            "round": newest, "step": order[0], "since": since, "place": 1, "of": len(order)}
    last = steps[-1]
    place = (order.index(last["step"]) + 1) % len(order)
    return {"round": last["round"] + (place == 0), "step": order[place], "since": last["time"], "place": place + 1,
            "of": len(order)}
