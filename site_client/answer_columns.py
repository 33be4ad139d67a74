"""Answers as they are made: side by side on a terminal, one after the other where there is none."""

from __future__ import annotations

import sys
import time
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from model.generation import AnswerPiece

__all__ = ["Column", "printable", "run_silently", "show_live", "show_plain"]

NARROW = 80  # characters: below, answers stand one above the other
_FRAME_LINES = 6  # of a table with heading and footing, and the line of the cursor


@dataclass
class Column:
    """One model's answer so far: what it is called, its tokens to come, and the token that ends it."""

    title: str
    stream: Iterator[AnswerPiece]
    end_token_id: int
    pieces: list[str] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0
    finished: bool = False

    @property
    def text(self) -> str:
        return "".join(self.pieces).strip()

    def advance(self) -> str | None:
        """One token more: the text that it adds, None when there is none left. Takes as long as a forward."""
        started = time.perf_counter()
        piece = next(self.stream, None)
        self.seconds += time.perf_counter() - started
        if piece is None:
            return None
        self.finished = piece.token_id == self.end_token_id
        self.tokens += not self.finished
        self.pieces.append(piece.text)
        return piece.text

    def summary(self, interrupted: bool = False) -> str:
        """`12 tokens in 0.31 s`, and whether that is the whole answer."""
        cut = "" if self.finished else ", interrupted" if interrupted else ", cut at the most tokens allowed"
        return f"{self.tokens} token{'s' * (self.tokens != 1)} in {self.seconds:.2f} s{cut}"


def printable(text: str) -> str:
    """The text without what would steer a terminal or reorder letters: such characters become U+FFFD."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(letter)[0] == "C" and letter not in "\n\t" else letter
        for letter in text)  # fmt: skip


def run_silently(columns: Sequence[Column]) -> bool:
    """All columns to their ends; False when the operator interrupted (Ctrl-C), what there is stays in them."""
    try:
        for column in columns:
            while column.advance() is not None:
                pass
    except KeyboardInterrupt:
        return False
    return True


def show_plain(columns: Sequence[Column]) -> bool:
    """Each answer on stdout below its title, text as it comes; returns as `run_silently`."""
    whole = True
    for column in columns:
        print(f"--- {column.title}", flush=True)
        try:
            while whole and (text := column.advance()) is not None:
                sys.stdout.write(printable(text))
                sys.stdout.flush()
        except KeyboardInterrupt:
            whole = False
        print(f"\n[{column.summary(not whole)}]", flush=True)
    return whole


def show_live(columns: Sequence[Column], console: Console) -> bool:
    """All answers at once, a token each in turn, redrawn in place; returns as `run_silently`."""
    from rich.live import Live

    whole = True
    with Live(_drawn(columns, console), console=console, auto_refresh=False) as live:
        try:
            # All of them each time: no column may miss its turn because another has ended.
            while any([column.advance() is not None for column in columns]):  # noqa: C419
                live.update(_drawn(columns, console), refresh=True)
        except KeyboardInterrupt:
            whole = False
        live.update(_drawn(columns, console, whole=whole, last=True), refresh=True)
    return whole


def _drawn(columns: Sequence[Column], console: Console, *, whole: bool = True, last: bool = False) -> RenderableType:
    """A table with the columns side by side, or one above the other. While it grows it shows the ends that fit on
    the screen: what is taller could not be redrawn."""
    from rich.table import Table

    beside = console.width >= NARROW
    shown: list[tuple[str, Text, str]] = []
    width = max(10, (console.width if not beside else console.width // len(columns)) - 4)
    lines = max(2, (console.height - _FRAME_LINES * (1 if beside else len(columns))) // (1 if beside else len(columns)))
    for column in columns:
        footing = column.summary(not whole) if last else f"{column.tokens} tokens"
        shown.append((column.title, _tail(column.text, console, width, None if last else lines), footing))
    groups: list[list[tuple[str, Any, str]]] = [shown] if beside else [[part] for part in shown]
    grid = Table.grid(expand=True)
    for group in groups:
        table = Table(expand=True, show_footer=True)
        for title, _, footing in group:
            table.add_column(title, footer=footing, ratio=1, overflow="fold")
        table.add_row(*(text for _, text, _ in group))
        grid.add_row(table)
    return grid


def _tail(text: str, console: Console, width: int, most: int | None) -> Text:
    """The text wrapped to `width` characters, its last `most` lines (None: all)."""
    from rich.text import Text

    lines = Text(printable(text).expandtabs(4)).wrap(console, width)
    return Text("\n").join(lines if most is None else lines[-most:])
