"""The mechanism with a planted fault: each class lies in one method, everything else is the site's own code.

An audit that cannot tell these from the real one has no power. They exist in simulations only.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from model.inputs import Encoded
from privacy.dp.clipping import ClippedSum
from privacy.dp.noise import noisy_sum
from simulations.seeded import SeededEntropy
from site_client.mechanism import PatientMechanism, Vector

__all__ = ["FAULTS", "fault_named"]

_LOOSE = 1e4  # clip norms; above any gradient of the tiny model


class _NoClipping(PatientMechanism):
    """Sums gradients as they are, and calls the sum clipped."""

    def clipped_sum(self, chosen: Sequence[list[Encoded]]) -> ClippedSum:
        rows = self._engine._sum
        rows._bounds = replace(
            rows._bounds, clip_norm=_LOOSE * self._task.clip_norm, lane_bound=_LOOSE * self._task.lane_bound)
        return replace(super().clipped_sum(chosen), l2_bound=self._task.clip_norm)


class _PerSampleClipping(PatientMechanism):
    """Clips each sample instead of each patient: somebody with k samples adds up to k times C."""

    def accumulate(self, batch: Sequence[list[Encoded]]) -> None:
        super().accumulate([[sample] for samples in batch for sample in samples])


class _LessNoise(PatientMechanism):
    """Adds `share` of the noise that is booked."""

    share = 1.0

    def release(self, clipped: ClippedSum) -> Vector:
        return noisy_sum(clipped, self.share * self._task.stage.noise_multiplier, self._entropy)


class _HalfNoise(_LessNoise):
    share = 0.5


class _NinetyNoise(_LessNoise):
    share = 0.9


class _ReusedNoise(PatientMechanism):
    """Draws the noise once a round and adds it to every step."""

    def release(self, clipped: ClippedSum) -> Vector:
        if not hasattr(self, "_kept"):
            self._kept = super().release(clipped) - clipped.vector
        return clipped.vector + self._kept


class _ReseededGenerator(PatientMechanism):
    """Starts the same generator again at every step, as code does that seeds in a loop."""

    def draw(self, num_patients: int) -> npt.NDArray[np.int64]:
        self._entropy = SeededEntropy(0, "reseeded")
        return super().draw(num_patients)


class _ShuffledBatches(PatientMechanism):
    """Walks through a shuffled list in batches of fixed size, as a data loader does, and books Poisson."""

    def draw(self, num_patients: int) -> npt.NDArray[np.int64]:
        size = max(1, round(self._task.stage.sampling_rate * num_patients))
        left: npt.NDArray[np.int64] = getattr(self, "_left", np.zeros(0, dtype=np.int64))
        if left.size < size:
            left = np.argsort(self._entropy.uniform64(num_patients)).astype(np.int64)
        self._left = left[size:]
        return np.sort(left[:size])


#: Name of the fault -> the mechanism that has it.
FAULTS: dict[str, type[PatientMechanism]] = {
    "no-clipping": _NoClipping,
    "per-sample-clipping": _PerSampleClipping,
    "half-noise": _HalfNoise,
    "ninety-noise": _NinetyNoise,
    "reused-noise": _ReusedNoise,
    "reseeded-generator": _ReseededGenerator,
    "shuffled-batches": _ShuffledBatches,
}


def fault_named(name: str, faults: Mapping[str, type[PatientMechanism]] = FAULTS) -> type[PatientMechanism]:
    """The mechanism with that fault of `faults`; ValueError, naming the nearest, for an unknown one."""
    if name not in faults:
        near = difflib.get_close_matches(name, [*faults, "all"], n=1, cutoff=0.0)
        raise ValueError(f"there is no fault {name!r}; did you mean {near[0]}? Known: {', '.join(faults)}, all")
    return faults[name]
