from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.secagg.shamir import PRIME, SHARE_BYTES, Share, _evaluate, combine, split


def fraction_oracle(shares):
    """Lagrange at zero over the rationals, reduced at the end: another route than `combine`'s."""
    total = Fraction(0)
    for one in shares:
        term = Fraction(one.value)
        for other in shares:
            if other.index != one.index:
                term *= Fraction(other.index, other.index - one.index)
        total += term
    return total.numerator * pow(total.denominator, -1, PRIME) % PRIME


def is_probable_prime(n):
    """Miller-Rabin with fixed bases."""
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53):
        x = pow(base, odd, n)
        if x not in (1, n - 1) and all((x := x * x % n) != n - 1 for _ in range(twos - 1)):
            return False
    return True


def test_the_modulus_is_the_first_prime_above_every_secret():
    assert is_probable_prime(PRIME)
    assert not any(is_probable_prime(2**256 + k) for k in range(1, 297, 2))


@settings(max_examples=40, deadline=None)
@given(secret=st.binary(min_size=32, max_size=32), n=st.integers(1, 12), data=st.data())
def test_any_t_shares_rebuild_the_secret(make_stream, secret, n, data):
    t = data.draw(st.integers(1, n))
    shares = split(secret, t, n, make_stream("split"))
    chosen = data.draw(st.permutations(shares))[:t]
    assert combine(chosen) == secret
    assert fraction_oracle(chosen) == int.from_bytes(secret, "big")


def test_every_subset_of_four_of_seven(make_stream):
    secret = bytes(range(32))
    shares = split(secret, 4, 7, make_stream("seven"))
    assert {combine(subset) for subset in combinations(shares, 4)} == {secret}


def test_fewer_than_t_shares_fit_every_secret(make_stream):
    """For t - 1 shares and any other secret there is a polynomial through both: they carry no information."""
    shares = split(bytes(32), 4, 7, make_stream("less"))[:3]
    for other in (1, 2**255, 2**256 - 1):
        points = [Share(0, other), *shares]

        def value_at(x, points=points):
            total = 0
            for one in points:
                term = one.value
                for two in points:
                    if two.index != one.index:
                        term = term * (x - two.index) * pow(one.index - two.index, -1, PRIME) % PRIME
                total += term
            return total % PRIME

        forged = [Share(index, value_at(index)) for index in (5, 6, 7, 8)]
        assert combine([*shares, forged[3]]) == other.to_bytes(32, "big") == combine(forged)


def test_too_few_shares_give_another_secret(make_stream):
    secret = bytes(range(32))
    shares = split(secret, 4, 7, make_stream("few"))
    assert all(_combined_or_none(subset) != secret for subset in combinations(shares, 3))


def _combined_or_none(shares):
    try:
        return combine(shares)
    except ValueError:
        return None


def test_shares_do_not_repeat_between_two_dealings(make_stream):
    stream = make_stream("twice")
    first, second = (split(bytes(32), 3, 5, stream) for _ in range(2))
    assert {share.value for share in first}.isdisjoint(share.value for share in second)


def test_shares_travel_as_33_bytes_and_must_be_field_elements():
    share = Share(3, PRIME - 1)
    assert len(share.to_bytes()) == SHARE_BYTES
    assert Share.from_bytes(3, share.to_bytes()) == share
    for wrong in (PRIME.to_bytes(33, "big"), bytes(32), bytes(34)):
        with pytest.raises(ValueError, match="33 bytes"):
            Share.from_bytes(3, wrong)
    assert str(PRIME - 1) not in repr(share)


def test_bad_arguments_are_refused(make_stream):
    stream = make_stream("bad")
    for secret, t, n in ((bytes(31), 2, 3), (bytes(32), 0, 3), (bytes(32), 4, 3)):
        with pytest.raises(ValueError, match="32 bytes"):
            split(secret, t, n, stream)
    with pytest.raises(ValueError, match="distinct"):
        combine([Share(1, 5), Share(1, 5)])
    with pytest.raises(ValueError, match="distinct"):
        combine([])
    with pytest.raises(ValueError, match="one secret"):
        combine([Share(1, 2**256 + 5)])


@pytest.mark.parametrize("t", [1, 2, 32, 33, 34, 134])
def test_evaluation_is_that_of_powers(t):
    """Horner with late reduction against the sum of powers, at the indices of 200 sites and far beyond."""
    coefficients = [PRIME - 1 - 7 * k for k in range(t)]
    for x in (1, 2, 199, 200, 60_000):
        wanted = sum(c * pow(x, t - 1 - k, PRIME) for k, c in enumerate(coefficients)) % PRIME
        assert _evaluate(coefficients, x) == wanted
