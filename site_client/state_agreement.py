"""A site's side of R5: which state a round begins from, and whether a result is what this site computes itself.

Every site keeps the whole attested state (adapter, momentum, average). It computes the next one from its own state and
the sum that the coordinator shows, and signs only if the hashes agree; so a site that keeps up never downloads a model.
One that missed a round takes the whole state, if it matches a result that a quorum of survivors signed. A site that
attested and lost its state says P_STATE, blames nobody, and is sent it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from model.adapted import AdaptedModel
from model.server_optimizer import (
    NonFiniteUpdateError,
    ServerOptimizer,
    ServerState,
)
from privacy.aggregation import sum_terms
from privacy.errors import FaultyCoordinatorError, PolicyRefusalError
from privacy.evaluation import GateOutcome
from privacy.gates import gates_after
from privacy.identity import Roster, SigningKey
from privacy.messages import Attest, Plan, Result, RoundStart, RunManifest, SignedResult
from privacy.results import check_result, check_round_start
from privacy.secagg.quantize import dequantize_sum, packed_size, unpack
from privacy.secagg.rings import ring_of
from site_client.round_store import RoundStore

__all__ = ["Attestor"]


class Attestor:
    """Judges results and keeps the state that they lead to.

    Args:
        site_id, signing_key, roster: this site's.
        store: where results and state are kept.
    """

    def __init__(self, site_id: str, signing_key: SigningKey, roster: Roster, store: RoundStore) -> None:
        self._id, self._key, self._roster, self._store = site_id, signing_key, roster, store

    def begin(
        self, start: RoundStart, adapted: AdaptedModel, vector: npt.NDArray[np.generic] | None
    ) -> npt.NDArray[np.float32]:
        """The adapter float32[D] that the round trains from or evaluates; nothing is spent yet.

        What is evaluated is the average over rounds, which is what a release holds; without one it is the adapter.

        Args:
            start: its plan is checked already.
            vector: the whole state uint8[20 D] for a site that does not hold it; None otherwise.

        Raises:
            FaultyCoordinatorError: see `privacy.results.check_round_start`; E_PARAMS for another shape; E_MODEL_HASH
                or E_RESULT_MISMATCH for a state that is not the attested one.
            PolicyRefusalError: P_STATE, this site needs the whole state.
        """
        plan = start.plan.plan
        record = None if start.result is None else self._store.find(plan.run_id, start.result.result.round)
        check_round_start(start, self._roster, self._store.newest(plan.run_id), None if record is None else record.view)
        if start.result is None:
            _refuse(vector is not None, "E_PARAMS")
            state = ServerState.initial(adapted.initial)
            _refuse(state.model_hash != plan.model_hash, "E_MODEL_HASH")
            return _used(state, plan)
        if vector is None:
            return _used(self._held(start.result.result, adapted), plan)
        state = _received(start.result.result, adapted, vector)
        self._store.keep(start.result, b"", state.packed())
        return _used(state, plan)

    def attest(
        self, signed: SignedResult, manifest: RunManifest, adapted: AdaptedModel,
        vector: npt.NDArray[np.generic] | None, verify_sum: Callable[[npt.NDArray[np.uint32]], None],
    ) -> bytes:
        """This site's signature under a result, after it computed the same; the state it leads to is on the disk.

        Args:
            signed: carries the coordinator's signature, checked already.
            vector: the packed ring sum, uint8[d * bits / 8].
            verify_sum: holds the ring sum uint32[d] against the result's integrity tags, or raises.

        Raises:
            FaultyCoordinatorError: E_STAGE when this site confirmed no survivor list of that round, E_PARAMS,
                E_RESULT_MISMATCH.
            PolicyRefusalError: P_STATE, this site does not hold the state before.
        """
        given = self._store.attested(signed)
        if given is not None:
            return given
        result = signed.result
        record = self._store.find(result.run_id, result.round)
        if record is None:
            raise FaultyCoordinatorError("E_STAGE")
        check_result(result, record.view, record.plan.factor)
        total = unpack(_received_sum(result, record.plan, vector), manifest.bits)
        verify_sum(total)
        before, gates = self._before(record.plan, adapted)
        plan = record.plan
        real = dequantize_sum(total, ring_of(manifest, plan.stage, plan.dimension, len(self._roster.sites)))
        after = self._after(before, result, manifest, plan, adapted, real)
        gates = gates_after(gates, manifest, record.plan, real, len(result.survivors))
        computed = (after.model_hash, after.state_hash, after.finished, gates)
        shown = (result.model_hash, result.state_hash, result.finished, result.gates)
        _refuse(computed != shown, "E_RESULT_MISMATCH")
        attest = Attest.make(self._id, result, self._key)
        return self._store.keep(signed, attest.to_bytes(), after.packed())

    def _before(self, plan: Plan, adapted: AdaptedModel) -> tuple[ServerState, tuple[GateOutcome, ...]]:
        """The state that `plan`'s round began from, and the outcomes of the gates before it."""
        newest = self._store.newest(plan.run_id)
        if newest is not None and newest.round >= plan.round:
            raise PolicyRefusalError("P_STATE")
        state = ServerState.initial(adapted.initial) if newest is None else self._held(newest, adapted)
        if state.model_hash != plan.model_hash:
            raise PolicyRefusalError("P_STATE")
        return state, () if newest is None else newest.gates

    def _held(self, result: Result, adapted: AdaptedModel) -> ServerState:
        """This site's own state after `result`."""
        held = self._store.state(result.run_id)
        if held is None or held.round != result.round:
            raise PolicyRefusalError("P_STATE")
        try:
            state = ServerState.unpacked(held.packed, adapted.layout.size, result.finished)
        except ValueError:
            raise PolicyRefusalError("P_STATE") from None
        if (state.model_hash, state.state_hash) != (result.model_hash, result.state_hash):
            raise PolicyRefusalError("P_STATE")
        return state

    def _after(
        self, before: ServerState, result: Result, manifest: RunManifest, plan: Plan, adapted: AdaptedModel,
        real: npt.NDArray[np.float64],
    ) -> ServerState:
        if plan.purpose == "evaluate":
            return before
        indices = adapted.layout.select(manifest.stages[plan.stage].groups, plan.factor).indices
        server, terms = manifest.server, sum_terms(manifest, plan.stage, plan.dimension, result.survivors)
        optimizer = ServerOptimizer(
            terms.learning_rate, server.momentum, server.optimizer, server.second_decay, terms.noise_variance)
        try:
            return before.after(indices, real[: indices.size], terms.divisor, optimizer=optimizer,
                                average_decay=server.average_decay)
        except NonFiniteUpdateError:  # an honest coordinator stops there and shows no result
            raise FaultyCoordinatorError("E_RESULT_MISMATCH") from None


def _refuse(condition: bool, code: str) -> None:
    if condition:
        raise FaultyCoordinatorError(code)


def _used(state: ServerState, plan: Plan) -> npt.NDArray[np.float32]:
    return state.average.astype(np.float32) if plan.purpose == "evaluate" else state.adapter


def _received_sum(result: Result, plan: Plan, vector: npt.NDArray[np.generic] | None) -> npt.NDArray[np.uint8]:
    shape = (packed_size(plan.dimension, plan.bits),)
    if vector is None or vector.dtype != np.uint8 or vector.shape != shape:
        raise FaultyCoordinatorError("E_PARAMS")
    packed = np.ascontiguousarray(vector, dtype=np.uint8)
    _refuse(hashlib.sha256(packed.data).digest() != result.sum_hash, "E_RESULT_MISMATCH")
    return packed


def _received(result: Result, adapted: AdaptedModel, vector: npt.NDArray[np.generic]) -> ServerState:
    """The whole state as the coordinator sent it, if it is the one that `result` names."""
    if vector.dtype != np.uint8 or vector.ndim != 1:
        raise FaultyCoordinatorError("E_PARAMS")
    try:
        state = ServerState.unpacked(np.asarray(vector, dtype=np.uint8), adapted.layout.size, result.finished)
    except ValueError:
        raise FaultyCoordinatorError("E_PARAMS") from None
    _refuse(state.model_hash != result.model_hash, "E_MODEL_HASH")
    _refuse(state.state_hash != result.state_hash, "E_RESULT_MISMATCH")
    return state
