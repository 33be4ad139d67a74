"""Adam at the server, against the algorithm as printed, and its memory in the attested state."""

from __future__ import annotations

import numpy as np
import pytest

from model.server_optimizer import ServerOptimizer, ServerState, initial_velocity

SIZE = 7
ADAPTER = np.linspace(-1, 1, SIZE).astype(np.float32)
A, B = np.array([0, 1, 2], dtype=np.int64), np.array([3, 4, 5, 6], dtype=np.int64)


def reference(
    gradients: list[np.ndarray], rate: float, one: float, two: float, variance: float | None = None
) -> np.ndarray:
    """Kingma and Ba, algorithm 1, on one factor; with `variance` DP-AdamBC's correction of the second moment."""
    position, first, second = np.zeros(gradients[0].size), 0.0, 0.0
    for t, g in enumerate(gradients, 1):
        first, second = one * first + (1 - one) * g, two * second + (1 - two) * g * g
        mean, square = first / (1 - one**t), second / (1 - two**t)
        spread = np.sqrt(square) + 1e-8 if variance is None else np.sqrt(np.maximum(square - variance, 0.01 * variance))
        position = position + rate * mean / spread
    return position


@pytest.mark.parametrize(("rule", "variance"), [("adam", None), ("adam-bc", 0.3)])
def test_alternating_factors_are_each_corrected_for_their_own_number_of_steps(
    rule: str, variance: float | None
) -> None:
    generator = np.random.default_rng(0)
    optimizer = ServerOptimizer(
        0.1, 0.9, rule, 0.99, 0.0 if variance is None else variance)  # type: ignore[arg-type]
    adapter, memory = np.zeros(SIZE, dtype=np.float32), initial_velocity(SIZE)
    sums: dict[int, list[np.ndarray]] = {0: [], 1: []}
    for step in range(9):
        indices = (B, A)[step % 2]
        total = generator.normal(size=indices.size)
        sums[step % 2].append(total / 4.0)
        adapter, memory = optimizer.step(adapter, memory, indices, total, 4.0)
    np.testing.assert_allclose(adapter[B], reference(sums[0], 0.1, 0.9, 0.99, variance), rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(adapter[A], reference(sums[1], 0.1, 0.9, 0.99, variance), rtol=2e-5, atol=1e-6)
    assert memory.shape == (3 * SIZE,) and memory[2 * SIZE:].tolist() == [4] * 3 + [5] * 4


def test_the_correction_takes_out_the_noise_that_is_known() -> None:
    generator = np.random.default_rng(1)
    plain, corrected = np.zeros(SIZE, dtype=np.float32), np.zeros(SIZE, dtype=np.float32)
    one, two = initial_velocity(SIZE), initial_velocity(SIZE)
    every = np.arange(SIZE)
    for _ in range(300):
        mean = 0.05 + generator.normal(size=SIZE)  # a small gradient under noise of variance one
        plain, one = ServerOptimizer(0.01, 0.9, "adam", 0.99).step(plain, one, every, mean, 1.0)
        corrected, two = ServerOptimizer(0.01, 0.9, "adam-bc", 0.99, 1.0).step(corrected, two, every, mean, 1.0)
    assert np.abs(corrected).mean() > 1.5 * np.abs(plain).mean()


def test_the_whole_memory_is_in_the_hash_and_in_the_packed_state() -> None:
    state = ServerState.initial(ADAPTER.astype(np.float64))
    optimizer = ServerOptimizer(0.1, 0.9, "adam", 0.99)
    after = state.after(B, np.ones(4), 2.0, optimizer=optimizer, average_decay=0.5)
    packed = after.packed()
    assert packed.shape == (36 * SIZE,)
    back = ServerState.unpacked(packed, SIZE, 1)
    assert (back.model_hash, back.state_hash) == (after.model_hash, after.state_hash)
    assert back.velocity.tolist() == after.velocity.tolist() and back.average.tolist() == after.average.tolist()
    for place in (0, SIZE + 3, 2 * SIZE + 3):
        changed = after.velocity.copy()
        changed[place] += 1
        assert ServerState(after.adapter, changed, after.average, 1).state_hash != after.state_hash
    following = back.after(B, np.ones(4), 2.0, optimizer=optimizer, average_decay=0.5)
    assert following.state_hash == after.after(B, np.ones(4), 2.0, optimizer=optimizer, average_decay=0.5).state_hash


def test_another_memory_is_refused() -> None:
    optimizer = ServerOptimizer(0.1, 0.9, "adam", 0.99)
    with pytest.raises(ValueError, match="has 21 numbers"):
        optimizer.step(ADAPTER, np.ones(SIZE), B, np.ones(4), 1.0)
    endless = np.zeros(3 * SIZE)
    endless[2 * SIZE:] = 1e15
    with pytest.raises(ValueError, match="no run can have"):
        optimizer.step(ADAPTER, endless, B, np.ones(4), 1.0)
    with pytest.raises(ValueError, match="must be uint8"):
        ServerState.unpacked(np.zeros(28 * SIZE, dtype=np.uint8), SIZE, 1)
