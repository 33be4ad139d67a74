"""The rows of a benchmark's file, each checked key by key, with the place of every complaint.

JSON (a list of objects, or one object of objects by key), JSONL (one object a line) and, where the package pyarrow is
installed, Parquet as dataset hubs distribute it. Without pyarrow, export the table as JSONL with its pictures as files.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from model.answer_text import LETTERS
from model.benchmarks.pictures import Picture, embedded, in_folder

__all__ = ["MAX_EMBEDDED_BYTES", "MAX_PICTURES", "MAX_TEXT_CHARS", "Row", "find_rows"]

MAX_TEXT_CHARS = 100_000
MAX_PICTURES = 16
MAX_CHOICES = len(LETTERS)
MAX_JSON_BYTES = 512 << 20
MAX_LINE_BYTES = 4 << 20
MAX_EMBEDDED_BYTES = 4 << 30  # of one benchmark, held in memory
_SUFFIXES = (".jsonl", ".json", ".parquet")


@dataclass(frozen=True, eq=False)
class Row:
    """One row. where: file and line (or entry), for messages. folder: where its pictures lie. number: from 0."""

    values: dict[str, Any] = field(repr=False)
    where: str
    folder: Path
    number: int
    name: str = ""  # the key of an object of objects

    def text(self, key: str, *, numbers: bool = False) -> str:
        """A text that is not empty, without space around it; with `numbers`, a number as its digits."""
        value = self.values.get(key)
        if numbers and isinstance(value, int | float) and not isinstance(value, bool):
            value = f"{value:g}" if isinstance(value, float) else str(value)
        if not isinstance(value, str) or not value.strip():
            raise self.refusal(key, "must hold a text that is not empty")
        if len(value) > MAX_TEXT_CHARS:
            raise self.refusal(key, f"is longer than {MAX_TEXT_CHARS} characters")
        return value.strip()

    def optional_text(self, key: str, default: str = "") -> str:
        """The text of a key that may be missing, null or empty."""
        value = self.values.get(key)
        return default if value is None or value == "" else self.text(key, numbers=True)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts; also one written as a text, as MMMU's options are."""
        value = self.values.get(key)
        if isinstance(value, str) and len(value) <= MAX_TEXT_CHARS:
            try:
                value = ast.literal_eval(value)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                raise self.refusal(key, "must be a list of texts") from None
        if not isinstance(value, list | tuple) or not all(isinstance(one, str | int | float) for one in value):
            raise self.refusal(key, "must be a list of texts")
        found = tuple(str(one).strip() for one in value)
        if not all(found) or sum(map(len, found)) > MAX_TEXT_CHARS:
            raise self.refusal(key, f"must hold texts that are not empty, {MAX_TEXT_CHARS} characters in all")
        return found

    def choices(self, key: str) -> tuple[str, ...]:
        """The options in the order of their letters: a list, or an object by letters A, B, ... without a gap.

        Letters without a text (a question with fewer options than the table has columns) may only stand at the end.
        """
        value = self.values.get(key)
        if isinstance(value, dict):
            kept = {letter: text for letter, text in value.items() if text is not None and text != ""}
            if sorted(kept) != list(LETTERS[: len(kept)]):
                raise self.refusal(key, "must name options by the letters A, B, C and on, without a gap")
            found = tuple(Row(kept, f"{self.where}, {key}", self.folder, self.number).text(letter, numbers=True)
                          for letter in sorted(kept))
        else:
            found = self.texts(key)
        if not 2 <= len(found) <= MAX_CHOICES:
            raise self.refusal(key, f"must hold 2 to {MAX_CHOICES} options")
        return _without_letters(found)

    def letter(self, key: str, choices: Sequence[str]) -> str:
        """The letter of one of `choices`."""
        value = self.text(key).upper()
        if len(value) != 1 or value not in LETTERS[: len(choices)]:
            raise self.refusal(key, f"must be a letter from A to {LETTERS[len(choices) - 1]}")
        return value

    def one_of(self, key: str, allowed: Sequence[str]) -> str:
        """A text that is one of `allowed` once in lower case."""
        value = self.text(key).lower()
        if value not in allowed:
            raise self.refusal(key, f"must be one of {', '.join(allowed)}")
        return value

    def picture(self, key: str, subfolder: str = "") -> Picture:
        """The picture of a key: a file's name, or embedded bytes (Parquet)."""
        return self._picture(key, self.values.get(key), subfolder)

    def pictures(self, key: str, subfolder: str = "") -> tuple[Picture, ...]:
        """The pictures of a key that holds a list of them."""
        values = self.values.get(key)
        if not isinstance(values, list) or len(values) > MAX_PICTURES:
            raise self.refusal(key, f"must be a list of at most {MAX_PICTURES} pictures")
        return tuple(self._picture(key, value, subfolder) for value in values)

    def numbered_pictures(self, most: int) -> tuple[Picture, ...]:
        """The pictures of `image_1` to `image_{most}`; those that are missing or null may only stand at the end."""
        held = [self.values.get(f"image_{number}") not in (None, "") for number in range(1, most + 1)]
        if sorted(held, reverse=True) != held:
            raise self.refusal(f"image_{held.index(False) + 1}", "is missing though a later picture is there")
        return tuple(self.picture(f"image_{number}") for number in range(1, sum(held) + 1))

    def refusal(self, key: str, why: str) -> ValueError:
        """The complaint about a key of this row, as an error to raise."""
        return ValueError(f"{self.where}: key {key} {why}; correct the row, or get the benchmark's file again")

    def _picture(self, key: str, value: Any, subfolder: str) -> Picture:
        if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
            return embedded(value["bytes"], str(value.get("path") or key), self.where)
        name = value.get("path") if isinstance(value, dict) else value
        if not isinstance(name, str) or len(name) > 1000:
            raise self.refusal(key, "must name a picture's file")
        return in_folder(self.folder / subfolder, name, self.where)


def find_rows(folder: Path, stems: Sequence[str], pictures: Path | None = None) -> list[Row]:
    """The rows of the one file (or the Parquet shards) that `folder` holds under one of `stems`, such as `test`.

    `STEM.jsonl`, `STEM.json`, or Parquet `STEM.parquet`, `STEM-*.parquet`, also in `data/`. pictures: the folder that
    pictures' names are relative to, where it is another one. Raises ValueError, one sentence, when there is no such
    file, when there are several (mixed inputs), and for a row that is not an object.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; name the benchmark's local copy with --data")
    found = [file for stem in stems for file in _candidates(folder, stem)]
    if not found:
        names = ", ".join(f"{stem}{{{','.join(_SUFFIXES)}}}" for stem in stems)
        raise ValueError(f"{folder} holds no file of this benchmark; expected one of {names}")
    kinds = {(file.parent, file.suffix, file.name.split("-")[0].removesuffix(file.suffix)) for file in found}
    if len(kinds) > 1:
        raise ValueError(f"{folder} holds {found[0].name} and {found[-1].name}, which would be mixed; keep one of them")
    rows = [replace(row, number=number)  # shards are one table
            for number, row in enumerate(row for file in found for row in _rows_of(file, pictures or folder))]
    if not rows:
        raise ValueError(f"{found[0]} holds no row; get the benchmark's file again")
    return rows


def _without_letters(choices: tuple[str, ...]) -> tuple[str, ...]:
    """Options without their own letters, where every one of them has it (`A. first`, `(B) second`)."""
    found = [re.fullmatch(rf"\(?{letter}[).:]\s+(.+)", choice, re.DOTALL)
             for letter, choice in zip(LETTERS, choices, strict=False)]
    return tuple(match[1] for match in found if match) if all(found) else choices


def _candidates(folder: Path, stem: str) -> list[Path]:
    plain = [folder / f"{stem}{suffix}" for suffix in _SUFFIXES]
    shards = [path for inner in (folder, folder / "data") for path in sorted(inner.glob(f"{stem}-*.parquet"))]
    return [path for path in plain if path.is_file()] + shards


def _rows_of(file: Path, folder: Path) -> Iterator[Row]:
    readers = {".jsonl": _lines, ".json": _entries, ".parquet": _parquet}
    for where, name, values in readers[file.suffix](file):
        if not isinstance(values, dict):
            raise ValueError(f"{file.name}, {where}: must be an object of keys and values; get the file again")
        yield Row(values, f"{file.name}, {where}", folder, 0, name)


def _lines(file: Path) -> Iterator[tuple[str, str, Any]]:
    with file.open("rb") as stream:
        number = 0
        while line := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise ValueError(f"{file.name}, line {number}: is longer than {MAX_LINE_BYTES >> 20} MiB; get it again")
            if line.strip():
                yield f"line {number}", "", _parsed(line, f"{file.name}, line {number}")


def _entries(file: Path) -> Iterator[tuple[str, str, Any]]:
    if file.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"{file} is larger than {MAX_JSON_BYTES >> 20} MiB; give it as JSONL, one object a line")
    whole = _parsed(file.read_bytes(), file.name)
    if isinstance(whole, dict):
        yield from ((f"entry {key}", key, value) for key, value in whole.items())
    elif isinstance(whole, list):
        yield from ((f"entry {number}", "", value) for number, value in enumerate(whole, start=1))
    else:
        raise ValueError(f"{file.name} must hold a list of objects; get the benchmark's file again")


def _parsed(data: bytes, where: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError(f"{where}: is not valid JSON; get the benchmark's file again") from None


def _parquet(file: Path) -> Iterator[tuple[str, str, Any]]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise ValueError(f"{file.name} is Parquet, which needs the package pyarrow; install it, or export the table "
                         "as JSONL with its pictures as files") from None
    if file.stat().st_size > MAX_EMBEDDED_BYTES:
        raise ValueError(f"{file} is larger than {MAX_EMBEDDED_BYTES >> 30} GiB; export it as JSONL with its pictures "
                         "as files")
    number = 0
    try:
        with parquet.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=64):
                for values in batch.to_pylist():
                    number += 1
                    yield f"row {number}", "", values
    except (OSError, ValueError) as error:  # pyarrow's errors are of these two
        raise ValueError(f"{file.name} cannot be read as Parquet after row {number} ({type(error).__name__}); get the "
                         "file again") from None
