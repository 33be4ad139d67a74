"""SIGKILL of every process in every state of the protocol: one long run of real processes, one kill after the other.

In `make test-slow` a process of the coordinator and one of a site die in the same moment, which is worse and takes half
the time (their supervisors, which take their children along, in one state); in `make test-faults` each dies alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from simulations.network_lab import COORDINATOR
from simulations.real_checks import faults_of
from simulations.real_federation import COORDINATOR_KINDS, SITE_KINDS, RealFederation
from tests.federation.long_run import LongRun

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STEPS = ("sa_train", "sa_share", "sa_mask", "sa_confirm", "sa_unmask", "sa_result")
KINDS = ("superlink", "node", "executor", "coordinator-executor", "start", "up")
_sites = itertools.cycle(("site-1", "site-2", "site-3", "site-4"))
# A site that was hit rests while others are hit: what dies again and again is started again later and later.
KILLS = [(step, kind, next(_sites)) for step in STEPS for kind in KINDS]
# What takes long to start again dies with what does not; the hub's absence leaves the cores to the executor's start.
TOGETHER = [(step, *pair, next(_sites)) for step in STEPS
            for pair in (("superlink", "executor"), ("coordinator-executor", "node"))]
TOGETHER += [("sa_mask", "up", "start", next(_sites))]
EARLY = [("roster", "superlink", "site-1"), ("restore", "node", "site-4"),
         *(pytest.param(*one, marks=pytest.mark.faults) for one in (
             ("hello", "executor", "site-2"), ("witness", "coordinator-executor", "site-3")))]


@pytest.fixture(scope="module")
def long_run(federation: RealFederation) -> Iterator[LongRun]:
    run = LongRun(federation)
    run.begin()
    yield run


def test_the_list_has_every_process_in_every_state() -> None:
    assert set(KINDS) == {*COORDINATOR_KINDS, *SITE_KINDS}
    assert {(step, kind) for step, kind, _ in KILLS} == set(itertools.product(STEPS, KINDS))
    together = {(step, kind) for step, first, second, _ in TOGETHER for kind in (first, second)}
    workers = set(itertools.product(STEPS, KINDS[:4]))
    assert together == workers | {("sa_mask", "up"), ("sa_mask", "start")}


@pytest.mark.parametrize(("step", "first", "second", "site"), TOGETHER)
def test_the_run_survives_two_kills_at_once(
    long_run: LongRun, step: str, first: str, second: str, site: str
) -> None:
    """The site's reply is on its disk and not yet at its node: now both processes go."""
    federation = long_run.federation
    for kind, owner in ((first, ""), (second, site)):
        federation.pid(kind, owner)  # it runs
    begin = federation.booked(site)
    with long_run.fault(f"{first} and {second} killed at {step}", in_flight=2):
        federation.wait_for_step(site, step, after=begin)
        federation.kill(second, site)
        federation.kill(first)
        if first == "up":
            federation.begin(COORDINATOR)
            federation.begin(site)


@pytest.mark.faults
@pytest.mark.parametrize(("step", "kind", "site"), KILLS)
def test_the_run_survives_a_kill_in_a_round(long_run: LongRun, step: str, kind: str, site: str) -> None:
    """The site's reply is on its disk and not yet at its node: now the process goes."""
    federation = long_run.federation
    victim = site if kind in SITE_KINDS else ""
    federation.pid(kind, victim)  # it runs
    begin = federation.booked(site)
    with long_run.fault(f"{kind} killed at {step}"):
        federation.wait_for_step(site, step, after=begin)
        federation.kill(kind, victim)
        if kind in ("up", "start"):
            federation.begin(victim or COORDINATOR)


@pytest.mark.parametrize(("step", "kind", "site"), EARLY)
def test_the_run_survives_a_kill_while_sites_are_admitted(
    long_run: LongRun, step: str, kind: str, site: str
) -> None:
    """A killed executor of the coordinator begins with the admission again."""
    federation = long_run.federation
    begin = federation.booked(site)
    with long_run.fault(f"{kind} killed at {step}"):
        federation.kill("coordinator-executor")
        long_run.faults += 1
        federation.wait_for_step(site, step, after=begin)
        federation.kill(kind, site if kind in SITE_KINDS else "")


def test_after_all_of_it_everything_holds(long_run: LongRun) -> None:
    long_run.rest()
    assert not faults_of(long_run.federation, long_run.run, long_run.faults)
    said = [f"{name}: {seconds:.0f} s" for name, seconds in long_run.seconds.items()]
    print("\n" + "\n".join(said))
