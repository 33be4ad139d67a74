"""A smallest sum with distributed noise, as its colluding sites see it: what `simulate audit` looks at.

The audited site is one of the h honest ones that the run counts on. The others' patients are known to the adversary and
taken off, so what is left of their uploads is their share of the noise, drawn by the site's own code; the colluding
sites' uploads are taken off whole. All of it is added in the ring, modulo 2**32, and lifted as the coordinator does.
In production a site that adds no noise is not found out: here it is, since nothing else is in the sum.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from privacy.dp.clipping import ClippedSum
from privacy.dp.noise_share import IntegerSum, add_share, ring_elements
from privacy.secagg.quantize import dequantize_sum
from privacy.secagg.rings import NoisyRing
from simulations.faulty_mechanisms import FAULTS as LOCAL_FAULTS
from site_client.mechanism import PatientMechanism, Vector

__all__ = ["SHARED_FAULTS", "SmallestSum"]

_BITS = 32


class SmallestSum(PatientMechanism):
    """The site's mechanism, and the shares of h - 1 other honest sites; `release` gives what the sum then says."""

    silent = 0  # of the other sites, how many add no noise

    def release(self, clipped: ClippedSum) -> Vector:
        share = self._task.share
        if share is None:
            raise ValueError("this audit is of distributed noise; the task has no share of it")
        if share.honest <= self.silent:
            raise ValueError("one honest site is all that this run counts on: nobody else is there to be silent")
        uploads = [self._own(clipped)]
        nothing = IntegerSum(np.zeros(share.dimension), float(share.levels), 0, 0)
        for _ in range(share.honest - 1 - self.silent):
            uploads.append(add_share(nothing, share, self._entropy))
        total = np.zeros(share.dimension, dtype=np.uint32)
        for upload in uploads:
            total += ring_elements(upload)
        return dequantize_sum(total, NoisyRing(_BITS, share.scale, 1.0, share.honest, reach=0.0))

    def _own(self, clipped: ClippedSum) -> npt.NDArray[np.int64]:
        return self.noised_levels(clipped)


class _SilentSite(SmallestSum):
    """One of the other honest sites adds no noise."""

    silent = 1


class _Saturated(SmallestSum):
    """The site clips its noised sum again, as the local mode's ring would, at the spread of its own share."""

    def _own(self, clipped: ClippedSum) -> npt.NDArray[np.int64]:
        reach = round(math.sqrt(self._task.share.variance)) if self._task.share is not None else 0
        return np.clip(super()._own(clipped), -reach, reach)


class _HalfShare(SmallestSum):
    """The site adds half of its share."""

    def _own(self, clipped: ClippedSum) -> npt.NDArray[np.int64]:
        rounded = clipped.vector.astype(np.int64)
        return rounded + (super()._own(clipped) - rounded) // 2


def _shared(name: str) -> type[SmallestSum]:
    """A fault of the local mechanism that lies in clipping or sampling, in a smallest sum."""
    return type(f"Shared{LOCAL_FAULTS[name].__name__}", (LOCAL_FAULTS[name], SmallestSum), {})


#: Name of the fault -> the smallest sum that has it.
SHARED_FAULTS: dict[str, type[SmallestSum]] = {
    "silent-site": _SilentSite, "half-share": _HalfShare, "saturated-share": _Saturated,
    **{name: _shared(name) for name in ("per-sample-clipping", "shuffled-batches")},
}
