"""What every configuration dataclass checks its values with."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = [
    "LOG_FORMATS", "ConfigError", "TransportConfig", "one_of", "positive", "require", "require_address",
    "require_cohort"]

LOG_FORMATS = ("text", "json")

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]+):(\d{1,5})")


class ConfigError(ValueError):
    """A configuration value that cannot be used; the text is one sentence that names the key and the fix."""


def require(condition: bool, text: str) -> None:
    """Raise ConfigError with `text` unless `condition` holds."""
    if not condition:
        raise ConfigError(text)


def positive(owner: str, **values: float) -> None:
    """Raise ConfigError for the first value that is not above 0."""
    for name, value in values.items():
        require(value > 0, f"{owner}.{name}={value} must be greater than 0")


def one_of(owner: str, name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise ConfigError unless `value` is one of `allowed`."""
    require(value in allowed, f"{owner}.{name}={value!r} must be one of {', '.join(allowed)}")


def require_cohort(owner: str, min_cohort: int, two_sites: bool) -> None:
    """Raise ConfigError unless the floor is 3 or more, or 2 in a federation of exactly two sites."""
    require(min_cohort >= 3 or (two_sites and min_cohort == 2),
            f"{owner}.min_cohort={min_cohort} must be at least 3, or 2 with {owner}.two_sites: "
            "a sum of two sites shows each the other's update")
    require(min_cohort == 2 or not two_sites, f"{owner}.two_sites needs {owner}.min_cohort 2, not {min_cohort}")


def require_address(owner: str, name: str, value: str) -> None:
    """Raise ConfigError unless `value` is HOST:PORT."""
    found = _ADDRESS.fullmatch(value)
    require(found is not None and 0 < int(found[2]) < 65536,
            f"{owner}.{name}={value!r} must be HOST:PORT, such as fl.example.org:443")


@dataclass(frozen=True, kw_only=True, slots=True)
class TransportConfig:
    """How often Flower's processes ask and say that they live. A site polls fast for a while after each message."""

    heartbeat_s: float = 30.0    # a node that is silent for two of them counts as offline
    busy_poll_s: float = 0.3     # between two questions for messages while a run goes on; less just after a message
    idle_poll_s: float = 2.0     # the same after `busy_s` without a message
    busy_s: float = 60.0

    def __post_init__(self) -> None:
        positive("transport", heartbeat_s=self.heartbeat_s, busy_poll_s=self.busy_poll_s,
                 idle_poll_s=self.idle_poll_s, busy_s=self.busy_s)
