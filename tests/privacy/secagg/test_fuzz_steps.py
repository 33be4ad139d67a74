"""Every step of both machines, fed with hostile bytes: a typed error, secrets wiped, nothing counted."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from privacy.errors import FaultySiteError, ProtocolError
from privacy.messages import AdvertiseList, ConfirmList, EnvelopeList, MaskedList
from privacy.secagg.client import SiteRound
from privacy.secagg.quantize import QuantizedVector
from privacy.secagg.recovery import Recovery
from privacy.secagg.server import CoordinatorRound
from privacy.wire import Message
from tests.privacy.mutated_bytes import mutant, recipe

ME = "site-001"
SITE_STEPS = {"share": 1, "mask": 2, "confirm": 3, "unmask": 4}
COORDINATOR_STEPS = {
    "receive_advertise": 0, "receive_share": 1, "receive_masked": 2, "receive_confirm": 3, "receive_unmask": 4,
}  # fmt: skip
FAST, SLOW = 100, 5_000  # mutants a step


def test_every_method_that_takes_bytes_is_fuzzed():
    """A step that is added fails here until it is in one of the two tables above."""

    def takes_bytes(kind):
        for name, method in inspect.getmembers(kind, inspect.isfunction):
            hints = list(inspect.signature(method).parameters.values())
            if not name.startswith("_") and any(hint.annotation in (bytes, "bytes") for hint in hints):
                yield name

    assert set(takes_bytes(SiteRound)) == {*SITE_STEPS, "check_plan", "run_of"}  # those two: tests/privacy/test_fuzz.py
    assert set(takes_bytes(CoordinatorRound)) == set(COORDINATOR_STEPS)


def snapshot(machine):
    """Its attributes; containers are copied, keys and messages are immutable and shared."""

    def held(value):
        if isinstance(value, dict):
            return {key: held(inner) for key, inner in value.items()}
        if isinstance(value, QuantizedVector):
            return QuantizedVector(value.values.copy(), value.ring)
        if isinstance(value, Recovery):  # only compared, never put back
            return held(vars(value))
        return value.copy() if isinstance(value, list | np.ndarray) else value

    return {name: held(value) for name, value in vars(machine).items()}


def honest_messages(session):
    """Every message that is around in a session, to splice from."""
    around = list(session.inbox.values())
    for held in vars(session.coordinator).values():
        inner = held.values() if isinstance(held, dict) else [held]
        around += [one.to_bytes() for one in inner if isinstance(one, Message)]
    return around


def storm_site(session, name, first, last):
    step = SITE_STEPS[name]
    session.run_to(step)
    machine, honest = session.sites[ME], session.inbox[ME]
    others = honest_messages(session)
    before = snapshot(machine)
    for number in range(first, last):
        machine.__dict__.clear()
        machine.__dict__.update(before)
        before = snapshot(machine)
        data = mutant(honest, others, number, seed=step)
        try:
            getattr(machine, name)(data)
        except ProtocolError:
            assert session.wiped(ME), recipe(name, number, data)
        except Exception as error:
            pytest.fail(f"{type(error).__name__}: {error}\n{recipe(name, number, data)}")
        else:
            assert is_fair(name, honest, data), recipe(f"{name} accepted", number, data)


def is_fair(name, honest, data):
    """The only changes that are no forgery: entries left out above the floor, or in another order; any confirmation
    that proves nothing."""
    kind = type_of(name)
    entries, changed = kind.from_bytes(honest).entries, kind.from_bytes(data).entries
    return kind is ConfirmList or set(changed) <= set(entries)


def type_of(name):
    return {"share": AdvertiseList, "mask": EnvelopeList, "confirm": MaskedList, "unmask": ConfirmList}[name]


def storm_coordinator(session, name, first, last):
    step = COORDINATOR_STEPS[name]
    session.run_to(step)
    machine, reply = session.coordinator, session.reply(step, ME)
    honest, rest = (reply[0], reply[1:]) if step == 2 else (reply, ())
    others = [*honest_messages(session), honest]
    before = str(snapshot(machine))
    for number in range(first, last):
        data = mutant(honest, others, number, seed=10 + step)
        try:
            getattr(machine, name)(ME, data, *rest)
        except FaultySiteError as fault:
            assert fault.blamed == ME, recipe(name, number, data)
        except Exception as error:
            pytest.fail(f"{type(error).__name__}: {error}\n{recipe(name, number, data)}")
        else:
            pytest.fail(recipe(f"{name} accepted", number, data))
        if number % 50 == 0:
            assert str(snapshot(machine)) == before, recipe(f"{name} left traces", number, data)
    assert str(snapshot(machine)) == before
    session.deliver(step, ME, reply)  # the honest message is still welcome


@pytest.mark.parametrize("name", SITE_STEPS)
def test_a_site_answers_hostile_bytes_with_typed_errors_only(session, name):
    storm_site(session, name, 0, FAST)


@pytest.mark.parametrize("name", COORDINATOR_STEPS)
def test_the_coordinator_answers_hostile_bytes_with_typed_errors_only(session, name):
    storm_coordinator(session, name, 0, FAST)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SITE_STEPS)
def test_five_thousand_hostile_messages_at_each_step_of_a_site(session, name):
    storm_site(session, name, FAST, FAST + SLOW)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", COORDINATOR_STEPS)
def test_five_thousand_hostile_messages_at_each_step_of_the_coordinator(session, name):
    storm_coordinator(session, name, FAST, FAST + SLOW)


@pytest.mark.parametrize(
    "change",
    [
        lambda packed: packed[:0], lambda packed: packed[:-1], lambda packed: np.append(packed, packed),
        lambda packed: packed.reshape(-1, 3), lambda packed: packed.astype(np.float64),
        lambda packed: packed.astype(np.int8), lambda packed: packed.astype(object), lambda packed: packed.view("<u2"),
        lambda packed: np.repeat(packed, 2)[::2], lambda packed: packed[::-1],
    ],
)  # fmt: skip
def test_every_other_array_is_refused_before_it_is_folded(session, change):
    session.run_to(2)
    header, packed = session.reply(2, ME)
    before = session.coordinator._total.copy()
    with pytest.raises(FaultySiteError) as fault:
        session.coordinator.receive_masked(ME, header, change(packed))
    assert (fault.value.code, fault.value.blamed) == ("E_UPLOAD", ME)
    assert (session.coordinator._total == before).all() and ME in session.coordinator.waiting
