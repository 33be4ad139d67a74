"""Who takes part in a step: Poisson over patients, and a few samples of each.

*Guarantees.*
    * Each patient is in the draw independently with probability floor(q 2**64) / 2**64, never above q: the
      mechanism that the accountant books (Poisson subsampling; Mironov et al., arXiv 1908.10530, section 3).
    * A truncated draw is such a draw, cut to a uniform subset of `batch_size` where it is larger: the
      mechanism of arXiv 2508.15089 that the accountant books for at most `most_patients`.
    * Which of a patient's samples are used depends on that patient and on fresh random bits only.

*Assumes.*
    * `num_patients` and its order do not depend on earlier draws; the caller reveals neither draw nor size.
    * For truncated draws, `num_patients` is at most the public bound that the accountant was given. The site
      enforces it when it starts, before it answers anything: a refusal in the middle of a run would tell that
      the count had passed the bound.

*Does not cover.*
    * Hiding the draw's size from whoever can time the computation.
    * A need for truncation: without a fixed batch shape, a long plain draw is processed in micro-batches with
      a carry, and that costs no epsilon. Truncation is for accelerators that want one shape.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from privacy.entropy import Entropy

__all__ = ["choose_samples", "poisson_draw", "truncated_poisson_draw"]

_RANGE = 1 << 64


def poisson_draw(entropy: Entropy, num_patients: int, sampling_rate: float) -> npt.NDArray[np.int64]:
    """Sorted indices int64[k] of the drawn patients; k may be 0, and then the step releases noise alone.

    Raises ValueError for a negative number of patients or a rate outside [0, 1].
    """
    if num_patients < 0:
        raise ValueError(f"num_patients cannot be negative, it is {num_patients}")
    if not 0 <= sampling_rate <= 1:
        raise ValueError(f"sampling_rate must lie in [0, 1], not {sampling_rate}")
    ticket = entropy.uniform64(num_patients)
    # Exact: a float64 is a fraction, and rounding down cannot raise the inclusion probability above q.
    threshold = int(Fraction(sampling_rate) * _RANGE)
    drawn = np.ones(num_patients, bool) if threshold == _RANGE else ticket < np.uint64(threshold)
    return np.flatnonzero(drawn).astype(np.int64, copy=False)


def truncated_poisson_draw(
    entropy: Entropy, num_patients: int, sampling_rate: float, batch_size: int
) -> npt.NDArray[np.int64]:
    """Sorted indices int64[k], k <= `batch_size`: a Poisson draw, and of a larger one a uniform subset.

    Whether one patient's membership changes another's place depends on how many patients there are, so epsilon
    grows with their number: it is charged for a public upper bound. Source: arXiv 2508.15089 (VaultGemma's
    batches). The subset is uniform up to ties of fresh 64-bit keys. ValueError as `poisson_draw`, and for a
    batch size below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    drawn = poisson_draw(entropy, num_patients, sampling_rate)
    if len(drawn) <= batch_size:
        return drawn
    kept = np.argsort(entropy.uniform64(len(drawn)), kind="stable")[:batch_size]
    return drawn[np.sort(kept)]


def choose_samples(entropy: Entropy, num_available: int, limit: int) -> npt.NDArray[np.int64]:
    """Sorted indices int64[min(num_available, limit)] of one patient's samples, without replacement.

    Uniform over subsets up to ties of 64-bit keys. Any rule would do for privacy, since the patient's whole
    contribution is clipped once; a uniform one keeps the gradient unbiased over the patient's samples.
    """
    if num_available < 0 or limit < 1:
        raise ValueError(f"num_available must be >= 0 and limit >= 1, not {num_available} and {limit}")
    if num_available <= limit:
        return np.arange(num_available, dtype=np.int64)
    order = np.argsort(entropy.uniform64(num_available), kind="stable")
    return np.sort(order[:limit]).astype(np.int64, copy=False)
