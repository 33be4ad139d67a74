"""What a site does with each message of the coordinator: check, train, clip, noise, mask, sign, reply.

Every refusal leaves as a code and a blamed party, never as an exception's text, and none depends on a patient: the
message, the manifest, the ledger and public examples decide. The ledger entry of a round is on disk before the
round's training begins, so a crash can over-count and never under-count.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from traceback import extract_tb

import numpy as np
import numpy.typing as npt

from model.adapted import AdaptedModel, limited
from model.adapter import Selection
from model.evaluate import probe_is_finite
from model.spec import LoraSpec
from privacy.entropy import Entropy
from privacy.errors import (
    NOBODY,
    BudgetExceededError,
    FaultyCoordinatorError,
    MessageFormatError,
    PolicyRefusalError,
    ProtocolError,
)
from privacy.gates import EVALUATION_LANES, evaluation_scale
from privacy.ledger import LedgerEntry
from privacy.manifest import FACTORS
from privacy.messages import Attest, ErrorReply, LedgerMark, Plan, RunManifest, SignedManifest, SignedResult
from privacy.results import open_result, open_round_start
from privacy.secagg.client import SiteRound
from privacy.secagg.params import RingParams
from privacy.secagg.quantize import QuantizedVector
from privacy.secagg.rings import ring_of, wire_lanes
from site_client.admission import MOST_RUNS, Admission
from site_client.evaluation import evaluate_patients
from site_client.installation import Installation
from site_client.policy import (
    check_gates,
    check_hours,
    check_manifest,
    check_rounds_left,
    check_schedule,
    check_upload,
    check_wasted,
    check_withheld,
    planned_events,
    terms_of,
)
from site_client.public_probe import PUBLIC_PROBE
from site_client.round_terms import round_entry, round_task
from site_client.schedule import ReplySchedule
from site_client.state_agreement import Attestor
from site_client.training import Mechanism, rehearse, run_local_steps
from site_client.upload import local_vector, noised_share, rounded

__all__ = ["SiteSession"]

_log = logging.getLogger(__name__)
Answer = tuple[bytes, npt.NDArray[np.generic] | None]
EntropySource = Callable[[str], Entropy]  # purpose -> random source; production ignores the purpose


@dataclass(slots=True)
class _OpenRound:
    """Secrets of the one round in progress; kept in memory only."""

    request: bytes
    plan: Plan
    protocol: SiteRound
    advertised: bytes


class SiteSession:
    """One site's side of the federation, for the life of a process.

    Args:
        installation: the hospital's files.
        entropy: returns a random source for a purpose; `privacy.entropy.SystemEntropy` in production.
        clock, sleep: seconds that only ever grow, and a wait in seconds (`site_client.schedule`).
        local_time: the hospital's wall clock, for the policy's working hours.
        mechanism: what runs a round's steps; None = this process alone, else several (`site_client.ranks`).
    """

    def __init__(
        self, installation: Installation, entropy: EntropySource, *, clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep, local_time: Callable[[], datetime] = datetime.now,
        mechanism: Mechanism | None = None,
    ) -> None:
        installation.check_max_patients()  # before anything is answered: later it would tell a count
        self._site = installation
        self._entropy = entropy
        self._schedule = ReplySchedule(clock, sleep)
        self._local_time = local_time
        self._mechanism = () if mechanism is None else (mechanism,)
        self._admission = Admission(installation, entropy)
        self._attestor = Attestor(installation.site_id, installation.key, installation.roster, installation.rounds)
        self._approved: dict[str, RunManifest] = {}
        self._open: _OpenRound | None = None

    def answer(self, step: str, body: bytes, vector: npt.NDArray[np.generic] | None) -> Answer:
        """The reply to one message. Never raises: a refusal is an :class:`ErrorReply` with a fixed code."""
        handlers = {
            "hello": self._hello, "witness": self._witness, "restore": self._restore, "sa_train": self._train,
            "sa_share": self._share, "sa_mask": self._mask, "sa_confirm": self._confirm, "sa_unmask": self._unmask,
            "sa_result": self._result,
        }
        try:
            self._watch(step, body)
            return handlers[step](body, vector)
        except ProtocolError as error:
            return self._refuse(error.code, error.blamed)
        except PolicyRefusalError as error:
            return self._refuse(error.code, NOBODY)
        except BudgetExceededError as error:  # the numbers stay in this site's log
            _log.warning("budget spent=%.6g asked=%.6g left=%.6g", error.spent, error.requested,
                         max(0.0, error.limit - error.spent))
            return self._refuse(error.code, NOBODY)
        except MessageFormatError:
            return self._refuse("E_FORMAT", "coordinator")
        except Exception as error:
            # Never the exception's text: it may quote a path or a value of a patient's file.
            _log.error("step=%s failed kind=%s at=%s", step, type(error).__name__, _place(error))
            return self._refuse("E_SITE", self._site.site_id)

    def _watch(self, step: str, body: bytes) -> None:
        """Keep what others signed, refused or not; what contradicts itself is on disk before anything is answered."""
        if step == "hello":
            self._site.evidence.saw_manifest(body)
        elif step == "sa_train":
            start = open_round_start(body)
            self._site.evidence.saw_plan(start.plan.to_bytes())
            if start.result is not None:
                self._watch_result(start.result, start.attests)
        elif step == "sa_result":
            self._watch_result(open_result(body, self._site.roster), ())
        elif self._open is not None and self._open.protocol.state != "aborted":
            view = self._open.protocol.view
            self._site.evidence.saw_list(step, body, self._open.plan, view.h1, view.h2)

    def _watch_result(self, signed: SignedResult, attests: Iterable[Attest]) -> None:
        record = self._site.rounds.find(signed.result.run_id, signed.result.round)
        self._site.evidence.saw_result(signed, attests, None if record is None else record.plan)

    def _refuse(self, code: str, blamed: str) -> Answer:
        _log.warning("refused code=%s blamed=%s", code, blamed)
        return ErrorReply(code, blamed).to_bytes(), None

    def _hello(self, body: bytes, _: npt.NDArray[np.generic] | None) -> Answer:
        """Check the run against the site's own policy; the run is approved for this process or refused."""
        manifest = SignedManifest.open(body, self._site.roster)
        policy, adapted = self._site.config.policy, self._site.model(_lora(manifest))
        check_manifest(
            manifest, policy=policy, roster=self._site.roster, site_id=self._site.site_id,
            base_model_hash=adapted.base.content_hash, account=self._site.ledger.account())
        check_upload(_largest_upload(manifest, adapted), manifest.bits, policy)
        if (longest := max(stage.max_tokens for stage in manifest.stages)) and longest > adapted.base.spec.context:
            raise FaultyCoordinatorError("E_PARAMS")  # no sample could be encoded, and nobody would be told
        self._admission.require_own_memory()
        if not self._site.ledger.may_bind(manifest.run_id, manifest.hash().hex()):
            raise PolicyRefusalError("P_RUN_ID")
        if policy.approve_runs == "by-hand":
            self._site.run_approvals.require(body, manifest)
        self._approved.pop(manifest.run_id, None)
        self._approved[manifest.run_id] = manifest
        while len(self._approved) > MOST_RUNS:
            del self._approved[next(iter(self._approved))]
        return self._admission.hello(manifest), None

    def _witness(self, body: bytes, _: npt.NDArray[np.generic] | None) -> Answer:
        return self._admission.witness(body), None

    def _restore(self, body: bytes, _: npt.NDArray[np.generic] | None) -> Answer:
        return self._admission.restore(body), None

    def _train(self, body: bytes, vector: npt.NDArray[np.generic] | None) -> Answer:
        arrived, arrived_utc = self._schedule.now(), datetime.now(UTC).isoformat(timespec="seconds")
        start = open_round_start(body)
        manifest = self._approved_manifest(start.plan.plan.run_id)
        if self._open is not None and self._open.request == body:
            return self._open.advertised, None  # at-least-once delivery
        ledger, run_id = self._site.ledger, manifest.run_id
        plan = SiteRound.check_plan(
            start.plan.to_bytes(), roster=self._site.roster, manifest=manifest, last=ledger.last_attempt(run_id))
        if ledger.is_masked(run_id, plan.round) or self._site.rounds.is_masked(run_id, plan.round):
            raise FaultyCoordinatorError("E_SPENT")
        check_schedule(plan, manifest, self._booked(run_id))
        check_upload(plan.dimension, plan.bits, self._site.config.policy)
        adapter = self._attestor.begin(start, self._site.model(_lora(manifest)), vector)
        check_gates(plan, manifest, () if start.result is None else start.result.result.gates)  # attested by a quorum
        check_withheld(self._site.rounds.withheld(run_id), self._site.config.policy)
        if self._open is not None:
            self._open.protocol.abort()
        protocol = SiteRound(
            site_id=self._site.site_id, signing_key=self._site.key, roster=self._site.roster, manifest=manifest,
            entropy=self._entropy(f"{run_id}/{plan.round}/{plan.attempt}/protocol"),
            on_masking=lambda: self._spend(manifest, plan, protocol),
            on_unmasking=lambda: self._finish(plan), on_marks=self._admission.note)
        with self._schedule.release(arrived, manifest.stages[plan.stage].reply_after_s):  # a refusal waits as well
            update = self._update(manifest, plan, adapter, arrived_utc)
            advertised = protocol.advertise(plan, update, self._admission.mark())
            self._site.rounds.advertised(plan)
        self._open = _OpenRound(body, plan, protocol, advertised)
        return advertised, None

    def _booked(self, run_id: str) -> list[LedgerEntry]:
        return [entry for entry in self._site.ledger.entries() if entry.run_id == run_id]

    def _spend(self, manifest: RunManifest, plan: Plan, protocol: SiteRound) -> LedgerMark:
        """On disk before a masked byte exists: the round is spent, and its update is never masked again.

        Peers keep the mark that this returns, and so know a ledger from before the upload when they see one.
        """
        self._admission.require_ready(manifest)  # a peer may have contradicted the ledger since
        self._site.rounds.masked(plan, protocol.view)
        if not self._site.ledger.mark_masked(manifest.run_id, plan.round):  # by another process of this site
            raise FaultyCoordinatorError("E_SPENT")
        self._site.spool.drop()
        return self._admission.mark()

    def _finish(self, plan: Plan) -> None:
        """On disk before a share leaves."""
        self._site.ledger.finish_round(plan.run_id, plan.round)
        self._site.rounds.unmasked(plan)

    def _update(
        self, manifest: RunManifest, plan: Plan, adapter: npt.NDArray[np.float32], arrived_utc: str
    ) -> QuantizedVector:
        """This round's update: the one that waits from an earlier attempt (nothing is spent again), or a new one."""
        adapted = self._site.model(_lora(manifest))
        selection = adapted.layout.select(manifest.stages[plan.stage].groups, plan.factor)
        ring = ring_of(manifest, plan.stage, plan.dimension, len(self._site.roster.sites))
        _check_sizes(plan, selection, ring, manifest)
        waiting = self._site.spool.find(plan)
        if waiting is not None:
            self._site.ledger.record_attempt(manifest.run_id, plan.round, plan.attempt)
            return QuantizedVector(waiting, ring)
        begin = self._schedule.now()
        made = (self._evaluated(manifest, plan, adapter, adapted, ring, arrived_utc) if plan.purpose == "evaluate"
                else self._trained(manifest, plan, adapter, adapted, selection, ring, arrived_utc))
        _log.info("trained seconds=%.3f", self._schedule.now() - begin)  # a site's log stays with the site
        self._site.spool.keep(plan, made.values)
        return made

    def _trained(
        self, manifest: RunManifest, plan: Plan, adapter: npt.NDArray[np.float32], adapted: AdaptedModel,
        selection: Selection, ring: RingParams, arrived_utc: str,
    ) -> QuantizedVector:
        """Reserve the budget and train: the vector to be masked, the update and its statistic lanes."""
        self._require_open(manifest, plan, adapter, adapted)
        terms = terms_of(manifest, self._site.site_id)
        task = round_task(manifest, plan, terms, self._site.engine, self._site.microbatch_tokens(adapted))
        rehearse(adapted, selection, adapted.encode(PUBLIC_PROBE), task, *self._mechanism)
        self._bind(manifest)
        model = limited(adapted, task.stage.max_tokens)
        held_out = manifest.validation_share
        patients = self._site.split_patients(model, held_out)[0] if held_out else self._site.patients(model)
        source = self._booked_source(manifest, plan, "training", arrived_utc)
        if task.share is not None:
            return QuantizedVector(
                noised_share(adapted, selection, patients, task, source, *self._mechanism), ring)
        update = run_local_steps(adapted, selection, patients, task, source, *self._mechanism)
        return local_vector(update, task, manifest, terms.weight, ring, self._rounding(manifest, plan))

    def _evaluated(
        self, manifest: RunManifest, plan: Plan, adapter: npt.NDArray[np.float32], adapted: AdaptedModel,
        ring: RingParams, arrived_utc: str,
    ) -> QuantizedVector:
        """Reserve the budget and evaluate: the three lanes of `privacy.gates`, to be masked."""
        self._require_open(manifest, plan, adapter, adapted)
        self._bind(manifest)
        stage = manifest.stages[plan.stage]
        source = self._booked_source(manifest, plan, "evaluation", arrived_utc)
        patients = self._site.split_patients(limited(adapted, stage.max_tokens), manifest.validation_share)[1]
        lanes = evaluate_patients(
            adapted, patients, stage, evaluation_scale(manifest, plan.stage), source,
            private=manifest.privacy != "none")
        return rounded(lanes, ring, self._rounding(manifest, plan))

    def _rounding(self, manifest: RunManifest, plan: Plan) -> Entropy | None:
        """Of stochastic rounding, where few bits and no noise to hide the rounding would bias it; None = to nearest."""
        coarse = manifest.bits == 16 and manifest.privacy == "none"
        return self._entropy(f"{manifest.run_id}/{plan.round}/rounding") if coarse else None

    def _require_open(
        self, manifest: RunManifest, plan: Plan, adapter: npt.NDArray[np.float32], adapted: AdaptedModel
    ) -> None:
        """What may refuse a round that must be made anew; the model holds the round's adapter afterwards."""
        check_hours(self._local_time(), self._site.config.policy)  # an update that waits needs no training
        check_rounds_left(plan, manifest, self._booked(manifest.run_id))
        check_wasted(self._site.ledger.account(), self._site.config.policy)
        if not _is_finite(adapted, adapter):
            raise PolicyRefusalError("P_NOT_FINITE")

    def _bind(self, manifest: RunManifest) -> None:
        if not self._site.ledger.bind_run(manifest.run_id, manifest.hash().hex()):  # before a patient is read
            raise PolicyRefusalError("P_RUN_ID")

    def _booked_source(self, manifest: RunManifest, plan: Plan, kind: str, arrived_utc: str) -> Entropy:
        """Book the round, then return its random source.

        The ledger's rows get the time at which the plan arrived: their hash leaves in the mark, so a time taken after
        the patients were read would tell how long that took.
        """
        delta = terms_of(manifest, self._site.site_id).delta
        source = self._entropy(f"{manifest.run_id}/{plan.round}/{kind}")
        if manifest.privacy != "none":
            self._site.ledger.reserve_run(
                manifest.run_id, manifest.hash().hex(), planned_events(manifest), delta, arrived_utc)
        self._site.ledger.reserve(round_entry(manifest, plan, delta, source, arrived_utc))
        return source

    def _share(self, body: bytes, _: npt.NDArray[np.generic] | None) -> Answer:
        return self._current().protocol.share(body), None

    def _mask(self, body: bytes, _: npt.NDArray[np.generic] | None) -> Answer:
        return self._current().protocol.mask(body)

    def _confirm(self, body: bytes, _: npt.NDArray[np.generic] | None) -> Answer:
        current = self._current()
        reply = current.protocol.confirm(body)
        self._site.rounds.confirmed(current.plan, current.protocol.view)  # before it leaves
        return reply, None

    def _unmask(self, body: bytes, _: npt.NDArray[np.generic] | None) -> Answer:
        return self._current().protocol.unmask(body), None

    def _result(self, body: bytes, vector: npt.NDArray[np.generic] | None) -> Answer:
        """Also after a restart: what it needs is on the disk, and no secret is. With tags their key is needed too."""
        signed = open_result(body, self._site.roster)
        manifest = self._approved_manifest(signed.result.run_id)

        def verify_sum(total: npt.NDArray[np.uint32]) -> None:
            if not manifest.integrity_tags:
                return
            if self._open is None or self._open.plan.context() != signed.result.ctx:
                raise PolicyRefusalError("P_STATE")  # the tags' key is in memory only: take the quorum's word
            self._open.protocol.verify_sum(total, signed.result.tags)

        return self._attestor.attest(signed, manifest, self._site.model(_lora(manifest)), vector, verify_sum), None

    def _current(self) -> _OpenRound:
        """The newest round; a message of another one fails its signatures there."""
        if self._open is None:
            raise FaultyCoordinatorError("E_STAGE")
        return self._open

    def _approved_manifest(self, run_id: str) -> RunManifest:
        manifest = self._approved.get(run_id)
        if manifest is None:
            raise PolicyRefusalError("P_NOT_APPROVED")
        self._admission.require_ready(manifest)
        return manifest


def _lora(manifest: RunManifest) -> LoraSpec:
    return LoraSpec(rank=manifest.lora_rank, alpha=manifest.lora_alpha, groups=manifest.lora_groups)


def _largest_upload(manifest: RunManifest, adapted: AdaptedModel) -> int:
    """Coordinates of the longest vector that the run can ask for."""
    return wire_lanes(manifest) + max(
        adapted.layout.select(stage.groups, factor).size
        for stage in manifest.stages for factor in FACTORS[stage.schedule])


def _check_sizes(plan: Plan, selection: Selection, ring: RingParams, manifest: RunManifest) -> None:
    """Before anything is spent: the plan's vector is the one that this site would upload."""
    training = plan.purpose == "train"
    lanes = wire_lanes(manifest) if training else EVALUATION_LANES
    size = lanes + (selection.size if training else 0)
    if (plan.dimension, plan.num_lanes, plan.scale) != (size, lanes, ring.scale):
        raise FaultyCoordinatorError("E_PARAMS")


def _is_finite(adapted: AdaptedModel, adapter: npt.NDArray[np.float32]) -> bool:
    """Set the received adapter and ask it the public probe; False before a private file is opened."""
    if not np.isfinite(adapter).all():
        return False
    adapted.write(adapter.astype(np.float64))
    return probe_is_finite(adapted.model, adapted.encode(PUBLIC_PROBE))


def _place(error: Exception) -> str:
    """Source file and line that raised `error`, for this site's log."""
    frames = extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "unknown"
