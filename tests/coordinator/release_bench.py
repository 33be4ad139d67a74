"""One run, exported as releases that a test may copy, change and sign again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coordinator.export_run import export_run
from coordinator.home import Home
from coordinator.release_folder import sign_release
from tests.coordinator.finished_run import make_base, make_home, make_run

ADAPTER = "adapter_model.safetensors"
Verify = Callable[..., tuple[int, str, str]]


class Bench:
    """One run, exported in both formats and with another rank; `copy` gives a release that a test may change."""

    def __init__(self, place: Path) -> None:
        self.run = make_run(place, make_home(place), make_base(place / "base"))
        self.other = make_run(place, self.run.home, self.run.base, "other", rank=8)
        self.key = Home.open(self.run.home).key()
        self.made = {name: place / name for name in ("peft", "merged", "rank-8")}
        export_run(self.run.folder, self.made["peft"], self.key)
        export_run(self.run.folder, self.made["merged"], self.key, "merged")
        export_run(self.other.folder, self.made["rank-8"], self.key)

    def copy(self, folder: Path, name: str = "peft") -> Path:
        shutil.copytree(self.made[name], folder)
        return folder

    def resign(self, folder: Path, **changed: Any) -> None:
        """As a dishonest coordinator would: whatever is in the folder, with its own good signature."""
        facts = json.loads((folder / "release.json").read_text()) | changed
        for name in ("release.json", "release.sig"):
            (folder / name).unlink()
        facts.pop("files")
        sign_release(folder, facts, self.run.manifest.hash(), self.key)


def refused(found: tuple[int, str, str], words: str) -> None:
    code, out, error = found
    assert (code, out) == (1, "") and words in error, found
