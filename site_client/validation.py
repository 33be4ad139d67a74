"""Which patients are evaluated on and never trained on: a keyed hash of each patient's pseudonym decides.

A patient's side depends on that patient, the site's key and the manifest's share only: no other record, day or run
moves it, so adding or removing a patient moves no other. The same key gives nested sets: whoever is held out at a share
of 0.1 is held out at 0.2. Nobody without the key can tell on which side a patient is.

The split makes the metric honest. It buys no budget: the ledger charges every patient for training and for evaluations.
"""

from __future__ import annotations

from privacy.wire import check_range
from site_client.records import keyed_digest

__all__ = ["is_held_out"]

_LABEL = "validation-split"


def is_held_out(key: bytes, pseudonym: str, share: float) -> bool:
    """Whether the patient is one of the expected `share` (0 to 0.5) of patients for validation.

    Args:
        key: the site's pseudonym key; pseudonym: `site_client.records.pseudonym`.
    """
    check_range("validation_share", share, 0.0, 0.5)
    return int(keyed_digest(key, _LABEL, pseudonym)[:16], 16) < int(share * 2.0**64)
