"""Nothing that two releases must agree on may change unnoticed."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "vectors" / "make_vectors.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_vectors", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def frozen(script):
    return json.loads(script.FILE.read_text())


def test_primitives_are_as_frozen(script, frozen):
    assert script.primitives() == frozen["primitives"]


def test_a_whole_round_is_as_frozen(script, frozen):
    assert script.transcript() == frozen["transcript"]


def test_the_frozen_round_has_the_right_sum(frozen):
    """1 + 2 + 3 times the base vector; site-3 saturates its last coordinate at 1."""
    assert frozen["transcript"]["real sum"] == pytest.approx([0.6, -1.5, 0.5 + 1.0 + 1.0], abs=1e-5)


def test_the_frozen_encoding_can_be_derived_by_hand(frozen):
    by_hand = (
        b"NTF" b"i\0\0\0\1\0" b"i\0\0\0\1\xff" b"i\0\0\0\2\0\x80" b"i\0\0\0\x09\xc0" + bytes(8)
        + b"f\0\0\0\x08\x3f\xf8" + bytes(6) + b"b\0\0\0\1\0" + b"s\0\0\0\2\xc3\xa9"
        + b"t\0\0\0\2" b"s\0\0\0\1a" b"t\0\0\0\2" b"i\0\0\0\1\1" b"t\0\0\0\0"
    )  # fmt: skip
    assert frozen["primitives"]["enc"] == by_hand.hex()
    label = b"fedsecagg/1|" b"s\0\0\0\5label" b"i\0\0\0\1\1" b"s\0\0\0\1a"
    assert frozen["primitives"]["digest"] == hashlib.sha256(label).hexdigest()
