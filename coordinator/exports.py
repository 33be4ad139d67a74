"""Where a run's releases were written: `exports.json` in the run's folder, so that they can be looked at later.

The folders themselves are the operator's: they may be moved or removed, and nothing here depends on them.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from privacy.durable import write_whole

__all__ = ["exports_of", "record_export"]

_FILE = "exports.json"


def record_export(run_folder: Path, out: Path, kind: str) -> None:
    """Note that a release of that kind was written to `out`. Raises OSError."""
    known = [one for one in exports_of(run_folder) if one["folder"] != str(out.absolute())]
    known.append({"folder": str(out.absolute()), "kind": kind, "time": time.time()})
    write_whole(run_folder / _FILE, json.dumps(known, indent=1).encode())


def exports_of(run_folder: Path) -> list[dict[str, Any]]:
    """{folder, kind, time} of each, oldest first; none where the file is missing or damaged."""
    try:
        found = json.loads((run_folder / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    return [one for one in found if isinstance(one, dict) and isinstance(one.get("folder"), str)
            and isinstance(one.get("kind"), str) and isinstance(one.get("time"), float)] if isinstance(
                found, list) else []
