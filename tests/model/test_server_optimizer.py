"""From the sites' weighted sum to the next adapter, against a straightforward computation."""

from __future__ import annotations

import math
import struct
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.server_optimizer import (
    STATE_BYTES,
    NonFiniteUpdateError,
    ServerOptimizer,
    ServerState,
    initial_velocity,
    model_hash,
    moving_average,
    state_hash,
    total_weight,
)

ADAPTER = np.array([1.0, 2.0, 3.0, 4.0, 5.0], dtype=np.float32)
INDICES = np.array([1, 3], dtype=np.int64)
SUM = np.array([0.5, -1.0])


def test_plain_averaging_adds_the_weighted_mean_to_the_covered_coordinates() -> None:
    adapter, velocity = ServerOptimizer().step(ADAPTER, initial_velocity(5), INDICES, SUM, 0.5)
    assert adapter.dtype == np.float32 and velocity.dtype == np.float64
    assert adapter.tolist() == [1.0, 3.0, 3.0, 2.0, 5.0]
    assert velocity.tolist() == [0.0, 1.0, 0.0, -2.0, 0.0]


def test_the_mean_is_over_the_sites_in_the_sum_not_over_the_roster() -> None:
    updates, weights = np.array([[2.0, 4.0], [4.0, 8.0], [9.0, 9.0]]), np.array([0.2, 0.3, 0.5])
    survivors = (weights[:2, None] * updates[:2]).sum(axis=0)
    adapter, _ = ServerOptimizer().step(ADAPTER, initial_velocity(5), INDICES, survivors, float(weights[:2].sum()))
    expected = ADAPTER[INDICES] + np.average(updates[:2], axis=0, weights=weights[:2])
    np.testing.assert_allclose(adapter[INDICES], expected, rtol=1e-6)


def test_momentum_follows_fedavgm_and_the_other_factors_momentum_waits() -> None:
    optimizer = ServerOptimizer(learning_rate=0.5, momentum=0.9)
    adapter, velocity = optimizer.step(ADAPTER, initial_velocity(5), INDICES, SUM, 1.0)
    other = np.array([0, 2], dtype=np.int64)
    adapter, velocity = optimizer.step(adapter, velocity, other, np.array([1.0, 1.0]), 1.0)
    assert velocity[INDICES].tolist() == SUM.tolist()  # untouched by the round of the other factor
    adapter, velocity = optimizer.step(adapter, velocity, INDICES, SUM, 1.0)
    np.testing.assert_allclose(velocity[INDICES], 1.9 * SUM)
    np.testing.assert_allclose(adapter[INDICES], ADAPTER[INDICES] + 0.5 * (SUM + 1.9 * SUM), rtol=1e-6)


def test_inputs_are_left_alone() -> None:
    adapter, velocity, total = ADAPTER.copy(), np.ones(5), SUM.copy()
    ServerOptimizer(momentum=0.5).step(adapter, velocity, INDICES, total, 2.0)
    assert adapter.tolist() == ADAPTER.tolist() and velocity.tolist() == [1.0] * 5 and total.tolist() == SUM.tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sum_that_is_not_finite_stops_the_run(bad: float) -> None:
    with pytest.raises(NonFiniteUpdateError, match="not finite"):
        ServerOptimizer().step(ADAPTER, initial_velocity(5), INDICES, np.array([bad, 0.0]), 1.0)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_a_sum_of_no_weight_stops_the_run(weight: float) -> None:
    with pytest.raises(NonFiniteUpdateError):
        ServerOptimizer().step(ADAPTER, initial_velocity(5), INDICES, SUM, weight)


def test_an_adapter_that_overflows_float32_stops_the_run() -> None:
    with pytest.raises(NonFiniteUpdateError, match="updated adapter"), np.errstate(over="ignore"):
        ServerOptimizer().step(ADAPTER, initial_velocity(5), INDICES, np.array([1e39, 0.0]), 1.0)


def test_the_average_is_the_plain_mean_at_first_and_forgets_later() -> None:
    average = np.zeros(1)
    for rounds, value in enumerate([2.0, 4.0]):
        average = moving_average(average, np.array([value], np.float32), rounds, 0.7)
    assert average == 3.0
    for rounds in range(2, 40):
        average = moving_average(average, np.array([10.0], np.float32), rounds, 0.7)
    assert abs(average[0] - 10.0) < 1e-4


def test_no_decay_exports_the_last_adapter() -> None:
    assert moving_average(np.array([5.0]), np.array([1.0], np.float32), 9, 0.0) == 1.0


# ------------------------------------------------------------------ the same bits everywhere


def to_float32(value: float) -> float:
    """One rounding to binary32, by the C library of `struct`."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


@given(st.integers(0, 2**32), st.floats(0.001, 4.0), st.floats(0.0, 0.999), st.floats(0.0, 0.999), st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_the_step_gives_the_bits_of_a_loop_over_python_floats(
    seed: int, rate: float, momentum: float, decay: float, finished: int
) -> None:
    random = np.random.default_rng(seed)
    scale = 10.0 ** random.integers(-320, 3, size=9).astype(float)  # subnormal numbers among them
    state = ServerState(
        (random.normal(size=9) * scale).astype(np.float32), random.normal(size=9) * scale,
        random.normal(size=9) * scale, finished)
    indices = np.array([0, 2, 3, 5, 8])
    update = random.normal(size=5) * scale[indices]
    weights = [float(weight) for weight in random.uniform(1e-3, 1.0, size=7)]
    after = state.after(indices, update, total_weight(weights), optimizer=ServerOptimizer(rate, momentum),
                        average_decay=decay)

    total = 0.0
    for weight in weights:
        total = total + weight
    adapter, velocity, average = ([float(v) for v in part] for part in (state.adapter, state.velocity, state.average))
    for place, index in enumerate(indices):
        velocity[index] = momentum * velocity[index] + float(update[place]) / total
        adapter[index] = to_float32(adapter[index] + rate * velocity[index])
    kept = min(decay, finished / (finished + 1))
    average = [kept * old + (1.0 - kept) * new for old, new in zip(average, adapter, strict=True)]
    assert after.adapter.tobytes() == struct.pack("<9f", *adapter)
    assert after.velocity.tobytes() == struct.pack("<9d", *velocity)
    assert after.average.tobytes() == struct.pack("<9d", *average)
    assert after.finished == finished + 1


def test_weights_are_added_one_by_one_without_compensation() -> None:
    weights = [0.1] * 10
    assert total_weight(weights) == 0.9999999999999999 != math.fsum(weights)
    assert total_weight([1e16, 1.0, -1e16]) == 0.0


def test_hashes_are_of_labelled_little_endian_bytes() -> None:
    adapter, velocity, average = np.array([1.5], np.float32), np.array([-0.0]), np.array([2.0])
    size = (1).to_bytes(8, "little")
    assert model_hash(adapter) == sha256(b"fedsecagg/1|model|" + size + struct.pack("<f", 1.5)).digest()
    assert model_hash(adapter.astype(">f4")) == model_hash(adapter)  # type: ignore[arg-type]
    expected = sha256(b"fedsecagg/1|state|" + size + struct.pack("<d", -0.0) + size + struct.pack("<d", 2.0)).digest()
    assert state_hash(velocity, average) == expected
    assert state_hash(-velocity, average) != expected  # the sign of zero is part of the bits


def test_a_state_goes_through_its_bytes_unchanged() -> None:
    state = ServerState(ADAPTER, np.arange(5.0), -np.arange(5.0), 3)
    packed = state.packed()
    again = ServerState.unpacked(packed, 5, 3)
    assert packed.dtype == np.uint8 and packed.size == 5 * STATE_BYTES
    assert (again.model_hash, again.state_hash, again.finished) == (state.model_hash, state.state_hash, 3)
    for wrong in (packed[:-1], packed.astype(np.int8), packed.reshape(5, -1)):
        with pytest.raises(ValueError, match="packed state"):
            ServerState.unpacked(wrong, 5, 3)  # type: ignore[arg-type]
