"""A base model that is made once and kept: whole or not there, and never used when it was changed afterwards."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from model.backbone import hash_model

__all__ = ["kept_base"]

_HASH_FILE = "content.sha256"


def kept_base(target: Path, make: Callable[[Path], None]) -> Path:
    """`target`, made by `make` in a folder beside it unless it is there; safe to interrupt and for several processes.

    Raises:
        ValueError: it is there and its content is not what was written.
    """
    record = target / _HASH_FILE
    if target.exists():
        if not record.is_file() or record.read_text(encoding="ascii", errors="replace").strip() != (
                hash_model(target).hex()):
            raise ValueError(
                f"The cached base model {target} was changed after it was written; delete it and run again.")
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=target.parent))
    try:
        make(partial)
        (partial / _HASH_FILE).write_text(hash_model(partial).hex() + "\n", encoding="ascii")
        partial.chmod(0o755)
        if not target.exists():  # another process may have been faster; both made the same
            partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target
