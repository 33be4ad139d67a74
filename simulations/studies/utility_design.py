"""Which runs the utility study makes: a fractional design, not the grid of all factors.

Every run is a `Cell`. The headline (eight even sites, alternating factors, epsilon 1, 3 and 8, five seeds) is complete;
number of sites, schedule, skew and the image task are varied one at a time around it, with fewer seeds. The nearness
of distributed noise to pooled training is asked for within one point, which five seeds are too few for: that pair has
eight (chosen on the spread of four trial pairs at epsilon 1, before any of these runs).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

__all__ = ["ARMS", "Arm", "Cell", "design", "quick_design"]

Arm = Literal["base", "pooled", "pooled-dp", "alone-dp", "federated", "local", "banded", "distributed"]
ARMS: dict[Arm, str] = {
    "base": "public base, untrained", "pooled": "pooled, no privacy", "pooled-dp": "pooled, with privacy",
    "alone-dp": "each site alone, with privacy", "federated": "federated, no privacy",
    "local": "federated, local noise", "banded": "federated, local noise, correlated",
    "distributed": "federated, distributed noise"}

_HEADLINE: tuple[Arm, ...] = ("base", "pooled", "pooled-dp", "local", "distributed")


@dataclass(frozen=True, slots=True)
class Cell:
    """One run.

    Args:
        task: "reports" (is this chest X-ray study normal; the unit is the patient) or "patches" (are two patches of a
            lesion alike; the unit is the source image).
        arm: one of `ARMS`.
        seed: of data, base, draws and noise.
        epsilon: of each patient; 0 where the arm has no privacy.
        sites: how many hospitals the private patients are dealt to; 1 for pooled arms.
        split: "even" (at random, equal sizes) or "skewed" (sorted by answer, sizes 4 to 1).
        schedule: which LoRA factors train: "alternate", "b-only" (FFA) or "both".
    """

    task: Literal["reports", "patches"]
    arm: Arm
    seed: int
    epsilon: float = 0.0
    sites: int = 1
    split: Literal["even", "skewed"] = "even"
    schedule: Literal["alternate", "b-only", "both"] = "alternate"

    @property
    def name(self) -> str:
        """Of its result file."""
        return (f"{self.task}_{self.arm}_eps{self.epsilon:g}_sites{self.sites}_{self.split}_{self.schedule}_"
                f"seed{self.seed}")

    @property
    def row(self) -> Cell:
        """The cell without its seed: what a row of a table averages over."""
        return replace(self, seed=-1)


def _arms(task: Literal["reports", "patches"], seeds: range, epsilons: tuple[float, ...], sites: int,
          arms: tuple[Arm, ...]) -> Iterator[Cell]:
    for seed in seeds:
        for arm in arms:
            if arm in ("base", "pooled"):
                yield Cell(task, arm, seed)
                continue
            for epsilon in epsilons:
                yield Cell(task, arm, seed, epsilon, 1 if arm == "pooled-dp" else sites)


def design() -> list[Cell]:
    """Every run of the study, the headline first; at most 150 that train."""
    cells = list(_arms("reports", range(5), (1.0, 3.0, 8.0), 8, _HEADLINE))
    cells += _arms("reports", range(5, 8), (1.0, 3.0, 8.0), 8, ("pooled-dp", "distributed"))
    cells += _arms("reports", range(5), (3.0, 8.0), 8, ("banded",))  # at epsilon 1 it is independent noise
    cells += _arms("reports", range(2), (1.0, 8.0), 8, ("alone-dp",))
    for sites in (4, 32):
        cells += _arms("reports", range(3), (1.0, 8.0), sites, ("local", "distributed"))
    for arm in ("local", "distributed"):
        for epsilon in (1.0, 8.0):
            cells += [Cell("reports", arm, seed, epsilon, 8, split="skewed") for seed in range(3)]
    cells += [Cell("reports", "federated", seed, 0.0, 8, split="skewed") for seed in range(2)]  # is it the noise?
    for schedule in ("b-only", "both"):
        for arm, sites in (("pooled-dp", 1), ("local", 8), ("distributed", 8)):
            cells += [Cell("reports", arm, seed, 3.0, sites, schedule=schedule) for seed in range(2)]
    cells += _arms("patches", range(2), (1.0, 8.0), 4,
                   ("base", "pooled", "pooled-dp", "alone-dp", "local", "distributed"))
    return list(dict.fromkeys(cells))


def quick_design() -> list[Cell]:
    """The headline comparison at epsilon 1 with one seed."""
    return list(_arms("reports", range(1), (1.0,), 8, _HEADLINE))
