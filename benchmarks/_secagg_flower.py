"""Flower's SecAgg+ on the same work: its own functions, in the order of its client mod and workflow.

Source: flwr 1.41, `client/mod/secure_aggregation/secaggplus_mod.py` (`_collect_masked_vectors`) and
`server/workflow/secure_aggregation/secaggplus_workflow.py` (`collect_masked_vectors_stage`, `unmask_stage`), with their
default ranges and every site a neighbour of every other. Turning arrays into bytes and back is left out, which favours
Flower: ours packs, and hashes every upload.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_combine,
    factor_extract,
    get_parameters_shape,
    parameters_addition,
    parameters_mod,
    parameters_multiply,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import dequantize, quantize
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.supercore.primitives.asymmetric import (
    bytes_to_private_key,
    bytes_to_public_key,
    generate_key_pairs,
    private_key_to_bytes,
    public_key_to_bytes,
)

__all__ = ["FlowerSite", "FlowerSum"]

CLIP, TARGET, MODULUS = 8.0, 1 << 22, 1 << 32  # the workflow's defaults
Vectors = list[npt.NDArray[Any]]


class FlowerSite:
    """The first of `n` nodes, between the shares and its upload."""

    def __init__(self, n: int, vector: npt.NDArray[np.float32]) -> None:
        self._seed, self._vector = os.urandom(32), vector
        pairs = [generate_key_pairs() for _ in range(n)]
        self._private = private_key_to_bytes(pairs[0][0])
        self._public = [public_key_to_bytes(public) for _, public in pairs]

    def upload(self) -> Vectors:
        """`_collect_masked_vectors`, from the trained parameters to the masked ones."""
        factor = round(0.5 * TARGET)
        parameters = parameters_multiply([self._vector], factor / TARGET)
        vectors: Vectors = list(factor_combine(factor, quantize(parameters, CLIP, TARGET)))
        shapes = [array.shape for array in vectors]
        vectors = parameters_addition(vectors, pseudo_rand_gen(self._seed, MODULUS, shapes))
        for node in range(1, len(self._public)):
            shared = generate_shared_key(
                bytes_to_private_key(self._private), bytes_to_public_key(self._public[node]))
            mask = pseudo_rand_gen(shared, MODULUS, shapes)
            vectors = parameters_addition(vectors, mask) if node % 2 else parameters_subtraction(vectors, mask)
        return parameters_mod(vectors, MODULUS)


class FlowerSum:
    """The coordinator of `n` nodes of which the last `dropped` are gone, with `threshold` shares needed."""

    def __init__(self, n: int, dropped: int, threshold: int) -> None:
        self._n, self._active = n, range(n - dropped)
        pairs = [generate_key_pairs() for _ in range(n)]
        self._public = [public_key_to_bytes(public) for _, public in pairs]
        secrets = [os.urandom(32) if node in self._active else private_key_to_bytes(pairs[node][0])
                   for node in range(n)]
        self._shares = [create_shares(secret, threshold, n)[: len(self._active)] for secret in secrets]

    def total(self, uploads: list[Vectors]) -> Vectors:
        """`collect_masked_vectors_stage` and `unmask_stage`, from decoded uploads to the real sum."""
        total: Vectors = uploads[0]
        for upload in uploads[1:]:
            total = parameters_addition(total, upload)
        total = parameters_mod(total, MODULUS)
        shapes = get_parameters_shape(total)
        for node, shares in enumerate(self._shares):
            secret = combine_shares(shares)
            if node in self._active:
                total = parameters_subtraction(total, pseudo_rand_gen(secret, MODULUS, shapes))
                continue
            for peer in range(self._n):
                if peer != node:
                    key = generate_shared_key(bytes_to_private_key(secret), bytes_to_public_key(self._public[peer]))
                    mask = pseudo_rand_gen(key, MODULUS, shapes)
                    total = parameters_addition(total, mask) if node > peer else parameters_subtraction(total, mask)
        factor, total = factor_extract(parameters_mod(total, MODULUS))
        real = dequantize(total, CLIP, TARGET)
        for vector in real:
            vector += -(len(self._active) - 1) * CLIP
            vector *= TARGET / max(int(factor), 1)
        return list(real)
