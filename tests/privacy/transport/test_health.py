"""The health service over a real channel: serving, not serving with the reason, a port that is taken."""

from __future__ import annotations

import pytest

from privacy.transport.health import HealthService, check_health
from privacy.transport.service import alone, free_port


def test_it_says_whether_and_why_not():
    service = HealthService(0)
    try:
        assert check_health(service.port) == ("NOT_SERVING", "starting")
        service.set(True)
        assert check_health(service.port) == ("SERVING", "")
        service.set(False, "draining")
        assert check_health(service.port) == ("NOT_SERVING", "draining")
        service.set(False, "ünprintable\n" + "x" * 1000)
        status, reason = check_health(service.port)
        assert status == "NOT_SERVING"
        assert reason.startswith("nprintable")
        assert len(reason) == 400
    finally:
        service.stop()


def test_nothing_there():
    status, reason = check_health(port := free_port(), timeout_s=0.5)
    assert status == "UNREACHABLE"
    assert str(port) in reason


def test_a_taken_port_is_named():
    first = HealthService(0)
    try:
        with pytest.raises(ValueError, match=f"health_port={first.port} is taken"):
            HealthService(first.port)
    finally:
        first.stop()


def test_two_services_of_one_folder_never_run_at_once(tmp_path):
    with alone(tmp_path / "lock", "taken"), pytest.raises(ValueError, match="taken"), alone(tmp_path / "lock", "taken"):
        pass
    with alone(tmp_path / "lock", "taken"):
        pass
