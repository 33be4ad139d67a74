"""docs/faults.md says what the tables say, for every code."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from privacy.errors import COORDINATOR, FAULTS, NOBODY, POLICY_ACTIONS, POLICY_REFUSALS
from privacy.evidence import RULES

MAKER = runpy.run_path(str(Path(__file__).parents[1] / "vectors" / "make_faults.py"))


def test_the_page_is_what_the_tables_give() -> None:
    assert MAKER["PAGE"].read_text(encoding="utf-8") == MAKER["page"](), "run: python tests/vectors/make_faults.py"


@pytest.mark.parametrize("code", [*FAULTS, *POLICY_REFUSALS])
def test_every_code_has_its_row_with_sentence_action_and_proof(code: str) -> None:
    (row,) = [line for line in MAKER["page"]().splitlines() if line.startswith(f"| `{code}` |")]
    said = FAULTS[code].sentence if code in FAULTS else POLICY_REFUSALS[code]
    asked = FAULTS[code].action if code in FAULTS else POLICY_ACTIONS[code]
    proofs = [kind for kind, rule in RULES.items() if code in (rule.code, rule.also)]
    assert said in row and asked in row and all(f"`{kind}`" in row for kind in proofs)
    assert row.endswith("| no |") == (not proofs)
    assert "|" not in said + asked


def test_every_action_says_what_an_operator_can_do() -> None:
    """Short, a sentence, and begins with what to do; none is shared by many codes."""
    assert set(POLICY_ACTIONS) == set(POLICY_REFUSALS)
    actions = [fault.action for fault in FAULTS.values()] + list(POLICY_ACTIONS.values())
    first = {action.split()[0].rstrip(":;,") for action in actions}
    assert first <= {"Stop", "Compare", "Go", "Start", "Check", "See", "Nothing", "Ask", "Leave", "Wait", "Install",
                     "Send", "Run", "Lower", "Raise", "Make", "Bring", "Give", "Use", "Set", "Resume"}
    assert all(action.endswith(".") and len(action) <= 140 for action in actions)
    assert max(actions.count(action) for action in actions) <= 2


def test_blame_is_one_of_four_words() -> None:
    assert {fault.blame for fault in FAULTS.values()} <= {COORDINATOR, NOBODY, "site", "sender"}
