"""The list of what may leave is complete: every step has its reply, and every nested message is on the list."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from configs.schema import STEPS
from privacy.errors import MessageFormatError
from privacy.identity import SigningKey
from privacy.messages import CLEAR_FIELDS, Confirm, ErrorReply
from site_client.leaving import REPLIES, leaving_fields, message_of

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "site-guide.md"


def test_every_step_has_one_kind_of_reply() -> None:
    assert tuple(REPLIES) == STEPS


def test_the_list_holds_nested_messages_with_all_their_fields() -> None:
    found = leaving_fields()
    assert {"Envelope", "PairOffer", "LedgerMark", "Witness", "DealtShare", "ErrorReply"} <= set(found)
    assert not {"RunManifest", "Plan", "Result", "MaskedList", "RoundStart"} & set(found)  # only ever arrive
    assert found["Envelope"] == (CLEAR_FIELDS["Envelope"], ("ciphertext",))
    assert all(clear == CLEAR_FIELDS[kind] for kind, (clear, _) in found.items())


def test_the_guide_names_every_kind_that_leaves() -> None:
    text = GUIDE.read_text(encoding="utf-8").split("## What leaves the site")[1]
    assert set(leaving_fields()) <= set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE))


def test_a_reply_is_of_its_steps_kind_or_a_refusal() -> None:
    confirm = Confirm.signed(SigningKey.from_private_bytes(bytes(32)), (), site_id="site-1")
    assert message_of("sa_confirm", confirm.to_bytes()) == confirm
    refusal = ErrorReply("E_SITE", "nobody")
    assert all(message_of(step, refusal.to_bytes()) == refusal for step in STEPS)
    with pytest.raises(ValueError, match="not of a kind that may leave"):
        message_of("sa_mask", confirm.to_bytes())
    with pytest.raises(ValueError, match="no such step"):
        message_of("sa_everything", confirm.to_bytes())
    with pytest.raises(MessageFormatError):
        message_of("sa_confirm", confirm.to_bytes() + b"x")
