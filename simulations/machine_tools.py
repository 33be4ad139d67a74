"""Programs of the machine that some tests need besides the network lab's, and the Debian packages that bring them."""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["CHROMIUM", "missing_packages", "postgres_program"]

CHROMIUM = "/usr/bin/chromium"
_POSTGRES = Path("/usr/lib/postgresql")


def postgres_program(name: str) -> str:
    """The path of a program of the newest PostgreSQL server here; "" where there is none."""
    found = sorted(_POSTGRES.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]) if path.parts[-3].isdigit()
                   else 0)
    return str(found[-1]) if found else shutil.which(name) or ""


def missing_packages(*wanted: str) -> list[str]:
    """The Debian packages of `wanted` (all of them by default) that this machine lacks, sorted."""
    present = {"chromium": Path(CHROMIUM).exists(), "fonts-dejavu-core": any(Path("/usr/share/fonts").rglob("DejaVu*")),
               "postgresql": bool(postgres_program("initdb"))}
    return sorted(package for package in wanted or present if not present[package])
