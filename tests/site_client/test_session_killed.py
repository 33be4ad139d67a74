"""kill -9 of a site's process at each state of a round: before masking it is tried again for free, after it is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from privacy.messages import Advertise, Attest
from privacy.secagg.keys import Agreement
from tests.site_client.small_site import (  # noqa: F401  (fixtures are used by name)
    Round,
    Seeded,
    Site,
    code,
    events,
    light,
    plan_of,
    session_of,
    train,
)

ME = "site-1"
Prepare = Callable[[Round], None]


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed(folder: Path, before: str, prepare: Prepare = lambda federation: None) -> None:
    """A child runs the four sites of `folder` up to the step `before` and is killed there, or earlier by `prepare`."""
    pid = os.fork()
    if pid == 0:
        try:
            federation = Round(folder)
            prepare(federation)
            federation.run(before=before)
            die()
        finally:
            os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("before", ["sa_share", "sa_mask"])
def test_before_the_upload_another_attempt_sends_the_same_update_and_spends_nothing(
    tmp_path: Path, before: str
) -> None:
    killed(tmp_path, before)
    federation = Round(tmp_path)
    assert federation.run(attempt=2) is not None
    assert "train" not in events  # this process trained nothing: the update waited
    assert all(len(site.ledger.entries()) == 1 for site in federation.sites.values())


@pytest.mark.parametrize("before", ["sa_confirm", "sa_unmask"])
def test_after_the_upload_the_round_is_lost_and_never_resumed(tmp_path: Path, before: str) -> None:
    killed(tmp_path, before)
    federation = Round(tmp_path)
    session = federation.sessions[ME]
    for step in ("sa_share", "sa_mask", "sa_confirm", "sa_unmask"):
        assert code(session.answer(step, b"", None)[0]) == "E_STAGE"
    assert code(train(session, plan_of(attempt=2))) == "E_SPENT"
    record = federation.sites[ME].rounds.find("run", 1)
    assert record is not None and record.masked and not record.unmasked
    assert bool(record.view.h3) == (before == "sa_unmask")
    Advertise.from_bytes(train(session, plan_of(round=2)))  # the next round is another matter


def test_after_the_sum_the_result_is_attested_by_the_new_process(tmp_path: Path) -> None:
    killed(tmp_path, "sa_result")
    done = Round(tmp_path / "same")  # seeded: the same round gives the same messages
    done.run(before="sa_result")
    federation = Round(tmp_path)
    record, other = (f.sites[ME].rounds.find("run", 1) for f in (federation, done))
    assert record is not None and other is not None and record.unmasked
    h3 = record.view.h3  # covers the ledgers' heads, which hold the time
    reply = _result(federation, done, ctx=record.view.ctx, h3=h3)
    assert Attest.from_bytes(reply).site_id == ME
    assert _result(federation, done, ctx=record.view.ctx, h3=h3) == reply
    assert code(_result(federation, done, h3=bytes(32))) == "E_RESULT_MISMATCH"


def _result(federation: Round, done: Round, **changed: bytes) -> bytes:
    federation.signed, federation.packed = done.signed, done.packed
    return federation.ask(ME, **changed)


def _at(name: str, *, after: bool) -> Prepare:
    """Dies in the site's durable record of masking, just before or just after it is written."""

    def prepare(federation: Round) -> None:
        owner_name, method = name.split(".")
        owner = getattr(federation.sites[ME], owner_name)
        works = getattr(owner, method)

        def record(*values: object) -> object:
            if after:
                works(*values)
            die()

        setattr(owner, method, record)

    return prepare


@pytest.mark.parametrize(("name", "after", "spent"), [
    ("rounds.masked", False, False), ("rounds.masked", True, True),
    ("ledger.mark_masked", False, True), ("ledger.mark_masked", True, True), ("spool.drop", False, True)])
def test_killed_while_the_upload_is_recorded_it_is_spent_from_the_first_record_on(
    tmp_path: Path, name: str, after: bool, spent: bool
) -> None:
    killed(tmp_path, "", _at(name, after=after) if name != "spool.drop" else _spool)
    federation = Round(tmp_path)
    reply = train(federation.sessions[ME], plan_of(attempt=2))
    if spent:
        assert code(reply) == "E_SPENT"
    else:
        Advertise.from_bytes(reply)
        assert "train" not in events


def _spool(federation: Round) -> None:
    """The spool is dropped once before training as well: dies at the drop that follows the record."""
    site = federation.sites[ME]
    drop = site.spool.drop

    def dropped() -> None:
        if site.ledger.is_masked("run", 1):
            die()
        drop()

    site.spool.drop = dropped  # type: ignore[method-assign]


def test_no_secret_of_a_round_is_on_the_disk_at_any_step(tmp_path: Path) -> None:
    source = Seeded(ME, "run/1/1/protocol")
    secrets = [source.random_bytes(32) for _ in range(3)]  # channel key, mask key, self-mask seed
    shown = Advertise.from_bytes(train(session_of(Site(tmp_path / "shown")), plan_of()))
    assert [Agreement(secret).public_bytes() for secret in secrets[:2]] == [shown.channel_key, shown.mask_key]
    for step in ("sa_share", "sa_mask", "sa_confirm", "sa_unmask", "sa_result"):
        killed(tmp_path / step, step)
        content = b"".join(path.read_bytes() for path in (tmp_path / step / ME).rglob("*") if path.is_file())
        assert len(content) > 1000 and not any(secret in content for secret in secrets)
