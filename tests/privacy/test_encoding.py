from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.encoding import MAX_BYTES, MAX_DEPTH, dec, digest, enc, transcript
from privacy.errors import MessageFormatError

ATOMS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False)
    | st.binary(max_size=9)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
)
ITEMS = st.recursive(ATOMS, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=8)


def shape(item):
    """A value with its types and the sign of zero, so that 1, True and 1.0 differ."""
    if isinstance(item, tuple):
        return tuple(shape(inner) for inner in item)
    return (type(item), item, math.copysign(1, item) if isinstance(item, float) else 0)


@settings(max_examples=200)
@given(st.lists(ITEMS, max_size=4), st.lists(ITEMS, max_size=4))
def test_injective(one, two):
    assert (enc(*one) == enc(*two)) == (shape(tuple(one)) == shape(tuple(two)))


@settings(max_examples=200)
@given(st.lists(ITEMS, max_size=5))
def test_decoding_inverts_encoding(items):
    assert shape(dec(enc(*items))) == shape(tuple(items))


def test_equal_looking_values_of_different_types_and_groupings_differ():
    family = [(1,), (True,), (1.0,), ("1",), (b"1",), ((1,),), (1, ()), (None,), (0,), (False,), ("",), (b"",), ((),)]
    family.append(())
    assert len({enc(*items) for items in family}) == len(family)
    assert enc("ab", "c") != enc("a", "bc")
    assert enc(0.0) != enc(-0.0)


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_refused_or_canonical(data):
    try:
        items = dec(data)
    except MessageFormatError:
        return
    assert enc(*items) == data


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        enc(1)[:-1],
        enc(1) + b"\x00",
        b"i\x00\x00\x00\x02\x00\x01",  # padded integer
        b"i\x00\x00\x00\x00",  # empty integer
        b"f\x00\x00\x00\x08\x7f\xf8\x00\x00\x00\x00\x00\x00",  # NaN
        b"f\x00\x00\x00\x04\x00\x00\x00\x00",
        b"s\x00\x00\x00\x01\xff",  # not UTF-8
        b"s\x00\x00\x00\x02\xc0\x80",  # overlong
        b"t\x00\x00\x00\x02N",  # claims more items than follow
        b"b\xff\xff\xff\xff",
        b"t\xff\xff\xff\xff",
        b"t\x00\x00\x00\x01" * 2000,
        bytes(MAX_BYTES + 1),
    ],
)
def test_malformed_bytes_are_refused(data):
    with pytest.raises(MessageFormatError):
        dec(data)


def test_values_that_have_no_encoding_are_refused():
    class Text(str):
        pass

    for bad in (math.nan, [1], {1}, Text("a"), "\ud800", b"\x00" * (MAX_BYTES + 1), bytearray(b"a")):
        with pytest.raises(ValueError):
            enc(bad)
    nested = ()
    for _ in range(MAX_DEPTH):
        nested = (nested,)
    with pytest.raises(ValueError, match="deeper"):
        enc(nested)


def test_labels_separate_statements():
    assert digest("a", 1) != digest("b", 1)
    assert digest("a", "b") != digest("ab")
    assert transcript("a", 1).startswith(b"fedsecagg/1|")
