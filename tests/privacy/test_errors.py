from __future__ import annotations

import re
from pathlib import Path

import pytest

import privacy
from privacy.errors import (
    FAULTS,
    POLICY_REFUSALS,
    BudgetExceededError,
    CohortTooSmallError,
    FaultyCoordinatorError,
    FaultySiteError,
    LateMessageError,
    PolicyRefusalError,
    ProtocolError,
    protocol_error,
)

SOURCES = [path.read_text() for path in Path(privacy.__path__[0]).rglob("*.py")]


def test_every_code_that_is_raised_has_its_sentence_and_action():
    used = {code for text in SOURCES for code in re.findall(r'"(E_[A-Z0-9_]+)"', text)}
    assert used <= set(FAULTS)
    assert all(fault.sentence.endswith(".") and fault.action.endswith(".") for fault in FAULTS.values())


def test_every_code_of_the_protocol_can_be_produced():
    """Codes that only the session or the coordinator's edge raise are named here; the rest must occur in privacy/."""
    elsewhere = {"E_SPENT", "E_MODEL_HASH", "E_SITE", "E_LEDGER_FORK", "E_GATE"}
    tables = ("FAULTS: dict", "RULES: dict")  # they name codes and raise none
    text = "".join(text for text in SOURCES if not any(table in text for table in tables))
    defaults = {"E_COHORT_SMALL", "E_LATE"}  # raised through their own classes
    assert {code for code in FAULTS if f'"{code}"' not in text} <= elsewhere | defaults


def test_text_is_the_fixed_sentence_and_names_nobody():
    for error in (FaultySiteError("E_DEALER", "site-7"), FaultyCoordinatorError("E_SIG")):
        assert str(error) == FAULTS[error.code].sentence
        assert "site-7" not in str(error)
    assert FaultyCoordinatorError("E_SIG").blamed == "coordinator"
    assert CohortTooSmallError().blamed == LateMessageError().blamed == "nobody"


def test_policy_and_budget_errors_carry_no_values_in_their_text():
    error = BudgetExceededError(spent=1.25, requested=9.5, limit=8.0)
    assert (error.spent, error.requested, error.limit) == (1.25, 9.5, 8.0)
    assert not re.search(r"\d", str(error))
    assert str(PolicyRefusalError("P_STAGE")) == POLICY_REFUSALS["P_STAGE"]
    with pytest.raises(KeyError):
        PolicyRefusalError("P_MADE_UP")


@pytest.mark.parametrize(
    ("code", "blamed", "kind"),
    [
        ("E_SIG", "coordinator", FaultyCoordinatorError),
        ("E_STAGE", "site-1", FaultySiteError),
        ("E_COHORT_SMALL", "nobody", CohortTooSmallError),
        ("E_LATE", "nobody", LateMessageError),
        ("E_TAG", "nobody", ProtocolError),
    ],
)
def test_a_reply_becomes_its_typed_error_again(code, blamed, kind):
    error = protocol_error(code, blamed)
    assert type(error) is kind and isinstance(error, ProtocolError)
    assert (error.code, error.blamed) == (code, blamed)


def test_an_unknown_code_is_refused():
    with pytest.raises(ValueError, match="same release"):
        protocol_error("E_MADE_UP", "nobody")
