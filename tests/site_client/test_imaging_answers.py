"""Nothing of a child's answer is believed: each field of a header within its bounds, and no other."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pydicom
import pytest

from site_client.imaging import header_pass
from site_client.imaging.answers import CODES, checked_end, checked_header, checked_syntax
from site_client.imaging.framing import BrokenChannelError
from site_client.imaging.header_pass import read_header
from site_client.records import REASONS

SMALL = Path(pydicom.__file__).parent / "data" / "test_files" / "CT_small.dcm"


@pytest.fixture
def said() -> dict[str, Any]:
    """An honest header, as it comes out of the channel."""
    return json.loads(json.dumps(asdict(read_header(SMALL))))  # type: ignore[no-any-return]


def test_an_honest_header_comes_through_whole(said: dict[str, Any]) -> None:
    assert checked_header(said) == read_header(SMALL)
    assert checked_header({**said, "position": float("nan")}).rows == 128


@pytest.mark.parametrize(("field", "lie"), [
    *((name, lie) for name in ("sop_uid", "patient_id", "modality", "issuer", "study_uid")
      for lie in (None, 7, ["x"], "x" * 1025, "a\nb", "\x1b[2J", "\ud800", "\u202e\u0000")),
    *((name, lie) for name in ("names", "identifiers", "dates") for lie in ("x", None, [7], ["x"] * 65, {"x": "x"})),
    *((name, lie) for name in ("rows", "columns", "frames") for lie in (0, -1, 1 << 40, 2.0, True, "128", None)),
    ("rows", 16_384 + 1), ("instance_number", 1 << 40), ("position", float("inf")), ("position", 1), ("suspect", 1),
    ("sop_class", "1.2.840.10008.5.1.4.1.1.88.11"), ("sop_class", ["x"]), ("transfer_syntax", "1.2.3"),
    ("sop_uid", ""), ("patient_id", "")])
def test_no_field_takes_what_no_header_holds(said: dict[str, Any], field: str, lie: object) -> None:
    with pytest.raises(BrokenChannelError):
        checked_header({**said, field: lie})


def test_no_field_more_or_less_and_no_side_beyond_the_area(said: dict[str, Any]) -> None:
    short = {name: value for name, value in said.items() if name != "suspect"}
    for lie in (short, {**said, "more": 1}, {**said, "rows": 16_384, "columns": 16_384}, None, [], "x"):
        with pytest.raises(BrokenChannelError):
            checked_header(lie)


def test_codes_are_reasons_and_no_other_is_taken() -> None:
    assert set(REASONS) >= CODES
    assert checked_end({"refused": "sop-class", "over": False}, "found", checked_header) == (None, "sop-class", False)
    for lie in ({"refused": "text-missing", "over": False}, {"refused": "sop-class"}, {"over": False}, {},
                {"refused": "sop-class", "over": 0}, {"found": 1, "refused": "sop-class", "over": True}):
        with pytest.raises(BrokenChannelError):
            checked_end(lie, "found", checked_header)


def test_syntaxes() -> None:
    assert checked_syntax(["1.2.840.10008.1.2", 12]) == ("1.2.840.10008.1.2", 12)
    for lie in (["1.2; rm", 8], ["1.2", -1], ["1.2", True], ["1" * 65, 8], ["1.2"], "1.2"):
        with pytest.raises(BrokenChannelError):
            checked_syntax(lie)


def test_every_code_that_the_sandboxed_modules_raise_may_be_answered() -> None:
    """A code that is not expected would count as a crash of the decoder."""
    folder = Path(header_pass.__file__).parent
    raised = {code for path in folder.glob("*.py")
              for code in re.findall(r'RefusedItemError\("([a-z-]+)"', path.read_text(encoding="utf-8"))}
    assert len(raised) > 15
    assert raised <= CODES
