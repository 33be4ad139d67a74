"""Every parser of every message, fed with hostile bytes: a message that is exactly those bytes, or a typed error."""

from __future__ import annotations

import importlib.util
import random
import tracemalloc
from pathlib import Path

import pytest

from privacy.encoding import dec, enc
from privacy.errors import FaultyCoordinatorError, MessageFormatError
from privacy.messages import SignedManifest
from privacy.secagg.client import SiteRound
from privacy.wire import VERSION, Message
from tests.privacy.mutated_bytes import CHANGES, message_types, mutant, recipe, skeleton, spans

KINDS = message_types()
EXCESS = 40  # bytes of memory a byte of input may cost: a list slot and an object for an item of one to six bytes
FAST, SLOW = 1_200, 60_000


@pytest.fixture(scope="module")
def examples():
    """Honest bytes by kind: the examples of test_messages.py, and a skeleton for a kind that has none."""
    spec = importlib.util.spec_from_file_location("message_examples", Path(__file__).with_name("test_messages.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = {type(one): one.to_bytes() for one in (*module.EXAMPLES, module.ROSTER, module.ROSTER.sites[0])}
    return {kind: found.get(kind) or skeleton(kind) for kind in KINDS}


def feed(kind: type[Message], data: bytes) -> bool:
    """Whether it decoded; a message that decodes must be what was sent, byte by byte."""
    try:
        message = kind.from_bytes(data)
    except MessageFormatError:
        return False
    return message.to_bytes() == data or pytest.fail("a message decoded from bytes that it does not encode to")


def storm(examples, first, last):
    others = list(examples.values())
    for number in range(first, last):
        kind = KINDS[number % len(KINDS)]
        data = mutant(examples[kind], others, number)
        try:
            feed(kind, data)
        except Exception as error:
            pytest.fail(f"{type(error).__name__}: {error}\n{recipe(kind.__name__, number, data)}")


def test_every_kind_of_message_is_found():
    names = {kind.__name__ for kind in KINDS}
    assert {"Roster", "RunManifest", "Advertise", "UnmaskShares", "HelloList"} <= names and len(names) >= 28
    assert "SignedMessage" not in names


def test_most_examples_are_valid_messages(examples):
    """Mutants of nonsense would be refused at the first byte and show nothing."""
    assert sum(feed(kind, data) for kind, data in examples.items()) >= 28


def test_every_change_reaches_beyond_the_first_check(examples):
    """For each way to mutate, some mutants get past the decoder, into the types and values of a message."""
    for change in CHANGES:
        reached = 0
        for number in range(300):
            rng = random.Random(number)
            data = change(examples[KINDS[number % len(KINDS)]], rng, examples[rng.choice(KINDS)])
            try:
                reached += bool(dec(data[1:])) and data[:1] == bytes([VERSION])
            except MessageFormatError:
                continue
        assert reached >= 5 or change.__name__ in ("truncate", "inflate"), change.__name__


def test_hostile_messages_give_typed_errors_only(examples):
    storm(examples, 0, FAST)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sixty_thousand_hostile_messages_give_typed_errors_only(examples):
    storm(examples, FAST, FAST + SLOW)


def peak(kind, data):
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    feed(kind, data)
    return tracemalloc.get_traced_memory()[1] - before


def test_a_hostile_count_never_costs_more_than_a_small_multiple_of_the_input(examples):
    """Counts up to 2^32 - 1 in front of every item of every kind, and long lists of the cheapest items."""
    for kind, data in examples.items():
        feed(kind, data)  # fills the cache of type hints
    tracemalloc.start()
    try:
        for kind, data in examples.items():
            for start, end in spans(data)[-9:]:  # the outer ones come last
                if end - start < 5:
                    continue
                for count in (2**24, 2**32 - 1):
                    hostile = data[: start + 1] + count.to_bytes(4, "big") + data[start + 5 :]
                    assert peak(kind, hostile) < EXCESS * len(hostile) + 50_000, recipe(kind.__name__, count, hostile)
            for item in (b"N", b"t\0\0\0\0", b"i\0\0\0\2\x01\0", b"b\0\0\0\1\0", b"t\0\0\0\1N"):
                count = 10_000 // len(item)
                head = bytes([VERSION]) + enc(kind.__name__)
                hostile = head + b"t" + count.to_bytes(4, "big") + item * count
                assert peak(kind, hostile) < EXCESS * len(hostile) + 50_000, (kind, item)
    finally:
        tracemalloc.stop()


def test_the_deepest_nesting_is_refused_without_recursion(examples):
    for kind in KINDS:
        for depth in (9, 1000, 100_000):
            assert not feed(kind, bytes([VERSION]) + enc(kind.__name__) + b"t\0\0\0\1" * depth + b"N")


def test_what_a_site_opens_before_a_round_gives_typed_errors_only(federation_parts, examples):
    """A signed manifest and a signed plan reach checks that go on after decoding."""
    roster, manifest, signed_manifest, signed_plan = federation_parts
    for number in range(400):
        for data, work in (
            (signed_manifest, lambda data: SignedManifest.open(data, roster)),
            (signed_plan, lambda data: SiteRound.check_plan(data, roster=roster, manifest=manifest, last=None)),
            (signed_plan, SiteRound.run_of),
        ):
            hostile = mutant(data, [signed_manifest, signed_plan], number, seed=1)
            try:
                work(hostile)
            except (FaultyCoordinatorError, MessageFormatError):
                continue
            except Exception as error:
                pytest.fail(f"{type(error).__name__}: {error}\n{recipe('open', number, hostile)}")
            assert work == SiteRound.run_of, recipe("an unsigned change was accepted", number, hostile)


@pytest.fixture
def federation_parts():
    from tests.privacy.secagg.conftest import Federation

    federation = Federation()
    signed = SignedManifest.make(federation.manifest, federation.coordinator_key).to_bytes()
    return federation.roster, federation.manifest, signed, federation.coordinator(federation.plan()).signed_plan()
