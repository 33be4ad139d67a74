"""What every received adapter is asked before a private file is opened: drawn and written by us, no patient's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model.inputs import Example

__all__ = ["PUBLIC_PROBE"]


def _ramp(shift: int) -> npt.NDArray[np.uint8]:
    line = (np.arange(32, dtype=np.int64) * 8 + shift) % 256
    return np.broadcast_to(line[:, None, None], (32, 32, 3)).astype(np.uint8)


PUBLIC_PROBE = (
    Example(question="Findings: The heart and lungs are normal. Is this study normal?", answer="normal",
            choices=("normal", "abnormal")),
    Example(question="Are the two patches alike?", answer="yes", choices=("yes", "no"), images=(_ramp(0), _ramp(64))),
)
