"""A log of one JSON object a line, for both sides, and what is taken out of a text before it is logged.

*Guarantees.*
    * No token, cookie or password of a database that has a known form is logged, whatever a caller put into a text.
    * At a hospital (`strict`) a text also loses file paths, DICOM UIDs, pseudonyms and other long hexadecimal words,
      dates, e-mail addresses, quoted words and everything that looks like a patient's number. Of an exception only its
      kind and the place in the code are kept, never its text. Of records that other libraries log only the name of the
      library and the level are kept, but for Flower's and its server's, which carry messages and read no file.

*Assumes.* What is logged is chosen: of a request no header, query or body; of data, counts (`name=12`).

*Does not cover.* A name in running words. No message of ours is made from one, and a test reads every call that logs.
Plain text logs, which are as they were: the caller's own choice of words is all that protects them.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from pathlib import Path
from traceback import extract_tb
from types import TracebackType
from typing import Any

__all__ = ["FORMATS", "JsonLines", "as_line", "is_json", "log_as_json", "redacted", "use_format"]

FORMATS = ("text", "json")
_VARIABLE = "MEDGPT_LOG_FORMAT"
_FIELDS = ("method", "path", "status", "milliseconds", "client", "runs")
_SECRETS = (
    (re.compile(r"(?i)(bearer\s+|token[=:]\s*|cookie[=:]\s*|password[=:]\s*)[^\s;&\"']+"), r"\1[redacted]"),
    (re.compile(r"(\w+://[^\s:/@]+):[^\s@]+@"), r"\1:[redacted]@"),
    (re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])"), "[redacted]"),
)
_PERSONAL = (
    (re.compile(r"(?<!\w)(['\"])(?:(?!\1).)*\1(?!\w)"), "[quoted]"),
    (re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), "[address]"),
    (re.compile(r"(?:[^\s\"'=(]*/)+[^\s\"',;)]*"), "[path]"),
    (re.compile(r"\b[\w.-]+\.(?:dcm|dicom|csv|jsonl?|txt|png|jpe?g|pdf|nii)\b", re.IGNORECASE), "[path]"),
    (re.compile(r"\w+(?:\^\w*)+"), "[name]"),
    (re.compile(r"\b[0-2](?:\.\d+){4,}\b"), "[uid]"),
    (re.compile(r"\b[0-9a-f]{32,}\b", re.IGNORECASE), "[hash]"),
    (re.compile(r"\b\d{4}-\d\d-\d\d(?:[T ][\d:.]+Z?)?|\b\d{1,2}\.\d{1,2}\.\d{4}\b"), "[date]"),
    (re.compile(r"(?i)\b(patient|name|mrn|id|accession|study|series|uid|birth)(?!s\b)(\w*)([=:]\s*)[^\s,;]+"),
     r"\1\2\3[redacted]"),
    (re.compile(r"(?<![\w.:=-])[A-Za-z]{0,6}[-_]?\d{4,}[A-Za-z0-9]*\b(?!\.\d)"), "[number]"),
)
_TRUSTED = ("site_client", "privacy", "model", "configs", "coordinator", "flwr", "uvicorn", "__main__")
_MOST = 2000
_side = {"strict": False}  # of what this process' commands say


def redacted(text: str, *, strict: bool = False) -> str:
    """`text` without what looks like a secret, on one line; `strict`: nor like anything of a patient."""
    for pattern, instead in (*_SECRETS, *(_PERSONAL if strict else ())):
        text = pattern.sub(instead, text)
    return text[:_MOST].replace("\r", " ").replace("\n", " | ")


class JsonLines(logging.Formatter):
    """Time (UTC), level, logger, message, and the named fields of a record. `strict`: see above."""

    def __init__(self, *, strict: bool = False) -> None:
        super().__init__()
        self._strict = strict

    def format(self, record: logging.LogRecord) -> str:
        hidden = self._strict and not record.name.startswith(_TRUSTED)
        text = "[another library's text]" if hidden else redacted(record.getMessage(), strict=self._strict)
        facts: dict[str, Any] = {**_stamp(record.created), "level": record.levelname.lower(), "logger": record.name,
                                 "message": text}
        for name in _FIELDS:
            value = getattr(record, name, None)
            if value is not None:
                facts[name] = redacted(value) if isinstance(value, str) else value
        if record.exc_info and record.exc_info[0] is not None:
            facts["error"] = _kind_and_place(*record.exc_info) if self._strict else redacted(
                self.formatException(record.exc_info)[-_MOST:])  # its end says what and where
        return json.dumps(facts)


def as_line(text: str) -> str:
    """What a command says, as one such line."""
    return json.dumps({**_stamp(time.time()), "level": "info", "logger": "command",
                       "message": redacted(text, strict=_side["strict"])})


def log_as_json(*, strict: bool = False) -> None:
    """All loggers of this process, to the error output, and what ends the process as well."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines(strict=strict))
    handler.setLevel(logging.INFO)  # Flower's own logger lets everything through
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for noisy in ("uvicorn.access", "alembic", "sqlalchemy", "httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if strict:
        sys.excepthook = _log_end


def use_format(chosen: str, *, strict: bool = False, insist: bool = False) -> None:
    """What this process and those that it starts log: "text" or "json". The environment's own choice wins, and above
    it `insist`: JSON.

    Raises ValueError where the environment names neither.
    """
    if insist:
        os.environ[_VARIABLE] = "json"
    os.environ.setdefault(_VARIABLE, chosen)
    _side["strict"] = strict
    is_json()


def is_json() -> bool:
    """Whether JSON was chosen. Raises ValueError where the environment names neither."""
    chosen = os.environ.get(_VARIABLE, "text")
    if chosen not in FORMATS:
        raise ValueError(f"{_VARIABLE}={chosen} must be one of {', '.join(FORMATS)}")
    return chosen == "json"


def _stamp(when: float) -> dict[str, str]:
    return {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))}


def _kind_and_place(kind: type[BaseException] | None, error: BaseException | None,
                    trace: TracebackType | None) -> str:
    """Such as "ValueError at training.py:120"; an exception's text may quote what a file holds."""
    frames = extract_tb(trace)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{kind.__name__ if kind else type(error).__name__}{place}"


def _log_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("privacy.transport").critical("the process ended", exc_info=(kind, error, trace))
