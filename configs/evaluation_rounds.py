"""Evaluation rounds and stage gates as a curriculum's YAML has them."""

from __future__ import annotations

from dataclasses import dataclass

from configs.checks import positive, require

__all__ = ["EvaluationRoundsConfig", "GateConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GateConfig:
    """A stage must pass it before the next begins: no site's noised mean validation loss is above the threshold."""

    threshold: float         # nats
    min_patients: int = 5    # a site whose noised number of validation patients is smaller does not pass
    max_repeats: int = 0     # further blocks of the stage's rounds; the budget is charged for all of them
    spare: int = 1           # gate rounds that are tried again because they ended without a sum; charged as well

    def __post_init__(self) -> None:
        positive("gate", threshold=self.threshold, min_patients=self.min_patients)
        for name in ("max_repeats", "spare"):
            require(0 <= getattr(self, name) <= 16, f"gate.{name}={getattr(self, name)} must be 0 to 16")


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationRoundsConfig:
    """Rounds in which the sites evaluate the model on their validation patients, with noise, and train nothing."""

    noise_multiplier: float  # charged to each site's ledger as it is, at every evaluation
    every_rounds: int = 0    # training rounds between two evaluations; 0 = only after the last round
    loss_cap: float = 4.0    # nats; a patient's mean loss is cut here
    gate: GateConfig | None = None

    def __post_init__(self) -> None:
        positive("evaluation", noise_multiplier=self.noise_multiplier, loss_cap=self.loss_cap)
        require(self.every_rounds >= 0, f"evaluation.every_rounds={self.every_rounds} cannot be negative")
        require(self.gate is None or self.gate.threshold < self.loss_cap,
                f"gate.threshold must be below evaluation.loss_cap={self.loss_cap}: no site could ever fail")
