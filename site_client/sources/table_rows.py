"""Rows of tables, each read alone: a line of CSV or of JSON lines is one record, whatever stands in it.

A patient's samples must not depend on another patient's record. So no quotation mark, bracket or byte of one line
reaches into the next: a damaged line is refused and counted, for itself only. So, unlike RFC 4180, a cell cannot hold a
line break: of such a row a first line that happens to be a whole row is used, its own patient's text cut short, and a
later one counts as a row of the patient whom it names. A damaged table (no such file, too
large, a column missing or twice) is a SourceError and nothing of it is used: the operator's error, told before any run.
"""

from __future__ import annotations

import codecs
import csv
import json
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from site_client.records import Refusal, RefusedItemError
from site_client.sources.interface import SourceError

__all__ = [
    "MAX_CHOICES", "MAX_IMAGES", "MAX_TABLE_BYTES", "MAX_TEXT_CHARS", "checked_choices", "csv_rows", "json_elements",
    "json_rows", "parse_json", "required", "tidy",
]  # fmt: skip

MAX_TEXT_CHARS = 20_000
MAX_IMAGES = 8
MAX_CHOICES = 256  # each is searched for what names somebody: a line of 200,000 took minutes
MAX_TABLE_BYTES = 256 * 2**20
MAX_LINE_BYTES = 2**20  # of JSON
_BLANKS = " \t\r\n"


def csv_rows(
    path: Path, columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[str, dict[str, str] | Refusal]]:
    """(item, cells by column name) of each line that is not blank, or its refusal.

    ``optional`` columns may be absent, and are then absent from the cells. Raises SourceError when the table is
    missing, too large, or lacks a column of ``columns``, or has one twice.
    """
    rows = _csv_lines(path)
    header = [name.strip() for name in next(rows, (0, None))[1] or []]
    for column in columns:
        # The header found is not quoted: without one, the first row of patients would stand there.
        if header.count(column) != 1:
            raise SourceError(f"{path.name} must have exactly one column {column}; correct its header row.")
    for column in optional:
        if header.count(column) > 1:
            raise SourceError(f"{path.name} must have at most one column {column}; correct its header row.")
    for line, row in rows:
        item = f"{path.name} line {line}"
        try:
            yield item, _cells(header, row)
        except RefusedItemError as refusal:
            yield item, Refusal(item, refusal.code)


def json_rows(path: Path) -> Iterator[tuple[str, dict[str, Any] | Refusal]]:
    """(item, object) of each line that is not blank, or its refusal. Raises SourceError for a missing or too large
    file."""
    for number, line in enumerate(_read_bytes(path).splitlines(), start=1):
        if not line.strip():
            continue
        item = f"{path.name} line {number}"
        try:
            if len(line) > MAX_LINE_BYTES:
                raise RefusedItemError("row-malformed")
            yield item, _json_object(parse_json(line.decode(errors="surrogateescape")))
        except RefusedItemError as refusal:
            yield item, Refusal(item, refusal.code)


def json_elements(path: Path) -> list[tuple[str, dict[str, Any] | Refusal]]:
    """(item, object) of each element of a file that holds one JSON array, or its refusal.

    Elements are decoded one after another. Where one cannot be decoded nothing tells where the next begins, so the
    whole file is a SourceError; JSON lines confine such damage.
    """
    text = _read_bytes(path).decode(errors="surrogateescape")
    found: list[tuple[str, dict[str, Any] | Refusal]] = []
    try:
        for value in _array(text):
            item = f"{path.name} entry {len(found) + 1}"
            found.append((item, value if isinstance(value, dict) else Refusal(item, "row-malformed")))
    except (ValueError, RecursionError):
        raise SourceError(f"{path.name} is not one JSON array from entry {len(found) + 1} on; correct it, or write "
                          f"one object a line into {path.stem}.jsonl.") from None
    return found


def _array(text: str) -> Iterator[object]:
    """The elements of one JSON array and nothing after it; ValueError or RecursionError when it is none."""
    at = _skip(text, _expected(text, _skip(text, 0), "["))
    while text[at : at + 1] != "]":
        value, at = _OF_ELEMENTS.raw_decode(text, at)
        yield value
        at = _skip(text, at)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
            _expected(text, at, "]", never=True)
        else:
            _expected(text, at, "]")
    if _skip(text, at + 1) != len(text):
        raise ValueError("more than one value")


def _expected(text: str, at: int, char: str, never: bool = False) -> int:
    if (text[at : at + 1] == char) is never:
        raise ValueError("not an array")
    return at + 1


def parse_json(text: str) -> object:
    """The value of one JSON text; RefusedItemError when it is none, nests too deep or repeats a key."""
    try:
        value, end = _DECODER.raw_decode(text, _skip(text, 0))
    except (ValueError, RecursionError):
        raise RefusedItemError("row-malformed") from None
    if _skip(text, end) != len(text):
        raise RefusedItemError("row-malformed")
    return value


def tidy(text: str) -> str:
    """The text with every run of blanks as one; RefusedItemError when it is too long or no valid Unicode."""
    if len(text) > MAX_TEXT_CHARS:
        raise RefusedItemError("text-too-long")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise RefusedItemError("not-utf8")
    return " ".join(text.split())


def required(value: str, reason: str) -> str:
    """The value; RefusedItemError with ``reason`` when it is empty."""
    if not value:
        raise RefusedItemError(reason)
    return value


def checked_choices(cells: Sequence[str], answer: str) -> tuple[str, ...]:
    """The choices, tidied; () is an open question. RefusedItemError: fewer than two or more than MAX_CHOICES,
    repeated, empty, or without the answer."""
    choices = tuple(map(tidy, cells[: MAX_CHOICES + 1]))
    if choices and (not 2 <= len(choices) <= MAX_CHOICES or len(set(choices)) < len(choices) or not all(choices)):
        raise RefusedItemError("choices-malformed")
    if choices and answer not in choices:
        raise RefusedItemError("answer-not-a-choice")
    return choices


def _csv_lines(path: Path) -> Iterator[tuple[int, list[str] | None]]:
    """Number and cells of each line that is not blank; None for a line whose quotation marks do not match.

    Every line has a reader of its own, and is decoded on its own, so that none can reach into the next.
    """
    # Of bytes, splitlines knows \n, \r and \r\n only; of text it would split inside cells, as at U+2028.
    for number, line in enumerate(_read_bytes(path).splitlines(), start=1):
        if not line:
            continue
        try:
            # Bytes that are not UTF-8 become lone surrogates, so that only their rows are refused.
            yield number, next(csv.reader([line.decode(errors="surrogateescape")], strict=True))
        except csv.Error:
            yield number, None


def _read_bytes(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would never end
            raise SourceError(f"{path.name} is no regular file; put the table itself into the data folder.")
        if status.st_size > MAX_TABLE_BYTES:
            raise SourceError(f"{path.name} is larger than {MAX_TABLE_BYTES} bytes; split it into several folders.")
        return path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError:
        raise SourceError(f"{path.name} is missing or cannot be read; put it into the data folder.") from None


def _cells(header: list[str], row: list[str] | None) -> dict[str, str]:
    if row is None or len(row) != len(header):
        raise RefusedItemError("row-malformed")
    if any("\ud800" <= char <= "\udfff" for cell in row for char in cell):
        raise RefusedItemError("not-utf8")
    return {name: cell.strip() for name, cell in zip(header, row, strict=True)}


def _json_object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RefusedItemError("row-malformed")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _skip(text: str, at: int) -> int:
    while text[at : at + 1] and text[at] in _BLANKS:
        at += 1
    return at


def _once_or_none(pairs: list[tuple[str, Any]]) -> object:
    """In an array an element with a repeated key, or a number of thousands of digits, costs itself alone."""
    found = dict(pairs)
    return found if len(found) == len(pairs) else _UNUSABLE


def _whole_or_none(digits: str) -> object:
    try:
        return int(digits)
    except ValueError:
        return _UNUSABLE


_UNUSABLE = object()
_DECODER = json.JSONDecoder(object_pairs_hook=_once)
_OF_ELEMENTS = json.JSONDecoder(object_pairs_hook=_once_or_none, parse_int=_whole_or_none)
