"""What Flower's processes are told: how often they ask and say that they live, and where a site's node connects.

*Guarantees.* None; these are values.

*Assumes.* Both sides of one federation have the same heartbeat.

*Does not cover.* How Flower takes them (`privacy.transport.flower_internals`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["NodeOptions", "Timing"]


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: between signs of life, and between two questions for messages (see `configs.checks.TransportConfig`)."""

    heartbeat_s: float = 30.0
    busy_poll_s: float = 0.3
    idle_poll_s: float = 2.0
    busy_s: float = 60.0

    @property
    def first_poll_s(self) -> float:
        """The pause before the first question after a message; the next step often follows at once."""
        return self.busy_poll_s / 6

    def later(self, pause_s: float) -> float:
        """The pause after `pause_s`: longer, up to `busy_poll_s`."""
        return min(pause_s * 1.15, self.busy_poll_s)


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What a site's node needs; `port` is on loopback, where the executor asks for tasks with the secret."""

    superlink: str
    root_certificates: Path
    private_key: Path
    port: int
    secret_file: Path
