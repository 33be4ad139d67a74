"""The sites' mechanism with several patients in one forward and backward: for studies, where rounding is nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from model.inputs import Encoded
from privacy.dp.clipping import ClippedSum
from site_client.mechanism import PatientMechanism

__all__ = ["BatchedMechanism"]


class BatchedMechanism(PatientMechanism):
    """The site's mechanism with several patients in one forward and backward."""

    def clipped_sum(self, chosen: Sequence[list[Encoded]]) -> ClippedSum:
        """The same sum but for rounding."""
        alone, self._task = self._task, replace(self._task, private=False)
        try:
            return super().clipped_sum(chosen)
        finally:
            self._task = alone
