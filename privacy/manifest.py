"""What a run is: the manifest every site approves before it starts, and the plan of one round.

*Guarantees.* A manifest or plan that exists is within the bounds checked here; its hash names it exactly.
Everything in both is chosen before any patient is drawn, so it cannot depend on the draw.

*Assumes.* A site compares the manifest with its own policy (`site_client.policy`) and the plan with the
manifest (`privacy.secagg.checks.check_plan`).

*Does not cover.* Whether the terms are wise: a manifest may ask for anything, and a site may refuse it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from privacy.aggregation import DEFAULT_UPDATE, DistributedNoise, ServerUpdate, check_distributed
from privacy.evaluation import EvaluationTerms, check_evaluations
from privacy.identity import MAX_DIMENSION
from privacy.signed import SignedMessage
from privacy.wire import Message, check_hash, check_id, check_range

__all__ = [
    "AdaptiveClip",
    "Clipping",
    "DistributedNoise",
    "Optimizer",
    "Plan",
    "RunManifest",
    "ServerUpdate",
    "SignedPlan",
    "SiteTerms",
    "SourceShare",
    "StageSpec",
    "StopRule",
    "Suite",
    "Truncation",
    "standard_delta",
]

Schedule = Literal["alternate", "b-only", "both"]
Factor = Literal["A", "B", "AB"]
Purpose = Literal["train", "evaluate"]
Optimizer = Literal["sgd", "adamw", "adamw-bc"]
Clipping = Literal["flat", "auto-s"]
Suite = Literal["x25519", "x25519-mlkem768"]
FACTORS: dict[str, tuple[str, ...]] = {"alternate": ("A", "B"), "b-only": ("B",), "both": ("AB",)}
RING_BITS = (16, 24, 32)
MOST_TAGS = 4
_LOWEST = 1e-12
# Of C**2: what the lanes and the bit of an adaptive clip may take together.
_MOST_TAKEN = 0.9


def standard_delta(declared_patients: int) -> float:
    """delta_i = min(1e-5, 1 / (10 n_i)) for a site that declared `declared_patients` patients."""
    return min(1e-5, 1.0 / (10 * declared_patients))


@dataclass(frozen=True)
class SourceShare(Message):
    """At most `max_samples` samples a patient and step from `source`; a stage's mix is a tuple of these."""

    source: str
    max_samples: int

    def check(self) -> None:
        check_id("a source's name", self.source)
        check_range("max_samples", self.max_samples, 1, 1024)


@dataclass(frozen=True)
class StopRule(Message):
    """End a stage after `patience` rounds in which the noised mean loss did not fall by `min_improvement`."""

    patience: int
    min_improvement: float

    def check(self) -> None:
        check_range("patience", self.patience, 1, 10**4)
        check_range("min_improvement", self.min_improvement, 0.0, 1e6)


@dataclass(frozen=True)
class AdaptiveClip(Message):
    """The clip threshold follows a private quantile of the patients' gradient norms (Andrew et al., NeurIPS 2021,
    arXiv 1905.03871, algorithm 1). Its bit is one more coordinate of the clipped vector, so the stage's noise pays.

    Args:
        quantile: gamma, share of patients whose gradients should be below the threshold.
        learning_rate: eta of the geometric update, a factor of exp(-eta (share - gamma)) a step.
        bit_noise: sigma_b, standard deviation of the noise on the number of patients below the threshold.
    """

    quantile: float
    learning_rate: float
    bit_noise: float

    def check(self) -> None:
        check_range("adaptive_clip.quantile", self.quantile, 0.01, 0.99)
        check_range("adaptive_clip.learning_rate", self.learning_rate, 1e-6, 10.0)
        check_range("adaptive_clip.bit_noise", self.bit_noise, 1e-6, 1e9)


@dataclass(frozen=True)
class Truncation(Message):
    """A Poisson draw of more than `batch_size` patients is cut to a uniform subset: batches of one shape.

    It is charged for a site of `most_patients`, a public upper bound on the number of patients that each site
    enforces on itself (`privacy.dp.sampling.truncated_poisson_draw` has the source).
    """

    batch_size: int
    most_patients: int

    def check(self) -> None:
        check_range("truncation.batch_size", self.batch_size, 1, 10**6)
        check_range("truncation.most_patients", self.most_patients, 1, 10**9)
        if self.most_patients < self.batch_size:
            raise ValueError("truncation.most_patients must be at least truncation.batch_size")


@dataclass(frozen=True)
class StageSpec(Message):
    """One stage of the curriculum.

    Args:
        name: of the stage, for people.
        sources: the data mix.
        groups: names of the adapter groups that train.
        schedule: which LoRA factor trains in a round: A and B in turn, B only, or both.
        learning_rate, momentum: of the site's optimiser.
        local_steps: DP-SGD steps a round and site.
        sampling_rate: Poisson probability of a patient per step, 0 < q <= 1.
        noise_multiplier: standard deviation of the noise over the clip norm; 0 only where privacy is "none".
        max_rounds: the stage's rounds.
        stop: None runs them all.
        optimizer: of the local steps, on noised sums only: SGD with momentum, DP-AdamW, or DP-AdamW whose second
            moment is corrected for the noise (`site_client.optimizer`).
        clipping: "flat" (min(1, C / norm)) or "auto-s" (C / (norm + 0.01)), `privacy.dp.clipping`.
        adaptive_clip: None keeps the threshold of the flat clip fixed.
        truncation: None is plain Poisson, whose long draws are carried over micro-batches.
        reply_after_s: a site's key announcement leaves this many seconds after the plan arrived, or 2, 4, 8... times
            that when it is late, so that the time says little about the draw; 0 = as soon as it is ready; else 0.001
            or more.
        max_tokens: of a sample, those of its images included; a longer question loses its beginning. 0 = the model's.
        evaluation: rounds that evaluate on validation patients, and the stage's gate; None has neither.
    """

    name: str
    sources: tuple[SourceShare, ...]
    groups: tuple[str, ...]
    schedule: Schedule
    learning_rate: float
    momentum: float
    local_steps: int
    sampling_rate: float
    noise_multiplier: float
    max_rounds: int
    stop: StopRule | None = None
    optimizer: Optimizer = "sgd"
    clipping: Clipping = "flat"
    adaptive_clip: AdaptiveClip | None = None
    truncation: Truncation | None = None
    reply_after_s: float = 0.0
    max_tokens: int = 0
    evaluation: EvaluationTerms | None = None

    def check(self) -> None:
        check_id("a stage's name", self.name)
        _unique("a stage's sources", tuple(share.source for share in self.sources))
        _unique("a stage's groups", self.groups)
        for group in self.groups:
            check_id("a stage's group", group)
        check_range("learning_rate", self.learning_rate, _LOWEST, 1e3)
        check_range("momentum", self.momentum, 0.0, 0.9999)
        check_range("local_steps", self.local_steps, 1, 10**5)
        check_range("sampling_rate", self.sampling_rate, _LOWEST, 1.0)
        check_range("noise_multiplier", self.noise_multiplier, 0.0, 1e4)
        check_range("max_rounds", self.max_rounds, 1, 10**5)
        if self.reply_after_s != 0:
            check_range("reply_after_s", self.reply_after_s, 0.001, 10**6)
        check_range("max_tokens", self.max_tokens, 0, 1 << 20)
        self._check_choices()

    def _check_choices(self) -> None:
        """Combinations that mean nothing, or that no accountant covers."""
        if self.momentum > 0 and self.optimizer != "sgd":
            raise ValueError(f'momentum belongs to the optimizer "sgd"; set it to 0 for "{self.optimizer}"')
        if self.adaptive_clip is not None and self.clipping != "flat":
            raise ValueError('adaptive_clip needs clipping "flat"; "auto-s" has no threshold to adapt')


@dataclass(frozen=True)
class SiteTerms(Message):
    """A site's constants in a run. None is computed from its data; `delta` is at most `standard_delta`."""

    site_id: str
    declared_patients: int
    weight: float
    delta: float

    def check(self) -> None:
        check_id("a manifest's site_id", self.site_id)
        check_range("declared_patients", self.declared_patients, 1, 10**9)
        check_range("a site's weight", self.weight, _LOWEST, 1e12)
        check_range("a site's delta", self.delta, 1e-18, standard_delta(self.declared_patients))


@dataclass(frozen=True)
class RunManifest(Message):
    """A whole run, as each site approves it. Sites are kept in ascending order of their identifiers.

    Args:
        federation_id, run_id, release: names; a site refuses a release other than its own.
        roster_hash, base_model_hash, adapter_hash: 32 bytes each; the adapter is the initial one.
        lora_rank, lora_alpha: shape and scaling of the adapter.
        privacy: "patient-dp", or "none" for runs on data that needs none.
        clip_norm: C, the L2 bound of one patient's joint vector.
        target_epsilon: what the whole run may spend at each site's delta; ignored where privacy is "none".
        lane_share: fraction of C reserved for the statistic lanes, 0 <= kappa < 1.
        bits: wire width of the ring, 16, 24 or 32.
        saturation: c, the largest magnitude of one uploaded coordinate.
        stages: the curriculum, in order.
        sites: one entry a participating site.
        lora_groups: the groups of layers that carry adapters; a stage trains some of them.
        server: how the sum becomes the next adapter.
        suite: how the sites agree on keys; one that the roster allows.
        integrity_tags: 64-bit lanes of the tag over the sum, 0 to 4 (`privacy.secagg.tags`).
        validation_share: of each site's patients, who are evaluated on and never trained on; 0 without evaluations.
        distributed_noise: how the noise is shared out; None = local, each site adds all of it to its own update.
    """

    federation_id: str
    run_id: str
    release: str
    roster_hash: bytes
    base_model_hash: bytes
    adapter_hash: bytes
    lora_rank: int
    lora_alpha: int
    privacy: Literal["patient-dp", "none"]
    clip_norm: float
    target_epsilon: float
    lane_share: float
    bits: int
    saturation: float
    stages: tuple[StageSpec, ...]
    sites: tuple[SiteTerms, ...]
    lora_groups: tuple[str, ...] = ("attention", "projector")
    server: ServerUpdate = DEFAULT_UPDATE
    suite: Suite = "x25519"
    integrity_tags: int = 0
    validation_share: float = 0.0
    distributed_noise: DistributedNoise | None = None

    def check(self) -> None:
        check_id("federation_id", self.federation_id)
        check_id("run_id", self.run_id)
        check_id("release", self.release)
        for name in ("roster_hash", "base_model_hash", "adapter_hash"):
            check_hash(name, getattr(self, name))
        check_range("lora_rank", self.lora_rank, 1, 1024)
        check_range("lora_alpha", self.lora_alpha, 1, 10**6)
        check_range("clip_norm", self.clip_norm, _LOWEST, 1e9)
        check_range("target_epsilon", self.target_epsilon, 0.0, 1e9)
        check_range("lane_share", self.lane_share, 0.0, 0.999)
        _check_ring(self.bits, self.saturation)
        check_range("integrity_tags", self.integrity_tags, 0, MOST_TAGS)
        _unique("a manifest's stages", tuple(stage.name for stage in self.stages))
        _unique("a manifest's sites", self.site_ids)
        _unique("lora_groups", self.lora_groups)
        for group in self.lora_groups:
            check_id("a LoRA group", group)
        self._check_stages()
        self._check_privacy()
        check_distributed(self)
        object.__setattr__(self, "sites", tuple(sorted(self.sites, key=lambda terms: terms.site_id)))

    def _check_privacy(self) -> None:
        noised = [stage.noise_multiplier > 0 for stage in self.stages]
        if self.privacy == "patient-dp" and not (all(noised) and self.target_epsilon > 0):
            raise ValueError("a patient-dp run needs target_epsilon and every noise_multiplier above 0")
        if self.privacy == "none" and any(noised):
            raise ValueError('a run with privacy "none" must have noise_multiplier 0 in every stage')
        if self.privacy == "none" and any(stage.adaptive_clip or stage.truncation for stage in self.stages):
            raise ValueError('a run with privacy "none" has no adaptive_clip and no truncation; leave them out')
        check_evaluations(self.stages, privacy=self.privacy, validation_share=self.validation_share,
                          integrity_tags=self.integrity_tags)

    def _check_stages(self) -> None:
        for stage in self.stages:
            missing = sorted(set(stage.groups) - set(self.lora_groups))
            if missing:
                raise ValueError(f"stage {stage.name} trains {missing[0]}, which has no adapter; add it to lora_groups")
            if stage.adaptive_clip is None:
                continue
            bit_share = stage.noise_multiplier / (2 * stage.adaptive_clip.bit_noise)
            if self.lane_share**2 + bit_share**2 > _MOST_TAKEN:
                raise ValueError(
                    f"adaptive_clip.bit_noise of stage {stage.name} leaves the gradient no room; raise it to the "
                    "stage's noise_multiplier or more")

    @property
    def site_ids(self) -> tuple[str, ...]:
        """The participating sites."""
        return tuple(terms.site_id for terms in self.sites)

    def terms(self, site_id: str) -> SiteTerms:
        """That site's constants. Raises KeyError when it does not take part."""
        for terms in self.sites:
            if terms.site_id == site_id:
                return terms
        raise KeyError(site_id)


@dataclass(frozen=True)
class Plan(Message):
    """One attempt at one round, as the coordinator signs it.

    Args:
        federation_id, run_id, roster_hash, manifest_hash: bind the plan to one approved run.
        round, attempt: (round, attempt) only ever grows; a new attempt uses fresh keys and the same vector.
        stage: index into the manifest's stages.
        factor: which LoRA factor trains.
        model_hash: of the adapter that the round starts from.
        dimension: coordinates of the masked vector, its statistic lanes included.
        num_lanes: how many of them, at the end, are statistic lanes.
        bits, scale, saturation: the ring; scale is quantisation steps per unit.
        purpose: "train", or "evaluate" for a round that trains nothing (`privacy.gates` says which rounds do).
    """

    federation_id: str
    run_id: str
    roster_hash: bytes
    manifest_hash: bytes
    round: int
    attempt: int
    stage: int
    factor: Factor
    model_hash: bytes
    dimension: int
    num_lanes: int
    bits: int
    scale: float
    saturation: float
    purpose: Purpose = "train"

    def check(self) -> None:
        check_id("federation_id", self.federation_id)
        check_id("run_id", self.run_id)
        for name in ("roster_hash", "manifest_hash", "model_hash"):
            check_hash(name, getattr(self, name))
        check_range("round", self.round, 0, 2**31)
        check_range("attempt", self.attempt, 0, 2**31)
        check_range("stage", self.stage, 0, 2**16)
        check_range("dimension", self.dimension, 1, MAX_DIMENSION)
        check_range("num_lanes", self.num_lanes, 0, self.dimension)
        check_range("scale", self.scale, 2.0**-200, 2.0**200)
        _check_ring(self.bits, self.saturation)

    def context(self) -> bytes:
        """ctx: the 32 bytes that every later signature, key and commitment of this attempt is bound to."""
        return self.hash()


@dataclass(frozen=True)
class SignedPlan(SignedMessage):
    """R0, coordinator to site, inside a `privacy.results.RoundStart`."""

    LABEL: ClassVar[str] = "plan"
    plan: Plan
    signature: bytes


def _check_ring(bits: int, saturation: float) -> None:
    if bits not in RING_BITS:
        raise ValueError(f"bits must be one of {RING_BITS}")
    check_range("saturation", saturation, 2.0**-100, 2.0**100)


def _unique(name: str, values: tuple[str, ...]) -> None:
    if not values or len(set(values)) < len(values):
        raise ValueError(f"{name} must be at least one, each listed once")
