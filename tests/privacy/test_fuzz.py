"""Every parser of every message, fed with hostile bytes: a message that is exactly those bytes, or a typed error."""

from __future__ import annotations

import importlib.util
import random
import tracemalloc
from pathlib import Path

import pytest

from privacy.dp.ranks import StepFacts
from privacy.encoding import dec, enc
from privacy.errors import FaultyCoordinatorError, MessageFormatError
from privacy.evidence import Evidence, Statement, contradiction, proves
from privacy.messages import Attest, Result, RoundStart, SignedManifest, SignedPlan, SignedResult
from privacy.results import check_round_start, open_result, open_round_start
from privacy.roster import RosterError, SignedRoster
from privacy.secagg.client import SiteRound
from privacy.wire import VERSION, Message
from tests.privacy import invited, officers
from tests.privacy.mutated_bytes import CHANGES, message_types, mutant, recipe, skeleton, spans

KINDS = message_types()
EXCESS = 40  # bytes of memory a byte of input may cost: a list slot and an object for an item of one to six bytes
FAST, SLOW = 1_200, 60_000


def two_plans(federation):
    """Evidence: one run, round and attempt with two plans."""
    plans = (federation.plan(), federation.plan(num_lanes=1))
    signed = [SignedPlan.signed(federation.coordinator_key, (), plan=plan) for plan in plans]
    return contradiction([Statement(each.to_bytes()) for each in signed], federation.roster)


@pytest.fixture(scope="module")
def examples():
    """Honest bytes by kind: the examples of test_messages.py, and of the files that are no message of a round."""
    from tests.privacy.secagg.conftest import Federation

    spec = importlib.util.spec_from_file_location("message_examples", Path(__file__).with_name("test_messages.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    evidence, roster = two_plans(Federation()), officers.signed(module.ROSTER)
    files = (roster, roster.signatures[0], roster.roster, *officers.OFFICERS, module.ROSTER.sites[0], evidence,
             evidence.statements[0], invited.INVITATION, invited.request("site-1"),
             StepFacts(b"s" * 16, 3, "f" * 64, bytes(32), b"a" * 32, ((0, 2), (1,), ()), 0.5))
    found = {type(one): one.to_bytes() for one in (*module.EXAMPLES, *files)}
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


def test_every_example_is_a_valid_message(examples):
    """Mutants of nonsense would be refused at the first byte and show nothing; a new kind fails here until it has an
    example."""
    assert not [kind.__name__ for kind, data in examples.items() if not feed(kind, data)]


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


def test_a_result_and_the_start_of_a_round_give_typed_errors_only(examples):
    """What a site does with them goes on after decoding; a changed byte is never a fair start, or leaves the
    attestations as good as they were."""
    from tests.privacy.secagg.conftest import Federation

    federation = Federation()
    roster, manager = federation.roster, federation.coordinator_key
    hashes = (bytes(32),) * 3
    result = Result("run-1", 1, bytes(32), bytes([1]) * 32, 5, federation.ids, "B", *hashes, 1)
    shown = SignedResult.make(result, manager)
    attests = tuple(Attest.make(site, result, federation.keys[site]) for site in federation.ids)
    plan = SignedPlan.signed(manager, (), plan=federation.plan(round=2))
    honest = RoundStart(plan, shown, attests)
    check_round_start(honest, roster, None)
    others = [honest.to_bytes(), shown.to_bytes(), examples[RoundStart]]

    def begin(data):
        start = open_round_start(data)
        SiteRound.check_plan(start.plan.to_bytes(), roster=roster, manifest=federation.manifest, last=None)
        check_round_start(start, roster, result)
        return start

    for number in range(600):
        for data, work, fair in (
            (honest.to_bytes(), begin, lambda start: (start.plan, start.result) == (plan, shown)),
            (shown.to_bytes(), lambda data: open_result(data, roster), lambda _: False),
        ):
            hostile = mutant(data, others, number, seed=2)
            try:
                opened = work(hostile)
            except FaultyCoordinatorError:
                continue
            except Exception as error:
                pytest.fail(f"{type(error).__name__}: {error}\n{recipe('start', number, hostile)}")
            assert fair(opened), recipe("a changed result was accepted", number, hostile)


def test_a_roster_file_and_evidence_give_typed_errors_only(examples):
    from tests.privacy.secagg.conftest import Federation

    federation = Federation()
    evidence = two_plans(federation)
    signed = officers.signed(federation.roster)
    assert proves(evidence, federation.roster) and SignedRoster.open(signed.to_bytes()) == signed.roster
    others = [evidence.to_bytes(), signed.to_bytes(), examples[Statement]]
    for number in range(600):
        roster_file, proof = (mutant(data, others, number, seed=3) for data in (signed.to_bytes(), evidence.to_bytes()))
        try:
            SignedRoster.open(roster_file)
            pytest.fail(recipe("a changed roster was accepted", number, roster_file))
        except RosterError as error:
            assert "\n" not in str(error)
        try:
            changed = Evidence.from_bytes(proof)
        except MessageFormatError:
            continue
        if proves(changed, federation.roster):  # the same statements told in another way, never another party
            assert changed.blamed == evidence.blamed and {*changed.statements} == {*evidence.statements}


@pytest.fixture
def federation_parts():
    from tests.privacy.secagg.conftest import Federation

    federation = Federation()
    signed = SignedManifest.make(federation.manifest, federation.coordinator_key).to_bytes()
    return federation.roster, federation.manifest, signed, federation.coordinator(federation.plan()).signed_plan()
