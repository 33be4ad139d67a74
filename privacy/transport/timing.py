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
    busy_poll_s: float = 0.1
    idle_poll_s: float = 2.0
    busy_s: float = 60.0


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What a site's node needs; `port` is on loopback, where the executor asks for tasks with the secret."""

    superlink: str
    root_certificates: Path
    private_key: Path
    port: int
    secret_file: Path
