"""Patient identity: what counts as one patient, and pseudonyms that only the key holder can link."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from site_client.records import (
    REASONS,
    PatientRecord,
    Refusal,
    RefusedItemError,
    SiteIndex,
    checked_patient_id,
    pseudonym,
)

KEY = bytes(range(32))


def test_spellings_of_one_id_are_one_patient():
    assert {checked_patient_id(text) for text in ("ab 12", " AB  12 ", "Ab\t12", "ＡＢ 12")} == {"AB 12"}


@pytest.mark.parametrize(
    "text", ["0", "000", "ANON", "anonymous", "N/A", "n-a", "xxx", "---", "unknown", "^", "^^", "?"]
)
def test_placeholders_are_refused(text):
    with pytest.raises(RefusedItemError) as caught:
        checked_patient_id(text)
    assert caught.value.code == "patient-dummy"


@pytest.mark.parametrize("value", ["", "   ", None, 7, ["A", "B"]])
def test_missing_ids_are_refused(value):
    with pytest.raises(RefusedItemError) as caught:
        checked_patient_id(value)
    assert caught.value.code == "patient-missing"


@pytest.mark.parametrize("text", ["ANON 0042", "TEST-7", "0123", "X1", "患者一"])
def test_ids_that_tell_patients_apart_are_accepted(text):
    assert checked_patient_id(text) == text


def test_pseudonym_is_the_documented_hmac():
    expected = hmac.new(KEY, b"HOSPITAL\x1fCXR12", hashlib.sha256).hexdigest()
    assert pseudonym(KEY, "HOSPITAL", "CXR12") == expected
    assert pseudonym(KEY, "", "CXR12") != expected
    assert pseudonym(KEY[::-1], "HOSPITAL", "CXR12") != expected


def test_a_short_key_is_refused():
    with pytest.raises(ValueError, match="at least 16"):
        pseudonym(b"short", "", "CXR12")


def test_representations_carry_no_identity():
    refusal = Refusal("dicom/CXR12/1.dcm", "patient-missing")
    record = PatientRecord("ab" * 32, {})
    shown = repr((refusal, record, SiteIndex((record,), (refusal,))))
    assert "CXR12" not in shown
    assert "abab" not in shown
    assert "patient-missing" in repr(refusal)


def test_reasons_are_counted_by_code():
    index = SiteIndex((), (Refusal("a", "sop-class"), Refusal("b", "not-utf8"), Refusal("c", "sop-class")))
    assert index.reasons() == {"not-utf8": 1, "sop-class": 2}
    assert set(index.reasons()) <= set(REASONS)
