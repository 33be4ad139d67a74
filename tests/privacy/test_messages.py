from __future__ import annotations

import copy
import hashlib
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import privacy.messages as messages
from privacy.encoding import digest, enc
from privacy.errors import FaultyCoordinatorError, FaultySiteError, MessageFormatError
from privacy.identity import Roster, RosterSite, SigningKey
from privacy.messages import (
    CLEAR_FIELDS,
    OPAQUE_FIELDS,
    AdaptiveClip,
    Advertise,
    AdvertiseList,
    Attest,
    Confirm,
    ConfirmList,
    DealtShare,
    DistributedNoise,
    Envelope,
    EnvelopeList,
    ErrorReply,
    EvaluationTerms,
    Gate,
    GateOutcome,
    Hello,
    HelloList,
    LedgerMark,
    MaskedHeader,
    MaskedList,
    PairOffer,
    Plan,
    Ready,
    Result,
    RosterInForce,
    RoundStart,
    RunManifest,
    SignedManifest,
    SignedPlan,
    SignedResult,
    SiteTerms,
    SourceShare,
    StageSpec,
    StopRule,
    Truncation,
    UnmaskShares,
    Witness,
    WitnessList,
    standard_delta,
)
from privacy.wire import VERSION, Message

KEY = SigningKey.from_private_bytes(bytes(range(32)))
COORDINATOR = SigningKey.from_private_bytes(bytes(32))
H1, H2 = hashlib.sha256(b"1").digest(), hashlib.sha256(b"2").digest()
STAGE = StageSpec(
    "align", (SourceShare("reports", 2),), ("projector",), "b-only", 0.1, 0.9, 4, 0.05, 1.1, 20, StopRule(3, 0.01),
    adaptive_clip=AdaptiveClip(0.5, 0.2, 10.0), truncation=Truncation(64, 2000),
)
ROSTER = Roster("fed", 1, COORDINATOR.public_bytes(), (RosterSite("a", KEY.public_bytes(), 50),), 3, 0.5)
MANIFEST = RunManifest(
    federation_id="fed", run_id="run", release="ab" * 32, roster_hash=ROSTER.hash(), base_model_hash=H1,
    adapter_hash=H2, lora_rank=8, lora_alpha=16, privacy="patient-dp", clip_norm=1.0, target_epsilon=8.0,
    lane_share=0.1, bits=24, saturation=4.0, stages=(STAGE,),
    sites=(SiteTerms("b", 10_000, 2.0, 1e-6), SiteTerms("a", 50, 1.0, 1e-5)),
)  # fmt: skip
PLAN = Plan("fed", "run", ROSTER.hash(), MANIFEST.hash(), 3, 1, 0, "B", H2, 100, 3, 24, 4096.0, 4.0)
MARK = LedgerMark.make("a", 7, H1, "fed", KEY)
ADVERT = Advertise.signed(KEY, (H1,), site_id="a", channel_key=H1, mask_key=H2, mark=MARK)
HELLO = Hello.make(MARK, H2, MANIFEST.hash(), KEY)
WITNESS = Witness.signed(KEY, (H1, H2), site_id="b", subject="a", marks=(MARK,))
READY = Ready.signed(KEY, (H1, H2), site_id="a")
ENVELOPE = Envelope.signed(
    KEY, (H1, H2), sender="a", recipient="b", self_mask_commitment=H1, self_mask_share_commitment=H2,
    mask_key_share_commitment=H1, ciphertext=bytes(82),
)  # fmt: skip
OFFER = PairOffer(bytes(1088), bytes(48), H2)
HYBRID_ENVELOPE = Envelope.signed(
    KEY, (H1, H2), sender="a", recipient="b", self_mask_commitment=H1, self_mask_share_commitment=H2,
    mask_key_share_commitment=H1, ciphertext=bytes(1088 + 82 + 32), tag_commitment=H1, pair_offer=OFFER,
)  # fmt: skip
HEADER = MaskedHeader.signed(
    KEY, (H1, H2), site_id="a", upload_hash=H1, complaints=(ErrorReply("E_SHARE_COMMIT", "b"),), mark=MARK
)
CONFIRM = Confirm.signed(KEY, (H1, H2), site_id="a")
RESULT = Result("run", 3, H1, H2, 4, ("a", "b"), "B", H1, H2, H1, 2)
SIGNED_RESULT = SignedResult.make(RESULT, COORDINATOR)
SHARE = DealtShare("b", bytes(33))
GATE = Gate(1.5, 5, 1, 1)
EXAMPLES = (
    STAGE.sources[0], STAGE.stop, STAGE.adaptive_clip, STAGE.truncation, STAGE, GATE,
    EvaluationTerms(0, 4.0, 3.0, GATE), GateOutcome(0, 2, 1), DistributedNoise(4, 1, 1 << 18),
    MANIFEST.sites[0], MANIFEST, PLAN, ADVERT, ENVELOPE, HYBRID_ENVELOPE, OFFER, HEADER, CONFIRM, SHARE,
    SignedManifest.make(MANIFEST, COORDINATOR), HELLO, MARK, HelloList(H1, (HELLO,)), WITNESS,
    WitnessList(H1, (WITNESS,)), READY, RosterInForce(H1),
    MANIFEST.server, RESULT, SIGNED_RESULT, Attest.make("a", RESULT, KEY),
    RoundStart(SignedPlan.signed(COORDINATOR, (), plan=PLAN), SIGNED_RESULT, (Attest.make("a", RESULT, KEY),)),
    SignedPlan.signed(COORDINATOR, (), plan=PLAN), AdvertiseList((ADVERT,)), EnvelopeList((ENVELOPE,)),
    ErrorReply("E_STAGE", "coordinator"), MaskedList((HEADER,)), ConfirmList((CONFIRM,)),
    UnmaskShares.signed(KEY, (H1, H2), site_id="a", self_mask_shares=(SHARE,), mask_key_shares=()),
)  # fmt: skip


def test_the_clear_list_names_every_field_of_every_message():
    """A field that is added to a message fails here until somebody has justified it in CLEAR_FIELDS."""
    kinds = {kind for name in messages.__all__ if isinstance(kind := getattr(messages, name), type)}
    kinds = {kind for kind in kinds if issubclass(kind, Message)} - {messages.SignedMessage}
    assert {kind.__name__ for kind in kinds} == set(CLEAR_FIELDS) == {type(one).__name__ for one in EXAMPLES}
    for kind in kinds:
        declared = {field.name for field in fields(kind)}
        clear, opaque = CLEAR_FIELDS[kind.__name__], OPAQUE_FIELDS.get(kind.__name__, ())
        assert declared == {*clear, *opaque} and len(declared) == len(clear) + len(opaque)


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_bytes_and_back(message):
    data = message.to_bytes()
    assert data[0] == VERSION
    again = type(message).from_bytes(data)
    assert again == message and again.to_bytes() == data and again.hash() == message.hash()


@settings(max_examples=150, deadline=None)
@given(message=st.sampled_from(EXAMPLES), data=st.data())
def test_no_changed_byte_decodes_to_the_same_message(message, data):
    raw = bytearray(message.to_bytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    try:
        changed = type(message).from_bytes(bytes(raw))
    except MessageFormatError:
        return
    assert changed != message


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_other_types_versions_and_lengths_are_refused(message):
    data, kind = message.to_bytes(), type(message)
    other = CONFIRM if kind is not Confirm else SHARE
    body = enc(kind.__name__, *message.items(), None)
    longer, newer = bytes([VERSION]) + body, bytes([VERSION + 1]) + data[1:]
    for wrong in (other.to_bytes(), newer, data[:-1], data + b"N", b"", longer):
        with pytest.raises(MessageFormatError):
            kind.from_bytes(wrong)


def test_a_message_beyond_its_limit_is_refused_unread():
    with pytest.raises(MessageFormatError, match="too long"):
        Confirm.from_bytes(bytes([VERSION]) * (Confirm.LIMIT_BYTES + 1))


def test_an_unsorted_manifest_is_not_canonical():
    shuffled = replace(MANIFEST)
    object.__setattr__(shuffled, "sites", MANIFEST.sites[::-1])
    with pytest.raises(MessageFormatError, match="canonical"):
        RunManifest.from_bytes(shuffled.to_bytes())


def test_errors_of_decoding_do_not_quote_the_message():
    secret = "patient-0815"
    raw = bytes([VERSION]) + enc("Confirm", secret, b"")
    with pytest.raises(MessageFormatError) as error:
        Confirm.from_bytes(raw)
    assert secret not in str(error.value) and secret not in str(error.value.__cause__)


@pytest.mark.parametrize(
    ("message", "binding"),
    [(ADVERT, (H1,)), (ENVELOPE, (H1, H2)), (HYBRID_ENVELOPE, (H1, H2)), (HEADER, (H1, H2)), (CONFIRM, (H1, H2)),
     (MARK, ("fed",)), (HELLO, (MANIFEST.hash(),)), (WITNESS, (H1, H2)), (READY, (H1, H2))],
)
def test_a_signature_covers_every_field_its_binding_and_its_kind(message, binding):
    public = KEY.public_bytes()
    assert message.is_signed_by(public, binding)
    assert not message.is_signed_by(COORDINATOR.public_bytes(), binding)
    assert not message.is_signed_by(public, (*binding[:-1], bytes(32)))
    assert not message.is_signed_by(public, (*binding, None))
    for field in fields(message):
        value = getattr(message, field.name)
        if isinstance(value, bytes):
            changed = b"\x07" * (len(value) or 32)
        else:
            others = {
                str: "zz", tuple: (), int: 8, LedgerMark: replace(MARK, sequence=8), PairOffer: None,
                type(None): OFFER}
            changed = others[type(value)]
        altered = replace(message)
        object.__setattr__(altered, field.name, changed)  # past `check`: a signature must hold by itself
        assert not altered.is_signed_by(public, binding)


def test_labels_of_signed_messages_are_distinct():
    kinds = {type(one) for one in EXAMPLES if isinstance(one, messages.SignedMessage)}
    assert len({kind.LABEL for kind in kinds}) == len(kinds) == 13


def test_hello_holds_for_one_manifest_and_a_rostered_site():
    assert HELLO.proves(ROSTER, MANIFEST.hash())
    assert not HELLO.proves(ROSTER, H1)
    assert not replace(HELLO, site_id="z", mark=replace(MARK, site_id="z")).proves(ROSTER, MANIFEST.hash())
    assert not Hello.make(MARK, H2, MANIFEST.hash(), COORDINATOR).proves(ROSTER, MANIFEST.hash())
    idle = replace(ROSTER, sites=(replace(ROSTER.sites[0], status="suspended"),))
    assert not HELLO.proves(idle, MANIFEST.hash())
    assert MARK.is_signed_for(idle)  # what a suspended site once stated about its ledger still holds


def test_hello_states_the_senders_own_ledger_under_the_senders_own_signature():
    for wrong in (replace(MARK, sequence=8), LedgerMark.make("a", 7, H1, "other", KEY)):
        assert not Hello.make(wrong, H2, MANIFEST.hash(), KEY).proves(ROSTER, MANIFEST.hash())
    with pytest.raises(ValueError, match="own"):
        replace(HELLO, mark=replace(MARK, site_id="b"))
    with pytest.raises(ValueError, match="own"):
        replace(ADVERT, mark=replace(MARK, site_id="b"))


def test_a_witness_speaks_of_another_site_and_of_one_mark_at_most():
    for changes in ({"site_id": "a"}, {"subject": "c"}, {"marks": (MARK, MARK)}):
        with pytest.raises(ValueError, match="witness"):
            replace(WITNESS, **changes)


def test_a_manifest_opens_only_if_the_pinned_coordinator_signed_it_for_this_roster():
    assert SignedManifest.open(SignedManifest.make(MANIFEST, COORDINATOR).to_bytes(), ROSTER) == MANIFEST
    for manifest, key, code in (
        (MANIFEST, KEY, "E_MANIFEST_SIG"),
        (replace(MANIFEST, roster_hash=H1), COORDINATOR, "E_ROSTER"),
        (replace(MANIFEST, federation_id="other"), COORDINATOR, "E_ROSTER"),
    ):
        with pytest.raises(FaultyCoordinatorError) as refusal:
            SignedManifest.open(SignedManifest.make(manifest, key).to_bytes(), ROSTER)
        assert refusal.value.code == code


def test_an_error_reply_carries_a_known_code_and_a_party_only():
    assert ErrorReply.of(FaultySiteError("E_DEALER", "site-1")) == ErrorReply("E_DEALER", "site-1")
    assert {field.name for field in fields(ErrorReply)} == {"code", "blamed"}
    for code, blamed in (("E_MADE_UP", "nobody"), ("E_STAGE", "a patient"), ("P_STAGE", "")):
        with pytest.raises(ValueError):
            ErrorReply(code, blamed)


def test_the_context_covers_every_field_of_the_plan():
    changes = {
        "federation_id": "x", "run_id": "x", "roster_hash": H1, "manifest_hash": H1, "round": 4, "attempt": 2,
        "stage": 1, "factor": "A", "model_hash": H1, "dimension": 99, "num_lanes": 2, "bits": 32, "scale": 2048.0,
        "saturation": 3.0, "purpose": "evaluate",
    }  # fmt: skip
    assert set(changes) == {field.name for field in fields(Plan)}
    contexts = {replace(PLAN, **{name: value}).context() for name, value in changes.items()}
    assert len(contexts | {PLAN.context()}) == len(changes) + 1
    assert PLAN.context() == digest("Plan", *PLAN.items())


def test_integers_in_float_fields_do_not_change_the_hash():
    assert replace(MANIFEST, clip_norm=1).hash() == replace(MANIFEST, clip_norm=1.0).hash()


@pytest.mark.parametrize(
    "changes",
    [
        {"privacy": "record-dp"}, {"bits": 20}, {"clip_norm": 0.0}, {"clip_norm": float("nan")}, {"clip_norm": "1"},
        {"target_epsilon": 0.0}, {"lane_share": 1.0}, {"saturation": float("inf")}, {"stages": ()}, {"sites": ()},
        {"stages": (STAGE, STAGE)}, {"sites": MANIFEST.sites * 2}, {"roster_hash": b""}, {"lora_rank": True},
        {"stages": (replace(STAGE, noise_multiplier=0.0),)}, {"privacy": "none"}, {"stages": [STAGE]},
        {"run_id": "../run"},
    ],
    ids=str,
)  # fmt: skip
def test_a_manifest_that_makes_no_sense_is_refused(changes):
    with pytest.raises(ValueError):
        replace(MANIFEST, **changes)


@pytest.mark.parametrize("message", [*EXAMPLES, ROSTER, ROSTER.sites[0]], ids=lambda message: type(message).__name__)
def test_every_byte_string_has_one_size_and_every_number_its_bounds(message):
    bad = {
        bytes: lambda value: (value[:-1] if value else b"00", value + b"0"),
        int: lambda _: (-1, 2**40, 2**70, 1.5),
        float: lambda _: (-1.0, float("nan"), float("inf"), 2**60),
    }
    for field in fields(message):
        value = getattr(message, field.name)
        for wrong in bad.get(type(value), lambda _: ())(value):
            with pytest.raises(ValueError):
                replace(message, **{field.name: wrong})


def test_terms_of_a_site():
    assert MANIFEST.terms("b").weight == 2.0 and MANIFEST.site_ids == ("a", "b")
    with pytest.raises(KeyError):
        MANIFEST.terms("c")


def test_a_run_without_privacy_says_so_and_adds_no_noise():
    quiet = replace(STAGE, noise_multiplier=0.0, adaptive_clip=None, truncation=None)
    run = replace(MANIFEST, privacy="none", target_epsilon=0.0, stages=(quiet,))
    assert RunManifest.from_bytes(run.to_bytes()) == run


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "never"}, {"sources": ()}, {"groups": ()}, {"groups": ("a", "a")}, {"sampling_rate": 0.0},
        {"sampling_rate": 1.1}, {"local_steps": 0}, {"max_rounds": 0}, {"momentum": 1.0}, {"learning_rate": 0.0},
        {"noise_multiplier": -1.0}, {"stop": StopRule}, {"local_steps": 2**70},
    ],
    ids=str,
)  # fmt: skip
def test_a_stage_that_makes_no_sense_is_refused(changes):
    with pytest.raises(ValueError):
        replace(STAGE, **changes)


def test_delta_is_at_most_a_tenth_of_one_over_the_patients():
    assert standard_delta(50) == 1e-5 and standard_delta(10**6) == 1e-7
    SiteTerms("a", 10**6, 1.0, 1e-7)
    with pytest.raises(ValueError, match="delta"):
        SiteTerms("a", 10**6, 1.0, 1e-6)


@pytest.mark.parametrize(
    "changes", [{"dimension": 0}, {"num_lanes": 101}, {"factor": "C"}, {"scale": 0.0}, {"round": -1}, {"bits": 8}]
)
def test_a_plan_that_makes_no_sense_is_refused(changes):
    with pytest.raises(ValueError):
        replace(PLAN, **changes)


def test_both_shares_of_one_dealer_do_not_fit_in_one_message():
    for own, keys in (((SHARE,), (SHARE,)), ((SHARE, SHARE), ())):
        with pytest.raises(ValueError, match="never of both kinds"):
            UnmaskShares.signed(KEY, (H1, H2), site_id="a", self_mask_shares=own, mask_key_shares=keys)


def test_complaints_name_a_dealer_once_with_one_of_two_codes():
    complaint = ErrorReply("E_SHARE_DECRYPT", "b")
    for wrong in ((complaint, complaint), (ErrorReply("E_SIG", "b"),)):
        with pytest.raises(ValueError, match="complaints"):
            MaskedHeader.signed(KEY, (H1, H2), site_id="a", upload_hash=H1, complaints=wrong)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": "adamw"}, "momentum belongs to the optimizer"),
        ({"optimizer": "adam"}, "StageSpec.optimizer"),
        ({"clipping": "auto-s"}, "adaptive_clip needs clipping"),
        ({"truncation": Truncation(64, 65), "clipping": "automatic"}, "StageSpec.clipping"),
    ],
    ids=str,
)  # fmt: skip
def test_a_stage_whose_choices_contradict_each_other_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        replace(STAGE, **changes)


def test_a_truncated_batch_cannot_be_larger_than_the_site():
    with pytest.raises(ValueError, match="most_patients must be at least"):
        Truncation(65, 64)


def test_choices_that_only_noise_can_pay_for_need_a_private_run():
    for choice in ({"adaptive_clip": None}, {"truncation": None}):
        stage = replace(STAGE, noise_multiplier=0.0, **choice)
        with pytest.raises(ValueError, match="has no adaptive_clip and no truncation"):
            replace(MANIFEST, privacy="none", stages=(stage,))


def test_a_bit_that_would_take_the_gradients_room_is_refused():
    quiet = replace(STAGE, adaptive_clip=AdaptiveClip(0.5, 0.2, 0.52 * STAGE.noise_multiplier))
    with pytest.raises(ValueError, match="leaves the gradient no room"):
        replace(MANIFEST, stages=(quiet,))


def test_a_stage_trains_only_groups_that_carry_adapters():
    with pytest.raises(ValueError, match="trains projector, which has no adapter"):
        replace(MANIFEST, lora_groups=("attention",))
    with pytest.raises(ValueError, match="lora_groups"):
        replace(MANIFEST, lora_groups=())
    assert replace(MANIFEST, lora_groups=("projector", "experts")).hash() != MANIFEST.hash()


def test_a_kept_encoding_is_no_field_and_does_not_outlive_a_change():
    reply = ErrorReply("E_SIG", "coordinator")
    before = reply.to_bytes()
    assert vars(reply) == {"code": "E_SIG", "blamed": "coordinator"} and reply == ErrorReply("E_SIG", "coordinator")
    other = replace(reply, blamed="nobody")
    assert other.to_bytes() != before and ErrorReply.from_bytes(other.to_bytes()).blamed == "nobody"
    assert copy.deepcopy(reply).to_bytes() == before == reply.to_bytes()
