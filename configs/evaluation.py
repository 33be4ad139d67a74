"""`coordinator evaluate FILE`: one benchmark, where its local copy lies, and how much of it is asked."""

from __future__ import annotations

from dataclasses import dataclass, field

from configs.checks import one_of, positive, require
from model.benchmarks.formats import FORMATS, FORMATS_WITHOUT_FOLDER

__all__ = ["BenchmarkConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkConfig:
    """What is asked, and of what; the same file, copy and models always give the same questions and numbers."""

    name: str
    format: str                # a name of model.benchmarks.formats
    data: str = ""             # folder of the local copy; chest-reports needs none
    split: str = "test"
    language: str = "en"       # of SLAKE's questions: en, zh
    subjects: list[str] = field(default_factory=list)  # of MMMU; empty = its five medical ones
    fold: int = 0              # chest-reports: which fifth of the patients is held out
    seed: int = 0              # of the choice below a limit, and of the hash that holds patients out
    limit: int = 0             # at most so many questions; 0 = all
    max_new_tokens: int = 32   # of one answer

    def __post_init__(self) -> None:
        one_of("benchmark", "format", self.format, FORMATS)
        one_of("benchmark", "language", self.language, ("en", "zh"))
        require(bool(self.name) and "/" not in self.name, "benchmark.name must be a word without /, to name files by")
        require(not self.data or self.format not in FORMATS_WITHOUT_FOLDER,
                f"benchmark.data is not used by {self.format}, which is read from an installed package; remove it")
        require(not self.subjects or self.format == "mmmu-med",
                "benchmark.subjects is for the format mmmu-med; remove it")
        require(0 <= self.fold < 5, f"benchmark.fold={self.fold} must be 0 to 4")
        require(self.limit >= 0, f"benchmark.limit={self.limit} must be 0 (all) or more")
        positive("benchmark", max_new_tokens=self.max_new_tokens)
