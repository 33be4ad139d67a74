"""What one hospital has on disk: configuration, keys, pinned roster, ledger, base model, indexed patients.

Everything that costs seconds (model, index) is loaded on first use and kept for the life of the process.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from configs.load import load_config
from configs.schema import ConfigError, SiteConfig
from model.adapted import AdaptedModel
from model.inputs import Encoded, Example
from model.spec import LoraSpec
from privacy.identity import SigningKey
from privacy.ledger import Ledger
from site_client.evidence_store import EvidenceStore
from site_client.keystore import has_ledger, note_ledger, signing_key
from site_client.ledger_approval import LedgerApproval
from site_client.opt_out import opted_out
from site_client.peers import PeerMarks
from site_client.placement import microbatch_tokens, open_model
from site_client.policy import delta_cap
from site_client.records import SiteIndex
from site_client.roster_pin import RosterPin
from site_client.round_store import RoundStore
from site_client.run_approval import RunApprovals
from site_client.site_index import read_site
from site_client.spool import Spool
from site_client.training import EncodedPatient
from site_client.trust import shared_caps

__all__ = ["Installation", "require_bounded"]

_log = logging.getLogger(__name__)


class Installation:
    """Opens the files that a :class:`configs.schema.SiteConfig` names; secrets are made on first use (0600)."""

    def __init__(self, config: SiteConfig) -> None:
        self.config = config
        self.state = Path(config.state)
        self._encoded: dict[tuple[bytes, int], list[tuple[str, EncodedPatient]]] = {}
        self._opted_out: frozenset[str] = frozenset()
        self._checked: SiteIndex | None = None
        pin = RosterPin(config)
        self.roster = pin.roster()
        self.key: SigningKey = signing_key(self.state)
        if config.site_id not in self.roster.site_ids:
            raise ConfigError(f"site_id={config.site_id!r} is not on the roster {config.roster}; "
                              "correct site_id, or ask the consortium to enrol this site")
        if self.roster.site(config.site_id).public_key != self.key.public_bytes():
            raise ConfigError(f"the roster's key of {config.site_id} is not this installation's identity key; "
                              "ask the consortium for a roster with your current key")
        if config.site_id not in self.roster.active_ids:
            raise ConfigError(f"{config.site_id} is suspended on the roster's version {self.roster.version} and takes "
                              "part in no run; ask the consortium")
        pin.keep()
        self.spool = Spool(self.state)
        self.peers = PeerMarks(self.state / "peers.sqlite", self.roster.federation_id)
        self.evidence = EvidenceStore(self.state / "evidence.sqlite", self.roster)
        self.approval = LedgerApproval(self.state)
        self.run_approvals = RunApprovals(self.state)
        self.rounds = RoundStore(self.state)
        self.ledger = self._open_ledger()

    @staticmethod
    def open(path: str | Path) -> Installation:
        """The installation that the site file `path` describes."""
        return Installation(load_config(SiteConfig, path))

    def _open_ledger(self) -> Ledger:
        """With the caps of the site's policy alone. A new one is made only in a state folder that never had one."""
        policy = self.config.policy
        try:
            ledger = Ledger.open(
                self.state / "ledger.sqlite", signing_key=self.key, must_exist=has_ledger(self.state),
                epsilon_cap=policy.max_epsilon, allow_unnoised=policy.allow_without_privacy,
                delta_cap=delta_cap(policy, self.roster.site(self.config.site_id).declared_patients),
                composition="rdp" if policy.composition == "rdp" else "sum", renyi_order=policy.renyi_order,
                shared=shared_caps(policy))
        except FileNotFoundError:
            raise ConfigError(
                f"this site has kept a ledger in {self.state} before and it is gone; restore the whole state folder "
                "from its newest backup, since a new ledger forgets what was spent") from None
        note_ledger(self.state)
        return ledger

    @property
    def site_id(self) -> str:
        return self.config.site_id

    @property
    def engine(self) -> Literal["own", "opacus"]:
        """Which code computes this site's per-patient gradients."""
        return "opacus" if self.config.engine == "opacus" else "own"

    def model(self, lora: LoraSpec) -> AdaptedModel:
        """The base model with adapters (shared by the sites of one simulating process)."""
        return open_model(self.config, lora)

    def microbatch_tokens(self, adapted: AdaptedModel) -> int:
        """Most tokens that this site computes at once."""
        return microbatch_tokens(self.config, adapted)

    def index(self, progress: Callable[[str, int, int], None] | None = None) -> SiteIndex:
        """Bring the index of this hospital's data up to date; refused items are logged as counts only."""
        index = read_site(self.config, progress=progress)
        _log.info("indexed patients=%d refused=%d", len(index.patients), len(index.refused))
        return index

    def check_max_patients(self) -> None:
        """Index the folder where the policy sets `max_patients`; ConfigError when there are more patients.

        Truncated draws are charged for that many patients, so more would cost more epsilon than is booked. A session
        asks when it opens, before it answers a message: a refusal in the middle of a run would tell that the count
        had passed the bound. If the folder grows past it afterwards, training fails closed.
        """
        if self.config.policy.max_patients is not None and not self._encoded and self._checked is None:
            self._checked = self._bounded_index()

    def _bounded_index(self) -> SiteIndex:
        index = self.index()
        require_bounded(index, self.config.policy.max_patients)
        return index

    def patients(self, adapted: AdaptedModel) -> Sequence[EncodedPatient]:
        """Every patient's encoded samples, by source; the order is that of the pseudonyms. Kept until another model, or
        another length of samples, is asked for; who opts out meanwhile is left out at once.

        A sample that the model's format cannot hold is left out and counted in this site's log: an error would
        leave the site as a refusal that depends on one patient's data.
        """
        key = (adapted.base.content_hash, adapted.base.spec.max_tokens)
        if key not in self._encoded:
            index, self._checked = self._checked or self._bounded_index(), None
            ordered = sorted(index.patients, key=lambda patient: patient.pseudonym)
            self._encoded.clear()
            self._encoded[key] = [
                (patient.pseudonym,
                 {source: _encodable(adapted, examples) for source, examples in patient.examples.items()})
                for patient in ordered
            ]
            found = sum(len(examples) for patient in ordered for examples in patient.examples.values())
            kept = sum(len(samples) for _, patient in self._encoded[key] for samples in patient.values())
            _log.info("encoded samples=%d refused=%d", kept, found - kept)
        self._opted_out |= opted_out(self.state, self.config.issuer) or frozenset()
        return [patient for name, patient in self._encoded[key] if name not in self._opted_out]


def require_bounded(index: SiteIndex, most: int | None) -> None:
    """ConfigError when the index holds more than `most` patients (None: any number); it does not say how many."""
    if most is not None and len(index.patients) > most:
        raise ConfigError(f"the data folder holds more patients than policy.max_patients={most}; raise it, and "
                          "take part only in runs whose truncation.most_patients is at least as large")


def _encodable(adapted: AdaptedModel, examples: Sequence[Example]) -> list[Encoded]:
    encoded: list[Encoded] = []
    for example in examples:
        with contextlib.suppress(Exception):  # whatever it is, it was caused by this sample
            encoded += adapted.encode([example])
    return encoded

