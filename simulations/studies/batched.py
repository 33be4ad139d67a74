"""The sites' mechanism for studies: several patients in one forward and backward, and draws that arms have in common.

Rounding is nothing for utility, and randomness is seeded: nothing here is private.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from model.adapted import AdaptedModel
from model.adapter import Selection
from model.inputs import Encoded
from privacy.dp.clipping import ClippedSum
from privacy.entropy import Entropy
from site_client.mechanism import EncodedPatient, LocalTask, PatientMechanism

__all__ = ["BatchedMechanism", "CommonDraws"]


class BatchedMechanism(PatientMechanism):
    """The site's mechanism with several patients in one forward and backward."""

    def clipped_sum(self, chosen: Sequence[list[Encoded]]) -> ClippedSum:
        """The same sum but for rounding."""
        alone, self._task = self._task, replace(self._task, private=False)
        try:
            return super().clipped_sum(chosen)
        finally:
            self._task = alone


class CommonDraws:
    """Makes the mechanisms of one training, one a step; the n-th draws from `stream(n)`, whatever the arm.

    Arms that are given the same streams and the same patients in the same order draw the same patients and samples in
    every step. Each arm's draws are distributed as its own would be, and independent of its noise.

    Args:
        stream: the source of the n-th step's draw and samples, n from 1.
    """

    def __init__(self, stream: Callable[[int], Entropy]) -> None:
        self._stream, self._steps = stream, 0

    def __call__(
        self, adapted: AdaptedModel, selection: Selection, task: LocalTask, entropy: Entropy
    ) -> PatientMechanism:
        """The next step's mechanism; `entropy` is the source of its noise."""
        self._steps += 1
        return _WithDraws(adapted, selection, task, entropy, self._stream(self._steps))


class _WithDraws(BatchedMechanism):
    def __init__(self, adapted: AdaptedModel, selection: Selection, task: LocalTask, entropy: Entropy,
                 draws: Entropy) -> None:
        super().__init__(adapted, selection, task, draws)
        self._draws, self._noise = draws, entropy

    def draw(self, num_patients: int) -> npt.NDArray[np.int64]:
        self._entropy = self._draws
        return super().draw(num_patients)

    def samples_of(self, patient: EncodedPatient) -> list[Encoded]:
        self._entropy = self._draws
        return super().samples_of(patient)

    def clipped_sum(self, chosen: Sequence[list[Encoded]]) -> ClippedSum:
        self._entropy = self._noise
        return super().clipped_sum(chosen)
