"""How far a long piece of work is, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["shown"]

_EVERY = 0.1  # of the work between two plain lines


@contextmanager
def shown(what: str) -> Iterator[Callable[..., None]]:
    """A function of (done, total, note): a bar with the time left on a terminal, a line now and then elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
               TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        task, said = bars.add_task(what, note=""), 0.0

        def show(done: int, total: int, note: str = "") -> None:
            nonlocal said
            bars.update(task, completed=done, total=total, note=note)
            if not console.is_terminal and (done - said >= _EVERY * total or done == total):
                said = done
                print(f"{what}: {done / total:.0%} {note}".rstrip(), file=sys.stderr, flush=True)

        yield show
