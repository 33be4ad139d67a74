"""A test that needs network namespaces is skipped where there are none, and fails there on CI."""

from __future__ import annotations

import os

import pytest

from simulations.network_lab import cannot_run


def need_lab() -> None:
    """Skip the test, or fail it where CI=true, with the reason why this machine cannot have a lab."""
    if reason := cannot_run():
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
