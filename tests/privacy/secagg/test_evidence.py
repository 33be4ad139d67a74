"""Evidence: one contradiction of each kind is proved, and nothing that an honest party could have signed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import FAULTS, POLICY_REFUSALS, MessageFormatError
from privacy.evidence import RULES, Evidence, Statement, contradiction, describe, open_statement, proves, topics
from privacy.identity import Roster, RosterSite, SigningKey
from privacy.messages import (
    Advertise,
    Attest,
    Confirm,
    DealtShare,
    Envelope,
    ErrorReply,
    Hello,
    LedgerMark,
    MaskedHeader,
    Plan,
    Result,
    RunManifest,
    SignedManifest,
    SignedMessage,
    SignedPlan,
    SignedResult,
    SiteTerms,
    SourceShare,
    StageSpec,
    UnmaskShares,
)
from privacy.release import release_hash
from privacy.secagg.params import ring_params


def key_of(name: str) -> SigningKey:
    return SigningKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def some(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


IDS = ("site-1", "site-2", "site-3")
BOSS, SITE = key_of("coordinator"), key_of("site-2")
ROSTER = Roster(
    "fed", 1, BOSS.public_bytes(), tuple(RosterSite(site, key_of(site).public_bytes(), 100) for site in IDS), 3, 0.0)
MANIFEST = RunManifest(
    federation_id="fed", run_id="run", release=release_hash(), roster_hash=ROSTER.hash(), base_model_hash=bytes(32),
    adapter_hash=bytes(32), lora_rank=8, lora_alpha=16, privacy="patient-dp", clip_norm=1.0, target_epsilon=8.0,
    lane_share=0.1, bits=24, saturation=2.0,
    stages=(StageSpec("one", (SourceShare("reports", 2),), ("attention",), "b-only", 0.1, 0.0, 2, 0.1, 2.0, 9),),
    sites=tuple(SiteTerms(site, 100, 1.0, 1e-5) for site in IDS))
PLAN = Plan(
    federation_id="fed", run_id="run", roster_hash=ROSTER.hash(), manifest_hash=MANIFEST.hash(), round=3, attempt=2,
    stage=0, factor="B", model_hash=bytes(32), dimension=6, num_lanes=3, bits=24,
    scale=ring_params(24, 2.0, 3).scale, saturation=2.0)
CTX, H1, H2, H3 = PLAN.context(), some("h1"), some("h2"), some("h3")
MARK = LedgerMark.make("site-2", 4, some("head"), "fed", SITE)


def manifest(key: SigningKey = BOSS, **changed: Any) -> Statement:
    return Statement(SignedManifest.make(replace(MANIFEST, **changed), key).to_bytes())


def plan(key: SigningKey = BOSS, **changed: Any) -> Statement:
    return Statement(SignedPlan.signed(key, (), plan=replace(PLAN, **changed)).to_bytes())


def of_site(
    kind: type[SignedMessage], *binding: bytes, key: SigningKey = SITE, plan: Plan = PLAN, **values: Any
) -> Statement:
    return Statement.in_round(kind.signed(key, binding, **values), binding, plan)


def advert(key: SigningKey = SITE, plan: Plan = PLAN, **changed: Any) -> Statement:
    values = {"site_id": "site-2", "channel_key": some("a"), "mask_key": some("b"), "mark": MARK, **changed}
    return of_site(Advertise, plan.context(), key=key, plan=plan, **values)


def envelope(**changed: Any) -> Statement:
    return of_site(Envelope, CTX, H1, **{
        "sender": "site-2", "recipient": "site-1", "self_mask_commitment": some("seed"),
        "self_mask_share_commitment": some("x"), "mask_key_share_commitment": some("y"), "ciphertext": bytes(82),
        **changed})


def header(h2: bytes = H2, **changed: Any) -> Statement:
    return of_site(
        MaskedHeader, CTX, h2, **{"site_id": "site-2", "upload_hash": some("upload"), "complaints": (), **changed})


def confirm(h3: bytes = H3) -> Statement:
    return of_site(Confirm, CTX, h3, site_id="site-2")


def outcome(**changed: Any) -> Result:
    hashes = {name: some(name) for name in ("sum_hash", "model_hash", "state_hash")}
    return Result(**{"run_id": "run", "round": PLAN.round, "ctx": CTX, "h3": H3, "announced": 3, "survivors": IDS,
                     "factor": "B", **hashes, "finished": 3, **changed})


def result(key: SigningKey = BOSS, **changed: Any) -> Statement:
    return Statement(SignedResult.make(outcome(**changed), key).to_bytes(), (), PLAN.to_bytes())


def attest(**changed: Any) -> Statement:
    return of_site(Attest, CTX, changed.get("h3", H3), outcome(**changed).hash(), site_id="site-2")


def unmask(own: tuple[str, ...], keys: tuple[str, ...], h3: bytes = H3) -> Statement:
    seeds, rest = (tuple(DealtShare(dealer, bytes(33)) for dealer in dealers) for dealers in (own, keys))
    return of_site(UnmaskShares, CTX, h3, site_id="site-2", self_mask_shares=seeds, mask_key_shares=rest)


def mark(sequence: int = 4, head: bytes = MARK.head, key: SigningKey = SITE, federation: str = "fed") -> Statement:
    return Statement(LedgerMark.make("site-2", sequence, head, federation, key).to_bytes())


GUILTY: dict[str, tuple[Statement, ...]] = {
    "two-manifests": (manifest(), manifest(clip_norm=2.0)),
    "two-plans": (plan(), plan(model_hash=some("model"))),
    "plan-breaks-manifest": (manifest(), plan(stage=1)),
    "weak-key": (advert(mask_key=bytes(32)),),
    "two-announcements": (advert(), advert(mask_key=some("c"))),
    "two-seeds": (envelope(), envelope(recipient="site-3", self_mask_commitment=some("other"))),
    "two-envelopes": (envelope(), envelope(ciphertext=bytes([1] * 82))),
    "two-uploads": (header(), header(upload_hash=some("other"))),
    "two-confirmations": (confirm(), confirm(some("another list"))),
    "both-shares": (unmask(("site-1", "site-2"), ("site-3",)), unmask(("site-1", "site-2", "site-3"), (), some("h"))),
    "two-unmaskings": (unmask(("site-1", "site-2"), ()), unmask(("site-1", "site-3"), ())),
    "two-results": (result(), result(model_hash=some("other"))),
    "two-attestations": (attest(), attest(state_hash=some("other"))),
    "two-ledger-marks": (mark(), mark(head=some("fork"))),
}
EVIDENCE = {kind: contradiction(statements, ROSTER) for kind, statements in GUILTY.items()}
EACH = pytest.mark.parametrize("kind", RULES)


def test_there_is_an_example_of_every_rule_and_every_rule_says_why_it_holds() -> None:
    assert set(GUILTY) == set(RULES)
    for rule in RULES.values():
        assert rule.also in {"", *FAULTS}
        assert rule.code in {**FAULTS, **POLICY_REFUSALS} and len(rule.reason) > 40 and len(rule.types) in (1, 2)


@EACH
def test_a_contradiction_is_proved_and_told_in_one_sentence(kind: str) -> None:
    evidence = EVIDENCE[kind]
    assert evidence is not None
    assert (evidence.kind, evidence.code) == (kind, RULES[kind].code)
    of_the_coordinator = any(word in kind for word in ("plan", "manifest", "results"))
    assert evidence.blamed == ("coordinator" if of_the_coordinator else "site-2")
    again = Evidence.from_bytes(evidence.to_bytes())
    assert again == evidence and proves(again, ROSTER)
    assert contradiction(GUILTY[kind][::-1], ROSTER) == evidence  # whoever saw which first
    text = describe(evidence, ROSTER)
    assert RULES[kind].words in text and text.endswith(".") and "no proof" not in text
    assert ("The coordinator" if evidence.blamed == "coordinator" else "site-2") in text


def test_the_sentence_says_which_round_and_what_differs() -> None:
    texts = {kind: describe(evidence, ROSTER) for kind, evidence in EVIDENCE.items() if evidence is not None}
    assert texts["two-plans"] == (
        "The coordinator signed two different plans for one attempt at a round, in run run, round 3, attempt 2; they "
        "differ in model_hash.")
    assert texts["two-announcements"].endswith("in run run, round 3, attempt 2; they differ in mask_key.")
    assert texts["two-manifests"].endswith("for one run, named run; they differ in clip_norm.")
    assert texts["two-ledger-marks"].endswith("number 4; they differ in head.")
    assert texts["two-confirmations"].endswith("they differ in the list it answers to.")


@EACH
def test_each_statement_alone_or_twice_proves_nothing(kind: str) -> None:
    evidence = EVIDENCE[kind]
    if kind == "weak-key":
        assert contradiction((advert(),), ROSTER) is None
        return
    for statement in GUILTY[kind]:
        assert contradiction((statement,), ROSTER) is None
        assert contradiction((statement, statement), ROSTER) is None
        for statements in ((statement,), (statement, statement)):
            assert not proves(replace(evidence, statements=statements), ROSTER)


@EACH
def test_evidence_names_the_right_kind_code_and_party(kind: str) -> None:
    evidence = EVIDENCE[kind]
    for other in RULES:
        if other != kind and RULES[other].types != RULES[kind].types:
            assert not proves(replace(evidence, kind=other, code=RULES[other].code), ROSTER)
    assert not proves(replace(evidence, kind="two-lies"), ROSTER)
    assert not proves(replace(evidence, code="E_STAGE"), ROSTER)
    for party in ("coordinator", *IDS):
        assert proves(replace(evidence, blamed=party), ROSTER) == (party == evidence.blamed)


@EACH
def test_evidence_of_another_roster_or_federation_is_no_proof(kind: str) -> None:
    evidence = EVIDENCE[kind]
    assert "no proof" in describe(evidence, replace(ROSTER, federation_id="other"))
    strangers = tuple(RosterSite(site, key_of(f"{site}!").public_bytes(), 100) for site in IDS)
    others = [replace(ROSTER, federation_id="other"),
              replace(ROSTER, coordinator_key=key_of("c!").public_bytes(), sites=strangers),
              replace(ROSTER, sites=strangers[:1], coordinator_key=key_of("c!").public_bytes())]
    if kind != "two-ledger-marks":  # a mark is bound to the federation, over all versions of its roster
        others.append(replace(ROSTER, version=2))
    assert not any(proves(evidence, other) for other in others)


@EACH
def test_a_changed_byte_anywhere_in_the_statements_is_no_proof(kind: str) -> None:
    evidence = EVIDENCE[kind]
    for place, statement in enumerate(evidence.statements):
        for field in fields(statement):
            value = getattr(statement, field.name)
            for at in {0, 7, len(value) // 2, len(value) - 1} if isinstance(value, bytes) and value else ():
                changed = bytearray(value)
                changed[at] ^= 1
                assert not proves(_with(evidence, place, replace(statement, **{field.name: bytes(changed)})), ROSTER)
        for part, bound in enumerate(statement.binding):
            binding = list(statement.binding)
            binding[part] = some(bound.hex())
            assert not proves(_with(evidence, place, replace(statement, binding=tuple(binding))), ROSTER)
        if statement.plan:
            assert not proves(_with(evidence, place, replace(statement, plan=b"")), ROSTER)
        else:
            assert not proves(_with(evidence, place, replace(statement, plan=PLAN.to_bytes())), ROSTER)


def _with(evidence: Evidence, place: int, statement: Statement) -> Evidence:
    statements = list(evidence.statements)
    statements[place] = statement
    return replace(evidence, statements=tuple(statements))


def test_another_signature_over_the_same_words_contradicts_nothing() -> None:
    """Ed25519 lets a signer make many signatures of one statement; only what is stated counts."""
    opened = open_statement(plan(), ROSTER)
    assert opened is not None
    again = replace(opened, message=replace(opened.message, signature=bytes(64)))
    assert not RULES["two-plans"].breaks((opened, again), ROSTER)


HONEST: dict[str, tuple[Statement, ...]] = {
    "two runs": (manifest(), manifest(run_id="next", clip_norm=2.0)),
    "two attempts": (plan(), plan(attempt=3, model_hash=some("m"))),
    "two rounds": (plan(), plan(round=4, model_hash=some("m"))),
    "two runs' plans": (plan(), plan(run_id="next", model_hash=some("m"))),
    "a plan and its manifest": (manifest(), plan()),
    "a later plan and its manifest": (manifest(), plan(round=8, attempt=1, model_hash=some("m"))),
    "a plan of another run": (manifest(), plan(run_id="next", stage=1, manifest_hash=some("n"))),
    "keys of two attempts": (advert(), advert(plan=replace(PLAN, attempt=3), mask_key=some("c"))),
    "keys of two sites": (advert(), advert(
        key=key_of("site-1"), site_id="site-1", mask_key=some("c"),
        mark=LedgerMark.empty("site-1", "fed", key_of("site-1")))),
    "two recipients": (envelope(), envelope(recipient="site-3", ciphertext=bytes([1] * 82))),
    "different steps": (header(), confirm()),
    "a longer ledger": (mark(), mark(5, some("next"))),
    "a strange type": (Statement(Hello.make(MARK, bytes(32), some("run"), SITE).to_bytes()), mark(head=some("f"))),
}


@pytest.mark.parametrize("what", HONEST)
def test_what_an_honest_party_signs_is_never_evidence(what: str) -> None:
    assert contradiction(HONEST[what], ROSTER) is None
    if what != "a strange type":
        assert all(open_statement(statement, ROSTER) is not None for statement in HONEST[what])


STOLEN = key_of("mallory")
FORGED: dict[str, Callable[[], tuple[Statement, ...]]] = {
    "a manifest": lambda: (manifest(), manifest(STOLEN, clip_norm=2.0)),
    "a plan": lambda: (plan(), plan(STOLEN, model_hash=some("model"))),
    "an announcement": lambda: (advert(), advert(STOLEN, mask_key=some("c"))),
    "a weak key": lambda: (advert(STOLEN, mask_key=bytes(32)),),
    "a mark": lambda: (mark(), mark(head=some("fork"), key=STOLEN)),
    "a mark of another federation": lambda: (mark(), mark(head=some("fork"), federation="other")),
    "a peer's word under a site's name": lambda: (advert(), advert(key_of("site-1"), mask_key=some("c"))),
    "a coordinator's word under a site's name": lambda: (advert(), advert(BOSS, mask_key=some("c"))),
    "the other step's binding": lambda: (
        header(), Statement(header(upload_hash=some("o")).message, (CTX, H3), PLAN.to_bytes())),
    "another round's plan": lambda: (
        advert(), Statement(advert(mask_key=some("c")).message, (CTX,), replace(PLAN, round=4).to_bytes())),
    "a mark with a binding": lambda: (mark(), replace(mark(head=some("fork")), binding=(CTX,), plan=PLAN.to_bytes())),
}


@pytest.mark.parametrize("what", FORGED)
def test_nobody_else_can_make_evidence(what: str) -> None:
    assert contradiction(FORGED[what](), ROSTER) is None


@pytest.mark.parametrize("changed", [
    {"stage": 1}, {"factor": "A"}, {"bits": 32}, {"saturation": 1.0}, {"scale": 3.0}, {"scale": 2.0**30},
    {"manifest_hash": some("another manifest")}])
def test_a_plan_that_its_manifest_does_not_allow_is_proof(changed: dict[str, Any]) -> None:
    evidence = contradiction((plan(**changed), manifest()), ROSTER)
    assert evidence is not None and evidence.kind == "plan-breaks-manifest" and proves(evidence, ROSTER)
    assert not proves(replace(evidence, statements=evidence.statements[::-1]), ROSTER)


def test_a_plan_is_not_judged_by_the_rules_of_another_release() -> None:
    older = replace(MANIFEST, release="older")
    pair = (Statement(SignedManifest.make(older, BOSS).to_bytes()), plan(stage=1, manifest_hash=older.hash()))
    assert contradiction(pair, ROSTER) is None


def test_a_complaint_makes_no_second_upload_honest() -> None:
    """The same vector with another list of complaints is another statement: a header is signed once."""
    found = contradiction((header(), header(complaints=(ErrorReply("E_SHARE_DECRYPT", "site-1"),))), ROSTER)
    assert found is not None and found.kind == "two-uploads"
    found = contradiction((header(), header(some("another U2"))), ROSTER)
    assert found is not None and found.kind == "two-uploads"


@EACH
def test_statements_that_contradict_each_other_meet_under_a_key(kind: str) -> None:
    """What a store keeps a statement under is what the other one looks for."""
    if len(GUILTY[kind]) == 2:
        first, other = (open_statement(statement, ROSTER) for statement in GUILTY[kind])
        assert first is not None and other is not None
        assert set(topics(first)[0]) & set(topics(other)[1]) and set(topics(other)[0]) & set(topics(first)[1])


@settings(max_examples=300, deadline=None)
@given(kind=st.sampled_from(sorted(RULES)), data=st.data())
def test_mutated_bytes_are_refused_by_type_or_are_no_proof(kind: str, data: st.DataObject) -> None:
    evidence = EVIDENCE[kind]
    assert evidence is not None
    raw = bytearray(evidence.to_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] ^= data.draw(st.integers(1, 255))
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(0, len(raw) - 1)):]
    if bytes(raw) == evidence.to_bytes():
        return
    try:
        changed = Evidence.from_bytes(bytes(raw))
    except MessageFormatError:
        return
    assert not proves(changed, ROSTER) or set(changed.statements) == set(evidence.statements)


@settings(max_examples=200, deadline=None)
@given(message=st.binary(min_size=1, max_size=200), plan=st.binary(max_size=60),
       binding=st.lists(st.binary(min_size=32, max_size=32), max_size=2))
def test_any_bytes_as_a_statement_are_no_statement(message: bytes, plan: bytes, binding: list[bytes]) -> None:
    assert open_statement(Statement(message, tuple(binding), plan), ROSTER) is None


@pytest.mark.parametrize("wrong", [
    lambda: Statement(b""), lambda: Statement(bytes((1 << 20) + 1)), lambda: Statement(b"x", (bytes(31),)),
    lambda: Statement(b"x", (CTX, H1, H2, H3)), lambda: Evidence("two-plans", "E_MADE_UP", "coordinator", (plan(),)),
    lambda: Evidence("two-plans", "E_REPLAY", "nobody", (plan(),)),
    lambda: Evidence("two-plans", "E_REPLAY", "a b", (plan(),)),
    lambda: Evidence("two plans", "E_REPLAY", "coordinator", (plan(),)),
    lambda: Evidence("two-plans", "E_REPLAY", "coordinator", ()),
    lambda: Evidence("two-plans", "E_REPLAY", "coordinator", (plan(),) * 3)])
def test_what_cannot_be_evidence_cannot_be_built(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        wrong()


@EACH
def test_the_order_of_two_messages_of_one_type_does_not_matter(kind: str) -> None:
    evidence = EVIDENCE[kind]
    if len(set(RULES[kind].types)) == 1:
        assert proves(replace(evidence, statements=evidence.statements[::-1]), ROSTER)


def test_a_statement_carries_nothing_that_its_signature_does_not_need() -> None:
    assert open_statement(replace(mark(), binding=(CTX,)), ROSTER) is None
    assert open_statement(replace(plan(), binding=(CTX,)), ROSTER) is None
    weak = EVIDENCE["weak-key"]
    for beside in (Statement(b"anything"), advert(STOLEN), plan()):
        assert not proves(replace(weak, statements=(*weak.statements, beside)), ROSTER)
        assert not proves(replace(weak, statements=(beside, *weak.statements)), ROSTER)


def test_two_manifests_hashes_under_one_name_contradict_each_other_in_any_release() -> None:
    older = Statement(SignedManifest.make(replace(MANIFEST, release="older"), BOSS).to_bytes())
    found = contradiction((older, plan()), ROSTER)
    assert found is not None and found.kind == "plan-breaks-manifest"
