"""The site's cache of frozen layers' outputs (`activations` in the site file), filled before the first step.

Filled at once and for everybody, so that no step's time tells who was drawn for the first time. Entries are made from
patients' texts: they stay in memory or on the protected volume, and those of patients who take no part any more go.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from configs.schema import SiteConfig
from model.adapted import AdaptedModel
from model.frozen_prefix import CachedStates, FrozenPrefix
from site_client.mechanism import EncodedPatient

__all__ = ["Activations"]

_log = logging.getLogger(__name__)


class Activations:
    """The cache of one installation on one base model."""

    def __init__(self, prefix: FrozenPrefix) -> None:
        self._prefix = prefix
        self._settled: frozenset[str] | None = None

    @staticmethod
    def of(config: SiteConfig, adapted: AdaptedModel) -> Activations | None:
        """The cache that the site file asks for, None for none. Raises ValueError when the base freezes no layer."""
        if not config.activations:
            return None
        folder = None if config.activations == "memory" else Path(config.activations)
        return Activations(FrozenPrefix(adapted.model, adapted.base.content_hash, folder))

    def attach(self, patients: Sequence[tuple[str, EncodedPatient]]) -> list[tuple[str, EncodedPatient]]:
        """The same patients, their samples with entries in the cache."""
        return [(name, {source: self._prefix.attach(samples) for source, samples in patient.items()})
                for name, patient in patients]

    def settle(self, patients: Sequence[EncodedPatient]) -> None:
        """Make the entries of these patients that are missing, and forget all others."""
        entries = {entry.name: entry for entry in _entries(patients)}
        names = frozenset(entries)
        if names == self._settled:
            return
        gone = self._prefix.keep_only(names)
        made = sum(self._prefix.make(entry.input_ids) for entry in entries.values())
        _log.info("activations kept=%d made=%d removed=%d", len(names) - made, made, gone)
        self._settled = names


def _entries(patients: Sequence[EncodedPatient]) -> Iterator[CachedStates]:
    for patient in patients:
        for samples in patient.values():
            for sample in samples:
                if isinstance(sample.frozen, CachedStates):
                    yield sample.frozen
