"""Whom a hospital trusts where noise is shared out among sites: its statement, and what it asks a run for."""

from __future__ import annotations

from dataclasses import dataclass

from configs.checks import one_of, positive, require

__all__ = ["SERVER_RULES", "SharedNoiseConfig", "TrustConfig", "require_trust"]

SERVER_RULES = ("momentum", "adam", "adam-bc")


def require_trust(owner: str, colluders: int, min_survivors: int) -> None:
    """Raise ConfigError unless at least one honest site is left in a smallest sum."""
    require(colluders >= 0, f"{owner}.colluders={colluders} must be at least 0")
    require(min_survivors >= 2, f"{owner}.min_survivors={min_survivors} must be at least 2")
    require(colluders < min_survivors, f"{owner}.colluders={colluders} leaves no honest site among "
                                       f"min_survivors={min_survivors}")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrustConfig:
    """`policy.distributed_noise`: what this hospital assumes about the others; nothing here has a default."""

    colluders: int               # sites that work against this one; a single curious site is one, since it can take
                                 # its own noise off the sum; 0 covers outsiders only
    min_survivors: int           # fewest sites in a sum; with fewer this site opens none
    max_epsilon_outside: float   # cap against outsiders, who see all noise; policy.max_epsilon caps the colluders' view
    max_epsilon_alone: float     # cap on what this site's own share is worth, should secure aggregation fail

    def __post_init__(self) -> None:
        require_trust("policy.distributed_noise", self.colluders, self.min_survivors)
        positive("policy.distributed_noise", max_epsilon_outside=self.max_epsilon_outside,
                 max_epsilon_alone=self.max_epsilon_alone)


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedNoiseConfig:
    """`distributed`: how a run shares its noise out, and the optimiser that works on the noised sum."""

    min_survivors: int           # fewest sites in a sum; the noise is calibrated to min_survivors - colluders shares
    colluders: int = 1           # assumed colluding sites; a curious site alone is one, 0 covers outsiders only
    levels: int = 1 << 18        # L2 bound on a patient's vector of integers
    optimizer: str = "momentum"  # of the server on the noised sum: momentum, adam, adam-bc
    momentum: float = 0.9        # of that optimiser; for Adam the decay of the first moment
    second_decay: float = 0.999  # of Adam's second moment
    learning_rate: float = 1.0   # of the server; times each stage's own

    def __post_init__(self) -> None:
        require_trust("distributed", self.colluders, self.min_survivors)
        require(1 << 12 <= self.levels <= 1 << 24, f"distributed.levels={self.levels} must be 4096 to 16777216")
        one_of("distributed", "optimizer", self.optimizer, SERVER_RULES)
        require(0 <= self.momentum < 1, f"distributed.momentum={self.momentum} must be in [0, 1)")
        require(0 <= self.second_decay < 1, f"distributed.second_decay={self.second_decay} must be in [0, 1)")
        positive("distributed", learning_rate=self.learning_rate)
