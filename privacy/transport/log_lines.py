"""A log of one JSON object a line, without tokens, cookies, or passwords of databases.

*Guarantees.* Every text passes the redaction, whatever was chosen to be logged.

*Assumes.* What is logged is chosen: of a request no header, query or body.

*Does not cover.* A secret of another form than those that are known here.
"""

from __future__ import annotations

import json
import logging
import re
import time
from typing import Any

__all__ = ["JsonLines", "log_as_json", "redacted"]

_FIELDS = ("method", "path", "status", "milliseconds", "client", "runs")
_SECRETS = (
    (re.compile(r"(?i)(bearer\s+|token[=:]\s*|cookie[=:]\s*|password[=:]\s*)[^\s;&\"']+"), r"\1[redacted]"),
    (re.compile(r"(\w+://[^\s:/@]+):[^\s@]+@"), r"\1:[redacted]@"),
    (re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])"), "[redacted]"),
)
_MOST = 2000


def redacted(text: str) -> str:
    """`text` without what looks like a secret, on one line."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text[:_MOST].replace("\r", " ").replace("\n", " | ")


class JsonLines(logging.Formatter):
    """Time (UTC), level, logger, message, and the named fields of a record."""

    def format(self, record: logging.LogRecord) -> str:
        facts: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)), "level": record.levelname.lower(),
            "logger": record.name, "message": redacted(record.getMessage())}
        for name in _FIELDS:
            value = getattr(record, name, None)
            if value is not None:
                facts[name] = redacted(value) if isinstance(value, str) else value
        if record.exc_info and record.exc_info[0] is not None:
            facts["error"] = redacted(self.formatException(record.exc_info)[-_MOST:])  # its end says what and where
        return json.dumps(facts)


def log_as_json() -> None:
    """All loggers of this process, to the error output."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for noisy in ("uvicorn.access", "alembic", "sqlalchemy"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
