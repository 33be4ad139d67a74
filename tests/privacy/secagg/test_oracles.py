"""Other implementations of the same standards: what is computed here must be what they compute.

Nothing here calls a derivation of `privacy.secagg` on both sides of a comparison.
"""

from __future__ import annotations

import hashlib
import hmac
from itertools import combinations

import numpy as np
import pytest
from Crypto.Cipher import AES
from Crypto.Protocol.SecretSharing import Shamir as GaloisShamir

from privacy.encoding import transcript
from privacy.secagg.keys import Agreement, Channel, commit, open_sealed, pair_mask_key, seal, self_mask_key
from privacy.secagg.masking import apply_masks
from privacy.secagg.params import ring_params
from privacy.secagg.quantize import pack, quantize
from privacy.secagg.shamir import PRIME, combine, split

CTX, H = b"c" * 32, b"h" * 32


def hkdf(secret, salt, info, length=32):
    """RFC 5869 with SHA-256, from its text."""
    key = hmac.new(salt, secret, hashlib.sha256).digest()
    out = block = b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.new(key, block + info + bytes([counter]), hashlib.sha256).digest()
        out += block
    return out[:length]


def x25519(scalar, point):
    """RFC 7748, section 5, from its text: the Montgomery ladder over integers."""
    p = 2**255 - 19
    k = int.from_bytes(scalar, "little") & ~7 & (2**255 - 1) | 2**254
    x1 = int.from_bytes(point, "little") & (2**255 - 1)
    x2, z2, x3, z3, swap = 1, 0, x1, 1, 0
    for t in reversed(range(255)):
        bit = k >> t & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % p, b * b % p, d * a % p, c * b % p
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % p, x1 * (da - cb) ** 2 % p
        x2, z2 = aa * bb % p, e * (aa + 121665 * e) % p
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, p - 2, p) % p).to_bytes(32, "little")


def test_the_oracles_themselves_match_their_standards():
    """RFC 5869, test case 1; RFC 7748, section 5.2."""
    okm = hkdf(bytes([0x0B] * 22), bytes(range(13)), bytes(range(0xF0, 0xFA)), 42)
    assert okm.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    scalar = bytes.fromhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")
    point = bytes.fromhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    out = "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"
    assert x25519(scalar, point).hex() == out


def test_keys_are_x25519_and_hkdf_of_the_standards(make_stream):
    stream = make_stream("oracle")
    mine, theirs = stream.random_bytes(32), stream.random_bytes(32)
    base = (9).to_bytes(32, "little")
    public = x25519(theirs, base)
    assert Agreement(theirs).public_bytes() == public
    shared = x25519(mine, public)
    info = transcript("pair-mask-key", CTX, H, "a", "b")
    assert pair_mask_key(Agreement(mine), public, CTX, H, "b", "a") == hkdf(shared, CTX, info)
    assert self_mask_key(mine, CTX, H, "a") == hkdf(mine, CTX, transcript("self-mask-key", CTX, H, "a"))


def test_an_envelope_is_aes_gcm_of_the_standard_under_the_channel_key(make_stream):
    stream = make_stream("gcm")
    mine, theirs, plaintext = (stream.random_bytes(size) for size in (32, 32, 66))
    channel = Channel(CTX, H, "a", "b")
    key = hkdf(x25519(mine, Agreement(theirs).public_bytes()), CTX, transcript("channel-key", *channel.items()))
    cipher = AES.new(key, AES.MODE_GCM, nonce=bytes(12))
    cipher.update(transcript("envelope-aad", *channel.items()))
    expected = b"".join(cipher.encrypt_and_digest(plaintext))
    assert seal(Agreement(mine), Agreement(theirs).public_bytes(), channel, plaintext) == expected
    assert open_sealed(Agreement(theirs), Agreement(mine).public_bytes(), channel, expected) == plaintext


def test_a_commitment_is_sha256_of_its_labelled_transcript():
    expected = hashlib.sha256(transcript("commit", "seed", CTX, H, "a", "b", b"secret")).digest()
    assert commit("seed", Channel(CTX, H, "a", "b"), b"secret") == expected


@pytest.mark.parametrize("d", [0, 1, 7, 65_536, 65_541])
def test_masks_are_the_counter_mode_keystream_of_another_library(make_stream, d):
    keys = [make_stream(f"mask {i}").random_bytes(32) for i in range(3)]
    ours = np.arange(d, dtype=np.uint32)
    apply_masks(ours, keys[:2], keys[2:])
    expected = np.arange(d, dtype=np.int64)
    for key, sign in zip(keys, (1, 1, -1), strict=True):
        stream = AES.new(key, AES.MODE_CTR, nonce=b"", initial_value=0).encrypt(bytes(4 * d))
        expected += sign * np.frombuffer(stream, dtype="<u4").astype(np.int64)
    np.testing.assert_array_equal(ours, (expected % 2**32).astype(np.uint32))


def test_packed_bytes_are_two_complement_integers_of_python():
    for bits in (16, 24, 32):
        ring = ring_params(bits, 2.0, 5)
        numbers = np.array([0.0, 1.0, -1.0, 2.0, -2.0, 0.3, -0.3])
        expected = b"".join(
            (round(number * ring.scale) % 2**bits).to_bytes(bits // 8, "little") for number in numbers.tolist()
        )
        assert pack(quantize(numbers, ring).values, bits).tobytes() == expected


@pytest.mark.parametrize(("t", "n"), [(1, 1), (2, 3), (3, 4), (5, 7)])
def test_shamir_has_the_structure_of_another_library(make_stream, t, n):
    """pycryptodome shares 16 bytes over GF(2^128), so values differ: the same sets of shares must rebuild, in both."""
    secret = make_stream("secret").random_bytes(32)
    ours = split(secret, t, n, make_stream("ours"))
    halves = [GaloisShamir.split(t, n, secret[at : at + 16]) for at in (0, 16)]
    assert [share.index for share in ours] == [index for index, _ in halves[0]] == list(range(1, n + 1))
    for size in range(1, n + 1):
        for chosen in combinations(range(n), size):
            theirs = b"".join(GaloisShamir.combine([half[at] for at in chosen]) for half in halves)
            try:
                mine = combine([ours[at] for at in chosen])
            except ValueError:  # beyond 32 bytes: not the secret either
                mine = None
            assert (mine == secret) == (theirs == secret) == (size >= t)


def test_shares_are_values_of_the_polynomial_that_was_drawn(make_stream):
    """Degree t - 1 with the secret as its constant term, and 48 bytes a coefficient, highest degree first."""
    secret = bytes(range(32))
    drawn = make_stream("poly").random_bytes(48 * 3)
    coefficients = [int.from_bytes(drawn[at : at + 48], "big") for at in (0, 48, 96)]
    for share in split(secret, 4, 9, make_stream("poly")):
        powers = [share.index**3, share.index**2, share.index]
        value = sum(c * x for c, x in zip(coefficients, powers, strict=True)) + int.from_bytes(secret, "big")
        assert share.value == value % PRIME


def test_every_secret_is_equally_likely_given_fewer_than_t_shares():
    """On GF(7), by counting all polynomials of degree 2: two shares leave every secret with the same count."""
    p, t = 7, 3
    for at in combinations(range(1, 5), t - 1):
        counts = {}
        for secret in range(p):
            for first in range(p):
                for second in range(p):
                    seen = tuple((secret + first * x + second * x * x) % p for x in at)
                    counts[seen, secret] = counts.get((seen, secret), 0) + 1
        assert len(counts) == p**t and set(counts.values()) == {1}
