"""Bad networks, in namespaces: a site cut off for two minutes, frozen for 90 s, on a slow, thin or lossy line."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulations.materials import Materials
from simulations.network_lab import COORDINATOR, Lab
from simulations.real_checks import faults_of
from simulations.real_federation import RealFederation, until
from tests.federation.long_run import LongRun
from tests.simulations.lab_here import need_lab

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

PARTITION_S, FREEZE_S = 120.0, 90.0


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    need_lab()
    with Lab(4) as made:
        yield made


class Detour:
    """A proxy beside the coordinator by which site-4 reaches it from the beginning, with a delay each way."""

    def __init__(self, federation: RealFederation, lab: Lab) -> None:
        self._federation, self._lab = federation, lab
        host, _, port = federation.address.rpartition(":")
        self.address = f"{host}:{int(port) + 1 if int(port) < 65535 else int(port) - 1}"
        self._proxy: subprocess.Popen[bytes] | None = None

    def delay(self, seconds: float) -> None:
        """Begin again with this delay; connections are cut."""
        self.end()
        self._proxy = self._lab.run(COORDINATOR, [
            sys.executable, "-m", "simulations.delay_proxy", self.address, self._federation.address, "--delay",
            str(seconds)], env=self._federation.environment_of(), stdout=subprocess.PIPE)
        assert self._proxy.stdout is not None and b"ready" in self._proxy.stdout.readline()

    def end(self) -> None:
        if self._proxy is not None:
            self._proxy.kill()
            self._proxy.wait()


@pytest.fixture(scope="module")
def detoured(lab: Lab, materials: Materials, folder: Path) -> Iterator[tuple[RealFederation, Detour]]:
    federation = RealFederation(folder, materials, lab=lab)
    detour = Detour(federation, lab)
    federation.address_of["site-4"] = detour.address
    detour.delay(0.0)
    try:
        with federation:
            yield federation, detour
    finally:
        detour.end()


@pytest.fixture(scope="module")
def federation(detoured: tuple[RealFederation, Detour]) -> RealFederation:
    return detoured[0]


@pytest.fixture(scope="module")
def detour(detoured: tuple[RealFederation, Detour]) -> Detour:
    return detoured[1]


@pytest.fixture(scope="module")
def long_run(federation: RealFederation) -> LongRun:
    run = LongRun(federation)
    run.begin()
    return run


def _goes_on_without(long_run: LongRun, site: str, for_s: float) -> int:
    """Rounds that the others finished while the site was away; at least one of them without it."""
    federation, end = long_run.federation, time.monotonic() + for_s
    before = len(federation.history(long_run.run))
    until(lambda: f"{for_s:g} s over", lambda: time.monotonic() > end, for_s + 10, every_s=0.5)
    made = federation.history(long_run.run)[before:]
    assert any(site not in entry["attested"] for entry in made), "nobody noticed"
    assert federation.queue.get(long_run.run).state in ("running", "queued")
    return len(made)


def test_a_site_that_is_cut_off_for_two_minutes_is_left_out_and_comes_back(long_run: LongRun, lab: Lab) -> None:
    with long_run.fault("site-2 cut off for 120 s"):
        lab.partition("site-2")
        try:
            rounds = _goes_on_without(long_run, "site-2", PARTITION_S)
        finally:
            lab.heal("site-2")
        assert rounds >= 1


def test_a_site_that_is_frozen_for_90_seconds_is_left_out_and_comes_back(long_run: LongRun) -> None:
    federation = long_run.federation
    begin = federation.booked("site-3")
    with long_run.fault("site-3 frozen for 90 s"):
        federation.wait_for_step("site-3", "sa_share", after=begin)
        federation.freeze("site-3")
        try:
            rounds = _goes_on_without(long_run, "site-3", FREEZE_S)
        finally:
            federation.thaw("site-3")
        assert rounds >= 1


def test_the_coordinators_line_is_cut_for_half_a_minute(long_run: LongRun, lab: Lab) -> None:
    """All sites at once: nothing is lost for good, whatever the nodes made of it."""
    with long_run.fault("all sites cut off for 30 s"):
        for site in lab.sites:
            lab.partition(site)
        end = time.monotonic() + 30
        until(lambda: "30 s over", lambda: time.monotonic() > end, 40, every_s=0.5)
        for site in lab.sites:
            lab.heal(site)


def test_a_thin_line_of_10_mbit_costs_nobody_the_round(long_run: LongRun, lab: Lab) -> None:
    with long_run.fault("10 Mbit/s for site-1"):
        lab.limit_rate("site-1", "10mbit")
        try:
            long_run.wait_for_everybody(rounds=2)
        finally:
            lab.limit_rate("site-1", None)


def test_a_loss_of_1_percent_costs_nobody_the_round(long_run: LongRun, lab: Lab) -> None:
    with long_run.fault("1 % loss for every site"):
        for site in lab.sites:
            lab.drop(site, 0.01)
        try:
            long_run.wait_for_everybody(rounds=2)
            assert sum(lab.dropped(site) for site in lab.sites) > 0
        finally:
            for site in lab.sites:
                lab.drop(site, 0)


def test_a_line_with_200_ms_delay_costs_nobody_the_round(long_run: LongRun, detour: Detour) -> None:
    with long_run.fault("200 ms for site-4"):
        detour.delay(0.2)
        try:
            long_run.wait_for_everybody()  # its node connects again
            long_run.wait_for_everybody(rounds=2)
            assert long_run.federation.history(long_run.run)[-1]["missing"] == {}
        finally:
            detour.delay(0.0)


def test_after_all_of_it_everything_holds(long_run: LongRun) -> None:
    long_run.rest()
    assert not faults_of(long_run.federation, long_run.run, long_run.faults + 1)  # the proxy is begun anew twice
