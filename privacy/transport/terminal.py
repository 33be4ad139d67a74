"""What a long command shows on a terminal: a table that stays in place, and what of it fits.

*Guarantees.* Where the output is no terminal, or one that cannot move its cursor, there is no table: the command prints
plain lines. Colours are left out where NO_COLOR is set (rich).

*Assumes.* What is shown is fit for the operator's own screen: the caller chooses it.

*Does not cover.* What a terminal keeps after the command has ended.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["NARROW", "bar", "facts_grid", "is_live", "live_table", "time_words"]

NARROW = 80  # columns; below it a table keeps its most important ones
_BAR = 20


def is_live() -> bool:
    """Whether a table can be shown in place."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


@contextmanager
def live_table(make: Callable[[Console], Any], every_s: float = 0.5) -> Iterator[None]:
    """Show what `make` returns until the end of the block, made anew every `every_s`; what is printed meanwhile stands
    above it. An error of `make` is shown by its kind and ends nothing."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()

    def made() -> Any:
        try:
            return make(console)
        except Exception as error:  # a file that is being replaced; the next look has it
            return Text(f"cannot be shown just now ({type(error).__name__})")

    with Live(console=console, get_renderable=made, refresh_per_second=1 / every_s, vertical_overflow="crop"):
        yield


def facts_grid(facts: Sequence[tuple[str, str]]) -> Table:
    """Names and values below each other; a value breaks over lines where the terminal is narrow."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for name, value in facts:
        grid.add_row(name, Text(value))
    return grid


def bar(share: float) -> str:
    """A share, 0 to 1, in ASCII."""
    filled = round(_BAR * min(1.0, max(0.0, share)))
    return f"[{'#' * filled}{'.' * (_BAR - filled)}]"


def time_words(seconds: float) -> str:
    """A time that is a guess."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0.0):.0f} s"
