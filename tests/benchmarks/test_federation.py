"""The benchmark of a real federation: its goals' arithmetic, its clocks, its two arms, the coordinator's memory."""

from __future__ import annotations

import os
from types import SimpleNamespace

import numpy as np
import pytest

import benchmarks._federation_site as side
import coordinator.link
from benchmarks._federation_deploy import SITES, excluded, protocol_seconds
from benchmarks._federation_memory import RecordedGrid, coordinator_memory
from benchmarks._federation_processes import Processes, cpu_seconds, peak_memory, tree, wait_for
from benchmarks._federation_rounds import BenchCoordinator, Talk
from benchmarks._ratios import goal_line
from benchmarks._secagg_round import Federation, record
from benchmarks.federation import FULL, PARTS, QUICK, RANK_IN_FLOATS, RANK_ON_THE_WIRE, goals_of
from coordinator.exchange import Reply
from coordinator.link import FlowerLink
from privacy.messages import SignedManifest
from privacy.secagg.quantize import dequantize_sum, quantize


def figures(**changes):
    """What a full run that meets every goal found."""
    made = {
        "quick": False,
        "deploy": {"first": [19.0, 30.0, 12.0], "protocol": [5.0, 5.9, 7.0]},
        "large": {"plain": {"bytes": [10, 10], "cpu": [10.0, 20.0], "wall": [10.0, 20.0]},
                  "secure": {"bytes": [12, 12], "cpu": [12.0, 24.0], "wall": [14.0, 28.0]}},
        "memory": {"4": {"sum": 2.4}, "50": {"sum": 2.9}},
        "many": {"bytes_a_site": 3.9e6, "many": {"adapter_bytes": 1e6, "wall": 190.0, "training_s": 100.0}},
    }
    return made | changes


def verdicts(found):
    return {goal.name: goal_line(goal).split()[-1] for goal in goals_of(found, "left out")}


def test_every_goal_can_be_met_and_each_can_be_short():
    assert set(verdicts(figures()).values()) == {"ok"}
    worse = figures(
        deploy={"first": [21.0, 30.0, 12.0], "protocol": [6.1, 5.9, 7.0]},
        large={"plain": {"bytes": [10], "cpu": [10.0], "wall": [10.0]},
               "secure": {"bytes": [14], "cpu": [14.0], "wall": [15.1]}},
        memory={"4": {"sum": 2.4}, "50": {"sum": 3.1}},
        many={"bytes_a_site": 4.1e6, "many": {"adapter_bytes": 1e6, "wall": 201.0, "training_s": 100.0}})
    assert len(verdicts(worse)) == 8 and set(verdicts(worse).values()) == {"short"}


def test_what_was_not_measured_is_said():
    lines = [goal_line(goal) for goal in goals_of({"quick": True, "memory": {"4": {"sum": 2.4}}}, "left out")]
    assert all("not measured" in line for line in lines)
    assert goal_line(goals_of({"quick": True, "memory": {"4": {"sum": 3.4}}}, "")[5]).endswith("short")


def test_the_full_run_holds_the_sizes_that_the_goals_speak_of():
    assert FULL.parts == PARTS and FULL.dimension * 4 == 64 << 20 and len(SITES) == 4
    assert [n for n, _ in FULL.memory] == [4, 16, 50] and FULL.sites[1] == 100 and FULL.rounds == 10
    assert abs(1632 * RANK_ON_THE_WIRE * 3 / (1 << 20) - 1) < 0.01
    assert abs(1632 * RANK_IN_FLOATS * 4 / (1 << 20) - 1) < 0.01
    assert set(QUICK.parts) < set(PARTS)


def test_seconds_in_which_somebody_trained_are_taken_off_once():
    trained = [(1.0, 3.0), (2.0, 4.0), (2.5, 2.6), (7.0, 8.0), (9.5, 11.0)]
    assert excluded([(0.0, 5.0), (5.0, 10.0), (20.0, 21.0)], trained) == pytest.approx([3.0, 1.5, 0.0])
    events = [{"event": "begin", "time": 0.0}, {"event": "round", "time": 5.0, "seconds": 4.5},
              {"event": "round", "time": 10.0, "seconds": 4.0}, {"event": "end", "time": 11.0}]
    assert protocol_seconds(events, trained) == pytest.approx([1.5, 2.5])


def test_processes_are_charged_watched_and_ended(tmp_path):
    with Processes(tmp_path) as processes:
        process = processes.start("busy", "benchmarks._federation_processes", "x")  # it has no main: it fails
        wait_for(lambda: process.poll() is not None, 60, "the end")
        with pytest.raises(RuntimeError, match=r"(?s)busy ended with exit code 1.*cannot import name 'main'"):
            processes.require_all()
        with pytest.raises(RuntimeError, match="what takes too long took longer than 0 s"):
            wait_for(lambda: False, 0, "what takes too long")
    me = os.getpid()
    before = cpu_seconds([me])
    sum(i * i for i in range(2_000_000))
    assert cpu_seconds([me]) > before and me in tree(me) and peak_memory([me]) > 1 << 20
    assert cpu_seconds([2**30]) == 0 and peak_memory([2**30]) == 0


def test_a_recorded_round_gives_its_sum_over_the_products_link():
    federation, vector = Federation(4, 70), np.linspace(-0.5, 0.5, 70, dtype=np.float32)
    link = FlowerLink(RecordedGrid(federation, record(federation, vector, 0).sent))
    for index, reply in enumerate(link.meet(b"", 5.0)):
        link.bind(index, reply.body.decode())
    total = Talk(link, federation.roster, 5.0, federation.ids, 1).secure(federation.coordinator())
    levels = quantize(vector, federation.ring).values * np.uint32(4)
    np.testing.assert_array_equal(dequantize_sum(total, federation.ring), dequantize_sum(levels, federation.ring))


def test_memory_does_not_grow_with_the_sites_unless_uploads_are_pulled_together(monkeypatch):
    few, many = coordinator_memory(3, 1 << 18)["sum"], coordinator_memory(9, 1 << 18)["sum"]
    assert 4 / 3 + 1 < few < 3 and many < few + 1  # sum, one upload; the rest is envelopes
    monkeypatch.setattr(coordinator.link, "_BULKY", ())
    assert coordinator_memory(9, 1 << 18)["sum"] > many + 4


class _Echo:
    """A link on which every site gives its reply at once."""

    def __init__(self, answer):
        self._answer = answer

    def exchange(self, step, outgoing, timeout_s):
        for site, out in outgoing.items():
            body, vector = self._answer(site, step, out.body, out.vector)
            yield Reply(site, body, vector)


def test_both_arms_of_the_large_rounds_compute_the_mean(tmp_path, monkeypatch):
    """The benchmark's sites behind the benchmark's coordinator, without a transport between them."""
    federation = Federation(4, 50)
    monkeypatch.setattr(side, "signing_key", lambda state: federation.keys[state.name])
    sites = {site: side.BenchSite(SimpleNamespace(site_id=site, state=tmp_path / site), federation.roster, 50)
             for site in federation.ids}
    bench = BenchCoordinator(_Echo(lambda site, step, body, vector: sites[site].answer(step, body, vector)),
                             federation.roster, federation.coordinator_key, 50)
    hello = SignedManifest.make(bench.manifest, federation.coordinator_key).to_bytes()
    assert [site.answer("hello", hello, None)[0].decode() for site in sites.values()] == list(federation.ids)
    for number in (1, 2):
        bench.plain(number)
        bench.secure(number)
    mean = np.mean([site._delta for site in sites.values()], axis=0)
    assert len({site._delta.tobytes() for site in sites.values()}) == 4
    np.testing.assert_allclose(bench.plain_model, 2 * mean, atol=1e-6)
    np.testing.assert_allclose(bench.model, 2 * mean, atol=1e-5)
