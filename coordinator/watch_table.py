"""`coordinator watch` on a terminal: a run in one table that stays in place, with the time left."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordinator.gate_report import evaluation_text
from coordinator.progress import Event, events_after, follow, lines_of
from privacy.transport.terminal import NARROW, facts_grid, live_table, time_words

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from coordinator.run_queue import RunQueue

__all__ = ["Watched", "watch"]

_AROUND = 16       # lines that the rest takes; the table of rounds gets what is left of the terminal's
_EVENTS = 4        # of the newest below it
_TREND = 3         # rounds at each end that a trend compares
_SMALL = 0.01      # of the earlier value: not a trend


def watch(queue: RunQueue, run_id: str) -> None:
    """Follow the run to its end. Ctrl-C ends the watching, not the run."""
    watched = Watched(run_id, queue.folder(run_id))
    with live_table(watched.table):
        for event in follow(queue, run_id):
            watched.add(event)
    for line in lines_of(watched.seen[-1]):  # what came of it stays on the screen
        print(line)


class Watched:
    """What was heard of a run.

    Args:
        folder: of the run, for the steps' times and the signed manifest.
    """

    def __init__(self, run_id: str, folder: Path) -> None:
        self.run_id, self._folder = run_id, folder
        self.seen: list[Event] = []
        self._steps: list[Event] = []
        self._position = 0
        self._planned = ""
        threading.Thread(target=self._plan, daemon=True).start()  # the accountant takes seconds

    def add(self, event: Event) -> None:
        """The next event."""
        self.seen.append(event)

    def _plan(self) -> None:
        """The epsilon that the signed manifest lets the whole run spend, once there is one."""
        path = self._folder / "manifest.bin"
        while not path.is_file():
            time.sleep(1.0)
        from coordinator.release_facts import privacy_numbers
        from privacy.messages import SignedManifest

        try:
            numbers = privacy_numbers(SignedManifest.from_bytes(path.read_bytes()).manifest)
            known = [one["epsilon"] for one in numbers if one["epsilon"] is not None]
            self._planned = (f"{max(known):.3g} for each patient of the site with most, at delta "
                             f"{max(one['delta'] for one in numbers):.3g}") if known else "none: the run adds no noise"
        except Exception as error:  # what is watched goes on without it
            self._planned = f"cannot be computed ({type(error).__name__})"

    def table(self, console: Console) -> Any:
        """For a terminal of that width."""
        from rich.console import Group
        from rich.text import Text

        steps, self._position = events_after(self._folder / "steps.jsonl", self._position)
        self._steps += steps
        others = [line for event in self.seen for line in lines_of(event) if event["event"] != "round"]
        newest, most = others[-_EVENTS:], max(3, console.height - _AROUND)
        return Group(facts_grid(self.facts(time.time())), self._rounds(most, narrow=console.width < NARROW),
                     *(Text(line, style="dim", overflow="ellipsis", no_wrap=True) for line in newest))

    def facts(self, now: float) -> list[tuple[str, str]]:
        """Names and values above the table."""
        rounds, total = self._done(), self._last("begin").get("rounds_total")
        newest = rounds[-1] if rounds else {}
        cohort = self._last("cohort")
        facts = [("run", f"{self.run_id}: {len(rounds)} of {total if total is not None else '?'} rounds"),
                 ("stage", str(newest.get("stage_name", "not begun"))), ("cohort", _cohort(cohort, newest)),
                 ("loss", _loss(rounds)), ("epsilon", f"planned {self._planned or 'is being computed'}"),
                 ("step", self._step(now)), ("left", _left(rounds, total, now))]
        return [(name, value) for name, value in facts if value]

    def _done(self) -> list[Event]:
        rounds = {event["round"]: event for event in self.seen if event["event"] == "round"}
        return [rounds[number] for number in sorted(rounds)]

    def _last(self, kind: str) -> Event:
        return next((event for event in reversed(self.seen) if event["event"] == kind), {})

    def _step(self, now: float) -> str:
        if not self._steps:
            return ""
        from privacy.web.words import step_words

        last = self._steps[-1]
        return (f"{step_words(last['step'])} of round {last['round']} took {last['seconds']:.1f} s, "
                f"{last['answered']} of {last['asked']} sites; {time_words(now - last['time'])} ago")

    def _rounds(self, most: int, *, narrow: bool) -> Table:
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=False)
        names = ("round", "stage", "summed", "loss") if narrow else (
            "round", "stage", "summed", "missing", "noised loss", "seconds", "public")
        for name in names:
            table.add_column(name, overflow="fold")
        for event in self._done()[-most:]:
            row = [str(event["round"]), f"{event['stage_name']} ({event['factor']})",
                   f"{len(event['summed'])} of {len(event['invited'])}"]
            loss = "-" if event["mean_loss"] is None else f"{event['mean_loss']:.3f}"
            if not narrow:
                row.append(", ".join(f"{site}: {why}" for site, why in sorted(event["missing"].items())) or "-")
            row.append(loss)
            if not narrow:
                row += [f"{event['seconds']:.1f}", _public(event)]
            table.add_row(*row)
        return table


def _public(event: Event) -> str:
    """Means over the kinds of public questions; of an evaluation round what it found."""
    if event.get("evaluation"):
        return evaluation_text(event["evaluation"], len(event["summed"]))
    means = ((kind, _mean(event, kind)) for kind in ("loss", "accuracy"))
    return ", ".join(f"{kind} {value:.3g}" for kind, value in means if value is not None) or "-"


def _mean(event: Event, kind: str) -> float | None:
    values = [value for name, value in event.get("public", {}).items() if name.partition("_")[0] == kind]
    return sum(values) / len(values) if values else None


def _cohort(cohort: Event, newest: Event) -> str:
    if not cohort:
        return "waiting for the sites"
    said = f"{len(cohort['accepted'])} accepted, {cohort['floor']} needed"
    if cohort["refused"]:
        said += f"; refused: {', '.join(cohort['refused'])}"
    if newest:
        said += f"; {len(newest['summed'])} of {len(newest['invited'])} in the newest sum"
    return said


def _loss(rounds: list[Event]) -> str:
    """The newest values and where they go: on public questions, and of the noised means."""
    public = [value for event in rounds if (value := _mean(event, "loss")) is not None]
    noised = [event["mean_loss"] for event in rounds if event["mean_loss"] is not None]
    parts = [f"{name} {values[-1]:.3g}{_trend(values)}" for name, values in (("public", public), ("noised", noised))
             if values]
    return "; ".join(parts)


def _trend(values: list[float]) -> str:
    if len(values) < 2 * _TREND:
        return ""
    before, after = sum(values[-2 * _TREND:-_TREND]) / _TREND, sum(values[-_TREND:]) / _TREND
    if abs(after - before) < _SMALL * abs(before):
        return ", flat"
    return ", falling" if after < before else ", rising"


def _left(rounds: list[Event], total: int | None, now: float) -> str:
    """The time left, from the mean time between the last rounds' ends."""
    ends = [event["time"] for event in rounds][-6:]
    if total is None or len(ends) < 2 or total <= len(rounds):
        return ""
    each = (ends[-1] - ends[0]) / (len(ends) - 1)
    return f"about {time_words(each * (total - len(rounds)) - (now - ends[-1]))}"
