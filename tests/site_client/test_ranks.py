"""Ranks as processes over gloo on one host: bit for bit one process' gradients, and every kind of end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from configs.load import load_config
from configs.schema import ConfigError, SiteConfig
from model.adapted import AdaptedModel
from model.inputs import Encoded
from privacy.dp.ranks import RankError
from privacy.messages import Advertise
from site_client.executor import _ranks_of
from site_client.mechanism import PatientMechanism
from site_client.placement import device_of, devices_of
from site_client.rank_channel import RankChannel
from site_client.ranked_mechanism import RankedMechanism, ranked
from site_client.ranks import RankGroup
from site_client.session import SiteSession
from site_client.training import run_local_steps
from tests.site_client.rank_site import (
    CLIP,
    PATCHES,
    REPORTS,
    Seeded,
    adapted,
    base,
    broken,
    command,
    samples,
    selection,
    task,
)
from tests.site_client.small_site import UPDATE, Site, admit, plan_of, train

__all__ = ["adapted", "base", "selection"]

WIDE = 1e4  # nobody is clipped


@pytest.fixture(scope="module")
def group(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RankGroup]:
    """Two ranks, kept over the tests as over rounds; what a test ends, the next one starts again."""
    made = RankGroup(tmp_path_factory.mktemp("state"), 2, command(base, 2), start_s=120.0, order_s=60.0)
    yield made
    made.close()


class AllOnRankOne(RankedMechanism):
    def _shares(self, chosen: Sequence[list[Encoded]]) -> tuple[tuple[int, ...], ...]:
        return (), tuple(range(len(chosen)))


def single(adapted: AdaptedModel, selection: Any, chosen: Sequence[list[Encoded]], what: Any) -> Any:
    mechanism = PatientMechanism(adapted, selection, what, Seeded())
    try:
        return mechanism.clipped_sum(chosen)
    finally:
        mechanism.close()


@pytest.mark.slow  # seconds to start a process with torch and peft
def test_per_patient_gradients_over_two_processes_are_those_of_one(
    group: RankGroup, adapted: AdaptedModel, selection: Any
) -> None:
    """Ragged patients with images, each alone on the other process, not clipped: bit for bit the same gradient."""
    people = samples(adapted)
    alone = [single(adapted, selection, [patient], task(clip=WIDE)).vector for patient in people]
    assert min(np.linalg.norm(vector) for vector in alone) > 1e-3
    mechanism = AllOnRankOne(group, adapted, selection, task(clip=WIDE), Seeded())
    for patient, expected in zip(people, alone, strict=True):
        assert np.array_equal(mechanism.clipped_sum([patient]).vector, expected)
    mechanism.close()
    apart = RankedMechanism(group, adapted, selection, task(clip=WIDE), Seeded())
    total = apart.clipped_sum(people)
    apart.close()
    assert np.abs(total.vector - sum(alone)).max() <= 1e-6 * np.abs(sum(alone)).max()


@pytest.mark.slow  # seconds to start a process with torch and peft
def test_the_clipped_step_is_that_of_one_process_also_with_empty_shares_and_a_patient_who_fails(
    group: RankGroup, adapted: AdaptedModel, selection: Any
) -> None:
    people = samples(adapted)
    bad = [broken(sample, "not a number") for sample in adapted.encode(PATCHES[:1])]
    mechanism = RankedMechanism(group, adapted, selection, task(), Seeded())
    pids = group.pids
    expected: dict[Any, Any] = {}
    for chosen, nonfinite in ((people, 0), ([], 0), (people[:1], 0), ([*people, bad], 1), ([bad], 1)):
        total = mechanism.clipped_sum(chosen)
        expected[len(chosen), nonfinite] = total, chosen
        assert (total.num_patients_local, total.num_nonfinite_local) == (len(chosen), nonfinite)
    mechanism.close()
    assert group.pids == pids  # one start for all of it
    for total, chosen in expected.values():
        assert np.abs(total.vector - single(adapted, selection, chosen, task()).vector).max() <= 1e-6 * CLIP


@pytest.mark.slow  # seconds to start a process with torch and peft
def test_a_whole_private_round_is_that_of_one_process(
    group: RankGroup, adapted: AdaptedModel, selection: Any
) -> None:
    reports, patches = adapted.encode(REPORTS), adapted.encode(PATCHES)
    people: list[Any] = [{"reports": reports[:2]}, {"patches": patches}, {"reports": reports, "patches": patches}, {}]
    what = task(private=True, local_steps=3, sampling_rate=0.6)
    updates = []
    for mechanism in (PatientMechanism, ranked(group)):
        adapted.write(adapted.initial)
        updates.append(run_local_steps(adapted, selection, people, what, Seeded(), mechanism))
    assert np.abs(updates[0].delta - updates[1].delta).max() <= 1e-5 * np.abs(updates[0].delta).max()


class EndsTheOther(RankedMechanism):
    """Sends the other rank a signal once it has its share and before it is asked for the sum."""

    signal = signal.SIGKILL
    hit: ClassVar[list[int]] = []

    def accumulate(self, batch: Sequence[list[Encoded]]) -> None:
        for pid in self._group.pids:
            os.kill(pid, self.signal)
            self.hit.append(pid)
        super().accumulate(batch)


class StopsTheOther(EndsTheOther):
    signal = signal.SIGSTOP


@pytest.mark.slow
@pytest.mark.parametrize("kind", [EndsTheOther, StopsTheOther], ids=["killed", "hangs"])
def test_a_rank_that_is_killed_or_hangs_in_a_step_ends_it_and_the_next_round_starts_another(
    base: Path, tmp_path: Path, adapted: AdaptedModel, selection: Any, kind: type[EndsTheOther]
) -> None:
    own = RankGroup(tmp_path, 2, command(base, 2), start_s=120.0, order_s=15.0)
    people: list[Any] = [{"reports": adapted.encode(REPORTS[i : i + 1])} for i in range(4)]
    released: list[Any] = []
    try:
        own.start()
        (before,) = own.pids
        begin = time.monotonic()
        with pytest.raises(RankError):
            run_local_steps(
                adapted, selection, people, task(private=True), Seeded(),
                lambda *arguments: kind(own, *arguments), observe=lambda *step: released.append(step))
        assert time.monotonic() - begin < 60 and not released and not own.pids
        assert kind.hit[-1] == before  # in the step, not before it
        with pytest.raises(ProcessLookupError):
            os.kill(before, 0)
        update = run_local_steps(adapted, selection, people, task(private=True), Seeded(), ranked(own))
        assert np.isfinite(update.delta).all() and own.pids != [before]
    finally:
        own.close()


def test_a_rank_that_does_not_come_up_is_an_error_soon_and_leaves_nothing(tmp_path: Path) -> None:
    own = RankGroup(tmp_path, 3, lambda rank, folder, timeout_s: ["/bin/false"], start_s=60.0)
    begin = time.monotonic()
    with pytest.raises(RankError, match=r"rank [12] .* see log"):  # whichever is noticed first
        own.start()
    assert time.monotonic() - begin < 30 and not own.pids
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


@pytest.mark.slow  # seconds to start a process with torch and peft
def test_what_ranks_say_is_reachable_on_the_loopback_address_only(group: RankGroup) -> None:
    psutil = pytest.importorskip("psutil")
    group.start()
    for pid in (os.getpid(), *group.pids):
        listening = [c for c in psutil.Process(pid).net_connections() if c.status == psutil.CONN_LISTEN]
        assert listening and {connection.laddr.ip for connection in listening} == {"127.0.0.1"}


# ------------------------------------------------------------------ the channel


class Wire:
    """Stands for a gloo group of two: what one sends waits for the other; `change` is what happens on the way."""

    def __init__(self) -> None:
        self.waiting: list[torch.Tensor] = []

    def send(self, tensors: list[torch.Tensor], peer: int, tag: int) -> Any:
        self.waiting.append(tensors[0].clone())
        return _Done()

    def recv(self, tensors: list[torch.Tensor], peer: int, tag: int) -> Any:
        if not self.waiting or self.waiting[0].numel() != tensors[0].numel():
            raise RuntimeError("nothing of that length")
        tensors[0].copy_(self.waiting.pop(0))
        return _Done()


class _Done:
    def wait(self, timeout: Any) -> None:
        """At once."""


def flip(wire: Wire) -> None:
    wire.waiting[1][0] ^= 1


def swap(wire: Wire) -> None:
    wire.waiting[1], wire.waiting[3] = wire.waiting[3], wire.waiting[1]


def repeat(wire: Wire) -> None:
    wire.waiting[2:] = [part.clone() for part in wire.waiting[:2]]


def drop(wire: Wire) -> None:
    del wire.waiting[:2]


@pytest.mark.parametrize("change", [flip, swap, repeat, drop])
def test_what_is_changed_on_the_way_does_not_open(change: Any) -> None:
    wire, key = Wire(), bytes(range(32))
    sender, receiver = RankChannel(wire, 1, 0, key), RankChannel(wire, 0, 1, key)
    sender.send(b"the first sum", 1.0)
    sender.send(b"a second sum.", 1.0)
    assert not any(b"sum" in part.numpy().tobytes() for part in wire.waiting)
    change(wire)
    with pytest.raises(RankError, match="did not send"):
        for _ in range(2):
            receiver.receive(1.0)


def test_a_rank_opens_nothing_that_it_sent_itself_or_that_was_meant_for_another() -> None:
    wire, key = Wire(), bytes(range(32))
    RankChannel(wire, 0, 1, key).send(b"order", 1.0)
    for rank, peer, other in ((0, 1, key), (2, 0, key), (1, 0, bytes(32))):
        copy = Wire()
        copy.waiting = [part.clone() for part in wire.waiting]
        with pytest.raises(RankError, match="did not send"):
            RankChannel(copy, rank, peer, other).receive(1.0)
    assert RankChannel(wire, 1, 0, key).receive(1.0) == b"order"


def test_a_long_message_crosses_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("site_client.rank_channel._CHUNK_BYTES", 10)
    wire, key = Wire(), bytes(32)
    for message in (b"", b"x" * 10, bytes(range(37))):
        RankChannel(wire, 0, 1, key).send(message, 1.0)
        assert RankChannel(wire, 1, 0, key).receive(1.0) == message


# ------------------------------------------------------------------ the site's session and its file


def test_a_session_rehearses_and_trains_on_the_ranks_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, Any]] = []
    monkeypatch.setattr("site_client.session.rehearse", lambda *given: seen.append(("rehearse", given[4])))
    monkeypatch.setattr(
        "site_client.session.run_local_steps", lambda *given: seen.append(("train", given[5])) or UPDATE)
    monkeypatch.setattr("site_client.session.probe_is_finite", lambda *_: True)
    monkeypatch.setattr(Site, "microbatch_tokens", lambda self, adapted: 64, raising=False)
    several: Any = object()
    session = SiteSession(Site(tmp_path), lambda purpose: Seeded(), mechanism=several)  # type: ignore[arg-type]
    admit(session)
    Advertise.from_bytes(train(session, plan_of()))
    assert seen == [("rehearse", several), ("train", several)]


def test_an_executor_has_further_ranks_only_where_the_site_file_says_so(tmp_path: Path) -> None:
    assert _ranks_of(site(tmp_path, "")) is None
    several = _ranks_of(site(tmp_path, "processes: 3\n"))
    assert several.size == 3 and not several.pids  # none runs before it is needed


def site(tmp_path: Path, text: str) -> SiteConfig:
    file = tmp_path / "site.yaml"
    head = f"site_id: a\ndata: d\nstate: {tmp_path}\nbase_model: b\ninvitation: i\npolicy:\n  max_epsilon: 1\n"
    file.write_text(head + text)
    return load_config(SiteConfig, file)


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "one kind")


SPREAD = "gpus_per_process: 2\nmicrobatch_tokens: 512\n"


def test_one_process_on_the_sites_own_device_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = site(tmp_path, "")
    assert (config.processes, config.gpus_per_process) == (1, 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices_of(config) == (device_of(config),) == ("cpu",)
    assert devices_of(site(tmp_path, "processes: 2\n"), 1) == ("cpu",)  # each on the processor


def test_each_process_has_its_own_gpus(tmp_path: Path, four_gpus: None) -> None:
    assert devices_of(site(tmp_path, "")) == ("cuda",) and devices_of(site(tmp_path, "device: cuda:3")) == ("cuda:3",)
    config = site(tmp_path, "processes: 2\n" + SPREAD)
    assert [devices_of(config, rank) for rank in range(2)] == [("cuda:0", "cuda:1"), ("cuda:2", "cuda:3")]
    assert [devices_of(site(tmp_path, "processes: 2"), rank) for rank in range(2)] == [("cuda:0",), ("cuda:1",)]


@pytest.mark.parametrize("text", [
    "processes: 0", "gpus_per_process: 0", "engine: opacus\n" + SPREAD, "device: cpu\n" + SPREAD,
    "gpus_per_process: 2", "device: cuda:1\nprocesses: 2"])
def test_what_a_site_cannot_have_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        site(tmp_path, text + "\n")


def test_more_gpus_than_the_machine_has_are_refused_with_both_numbers(tmp_path: Path, four_gpus: None) -> None:
    with pytest.raises(ConfigError, match="need 6 GPUs and torch finds 4"):
        RankGroup.of(site(tmp_path, "processes: 3\n" + SPREAD))
    assert RankGroup.of(site(tmp_path, "processes: 4\n")).size == 4


@pytest.mark.slow  # seconds to start a process with torch and peft
def test_the_ranks_end_with_their_parent(base: Path, tmp_path: Path) -> None:
    """No process stays behind with a model on a GPU."""
    code = ("import sys, time\nfrom pathlib import Path\nfrom site_client.ranks import RankGroup\n"
            "from tests.site_client.rank_site import command\n"
            f"group = RankGroup(Path({str(tmp_path)!r}), 2, command(Path({str(base)!r}), 2))\n"
            "group.start()\nprint(group.pids[0], flush=True)\ntime.sleep(600)\n")
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    end = time.monotonic() + 20
    while time.monotonic() < end and _runs(child):
        time.sleep(0.1)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").split(")")[1].split()[0]
    except FileNotFoundError:
        return False
