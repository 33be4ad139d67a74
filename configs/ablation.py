"""`simulate ablate FILE`: which parts of a simulation are left out, one at a time, and over which seeds."""

from __future__ import annotations

from dataclasses import dataclass, field

from configs.checks import one_of, positive, require

__all__ = ["PARTS", "AblationConfig"]

PARTS = ("vision", "projector", "stages", "privacy", "secure-aggregation", "alternation")


@dataclass(frozen=True, kw_only=True, slots=True)
class AblationConfig:
    """The simulation whose private federation is `full`, and what is dropped from it, each alone."""

    name: str
    simulation: str                  # a YAML file, relative to the folder `configs/`
    settings: list[str] = field(default_factory=list)  # KEY=VALUE of that file to change
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])  # of data, public base and training
    drop: list[str] = field(default_factory=lambda: list(PARTS))
    processes: int = 2

    def __post_init__(self) -> None:
        positive("ablation", processes=self.processes)
        require(0 < len(self.seeds) == len(set(self.seeds)) and min(self.seeds) >= 0,
                "ablation.seeds must name at least one seed from 0 up, each once")
        require(0 < len(self.drop) == len(set(self.drop)), "ablation.drop must name at least one part, each once")
        for part in self.drop:
            one_of("ablation", "drop", part, PARTS)
