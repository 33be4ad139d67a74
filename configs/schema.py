"""Every configuration file of the project as a frozen dataclass; nothing here imports torch, flwr or OmegaConf.

A field without a default is required. Units are in the names. Values are checked when the object is made, so an
object that exists is valid; :mod:`configs.load` turns YAML into these objects and names misspelt keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from configs.checks import ConfigError, TransportConfig, one_of, positive, require, require_cohort
from configs.coordination import CoordinatorConfig, HomeConfig
from configs.evaluation_rounds import EvaluationRoundsConfig, GateConfig
from configs.site import ENGINES, PolicyConfig, SiteConfig
from configs.trust import SharedNoiseConfig, TrustConfig

__all__ = [
    "AdaptiveClipConfig", "ArmConfig", "BaseConfig", "ConfigError", "CoordinatorConfig", "CurriculumConfig",
    "DataConfig", "EvaluationConfig", "EvaluationRoundsConfig", "FaultConfig", "FederationConfig", "GateConfig",
    "HomeConfig", "LoraConfig", "PolicyConfig", "PrivacyConfig", "RunConfig", "SharedNoiseConfig", "SimulationConfig",
    "SiteConfig", "StageConfig", "StopConfig", "TransportConfig", "TruncationConfig", "TrustConfig",
]

SOURCES = ("reports", "impressions", "patches", "studies", "questions")
GROUPS = ("attention", "projector", "experts")
SCHEDULES = ("alternate", "b-only", "both")
OPTIMIZERS = ("sgd", "adamw", "adamw-bc")
CLIPPINGS = ("flat", "auto-s")
STEPS = (
    "roster", "hello", "witness", "restore", "sa_train", "sa_share", "sa_mask", "sa_confirm", "sa_unmask", "sa_result")
ARMS = ("base", "alone", "pooled", "federated", "federated-dp", "federated-distributed", "pooled-dp")
NOISES = ("local", "distributed")


@dataclass(frozen=True, kw_only=True, slots=True)
class StopConfig:
    """Ends a stage early on the noised mean loss (never on an exact statistic of patients)."""

    patience: int            # rounds without improvement
    min_improvement: float   # nats of mean loss

    def __post_init__(self) -> None:
        positive("stop", patience=self.patience)


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaptiveClipConfig:
    """The clip threshold follows a private quantile of gradient norms (Andrew et al., arXiv 1905.03871)."""

    quantile: float = 0.5        # share of patients that should be below the threshold
    learning_rate: float = 0.2   # of the geometric update, a step
    bit_noise: float = 10.0      # standard deviation on the number of patients below the threshold

    def __post_init__(self) -> None:
        require(0.01 <= self.quantile <= 0.99, f"adaptive_clip.quantile={self.quantile} must be in [0.01, 0.99]")
        positive("adaptive_clip", learning_rate=self.learning_rate, bit_noise=self.bit_noise)


@dataclass(frozen=True, kw_only=True, slots=True)
class TruncationConfig:
    """Draws above `batch_size` patients are cut to it; each site's policy.max_patients enforces the upper bound."""

    batch_size: int
    most_patients: int   # public upper bound on the patients of any site; the budget is charged for it

    def __post_init__(self) -> None:
        positive("truncation", batch_size=self.batch_size)
        require(self.most_patients >= self.batch_size, f"truncation.most_patients={self.most_patients} must be at "
                 f"least truncation.batch_size={self.batch_size}")


@dataclass(frozen=True, kw_only=True, slots=True)
class StageConfig:
    """One stage of the curriculum. `rounds` is its fixed maximum; the budget is charged for all of it."""

    name: str
    sources: dict[str, int]  # data mix: source -> at most so many samples of a patient in one step
    groups: list[str]        # which LoRA groups are trained
    learning_rate: float
    learning_rate_without_privacy: float
    local_steps: int         # DP-SGD steps between two aggregations
    sampling_rate: float     # Poisson inclusion probability of a patient in one step
    rounds: int
    schedule: str = "alternate"
    momentum: float = 0.0    # of the local steps; starts at zero in each round
    relative_noise: float = 1.0  # noise multiplier relative to the other stages; one common scale is solved for
    stop: StopConfig | None = None
    optimizer: str = "sgd"   # of the local steps: sgd (with momentum), adamw, adamw-bc
    clipping: str = "flat"   # of a patient's gradient: flat, auto-s
    adaptive_clip: AdaptiveClipConfig | None = None
    truncation: TruncationConfig | None = None
    reply_after_s: float = 0.0   # a reply leaves so long after its plan came, or 2, 4, 8... times that; 0 = at once
    max_tokens: int = 0      # of a sample, images included; 0 = what the base model's spec says
    evaluation: EvaluationRoundsConfig | None = None  # on validation patients, and the stage's gate

    def __post_init__(self) -> None:
        owner = f"stages[{self.name}]"
        one_of(owner, "optimizer", self.optimizer, OPTIMIZERS)
        one_of(owner, "clipping", self.clipping, CLIPPINGS)
        require(self.momentum == 0 or self.optimizer == "sgd",
                 f"{owner}.momentum={self.momentum} belongs to optimizer sgd; remove it for {self.optimizer}")
        require(self.adaptive_clip is None or self.clipping == "flat",
                 f"{owner}.adaptive_clip needs clipping flat; {self.clipping} has no threshold to adapt")
        positive(owner, learning_rate=self.learning_rate, local_steps=self.local_steps, rounds=self.rounds,
                  learning_rate_without_privacy=self.learning_rate_without_privacy,
                  relative_noise=self.relative_noise)
        require(self.evaluation is None or self.stop is None,
                 f"{owner}.stop and {owner}.evaluation exclude each other: rounds that evaluate are fixed in advance")
        require(0 < self.sampling_rate <= 1, f"{owner}.sampling_rate={self.sampling_rate} must be in (0, 1]")
        require(0 <= self.momentum < 1, f"{owner}.momentum={self.momentum} must be in [0, 1)")
        require(self.reply_after_s == 0 or 0.001 <= self.reply_after_s <= 1e6,
                f"{owner}.reply_after_s={self.reply_after_s} must be 0 or in [0.001, 1e6]")
        require(0 <= self.max_tokens <= 1 << 20, f"{owner}.max_tokens={self.max_tokens} must be in [0, {1 << 20}]")
        one_of(owner, "schedule", self.schedule, SCHEDULES)
        require(bool(self.sources), f"{owner}.sources is empty; name at least one of {', '.join(SOURCES)}")
        for source, most in self.sources.items():
            one_of(owner, "sources", source, SOURCES)
            positive(f"{owner}.sources", **{source: most})
        require(bool(self.groups), f"{owner}.groups is empty; name at least one of {', '.join(GROUPS)}")
        for group in self.groups:
            one_of(owner, "groups", group, GROUPS)


@dataclass(frozen=True, kw_only=True, slots=True)
class CurriculumConfig:
    """The stages, in order."""

    stages: list[StageConfig]
    validation_share: float = 0.2  # of each site's patients, where a stage has an evaluation: never trained on

    def __post_init__(self) -> None:
        require(bool(self.stages), "curriculum.stages is empty; add at least one stage")
        require(0 < self.validation_share <= 0.5,
                f"curriculum.validation_share={self.validation_share} must be in (0, 0.5]")
        require(not any(stage.evaluation for stage in self.stages) or not any(stage.stop for stage in self.stages),
                "curriculum.stages has an evaluation and a stop rule; rounds that evaluate are fixed in advance")
        names = [stage.name for stage in self.stages]
        require(len(set(names)) == len(names), f"curriculum.stages has a name twice: {', '.join(names)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PrivacyConfig:
    """Patient-level differential privacy that the run asks for; a site's policy may still refuse it."""

    target_epsilon: float = 8.0
    clip_norm: float = 0.1       # C, bound on the L2 norm of one patient's [gradient, statistics]
    lane_share: float = 0.1      # share of C set aside for loss, accuracy and draw-count statistics
    noise: str = "local"         # local: each site adds all of it; distributed: each a share of it
    distributed: SharedNoiseConfig | None = None  # of noise: distributed

    def __post_init__(self) -> None:
        one_of("privacy", "noise", self.noise, NOISES)
        require(self.noise == "local" or self.distributed is not None,
                "privacy.noise=distributed needs privacy.distributed with min_survivors; state it")
        positive("privacy", target_epsilon=self.target_epsilon, clip_norm=self.clip_norm)
        require(0 < self.lane_share < 1, f"privacy.lane_share={self.lane_share} must be in (0, 1)")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraConfig:
    """Rank and alpha of the adapters, and which layers carry them."""

    rank: int = 8
    alpha: int = 16
    groups: list[str] = field(default_factory=lambda: ["attention", "projector"])

    def __post_init__(self) -> None:
        positive("lora", rank=self.rank, alpha=self.alpha)
        require(0 < len(self.groups) == len(set(self.groups)), "lora.groups must name at least one group, each once")
        for group in self.groups:
            one_of("lora", "groups", group, GROUPS)


@dataclass(frozen=True, kw_only=True, slots=True)
class FederationConfig:
    """Cohort rules, ring and server optimiser."""

    min_cohort: int = 3          # never fewer sites in a sum
    min_fraction: float = 0.5    # of the roster
    bits: int = 24               # ring width on the wire
    saturation: float = 4.0      # largest |coordinate| of a site's weighted update
    suite: str = "x25519"        # key agreement; x25519-mlkem768 also withstands a later quantum computer
    integrity_tags: int = 0      # 64-bit lanes (0 to 4) with which sites check the announced sum
    server_momentum: float = 0.0
    server_learning_rate: float = 1.0
    average_decay: float = 0.7   # of the average over rounds that is evaluated and exported; 0 = the last round's
    timeout_s: float = 3600.0    # per protocol step
    two_sites: bool = False      # a federation of exactly two: each sees the other's noised update in the sum

    def __post_init__(self) -> None:
        require_cohort("federation", self.min_cohort, self.two_sites)
        require(0 < self.min_fraction <= 1, f"federation.min_fraction={self.min_fraction} must be in (0, 1]")
        positive("federation", saturation=self.saturation, timeout_s=self.timeout_s,
                  server_learning_rate=self.server_learning_rate)
        require(self.bits in (16, 24, 32), f"federation.bits={self.bits} must be 16, 24 or 32")
        one_of("federation", "suite", self.suite, ("x25519", "x25519-mlkem768"))
        require(0 <= self.integrity_tags <= 4, f"federation.integrity_tags={self.integrity_tags} must be 0 to 4")
        require(0 <= self.average_decay < 1,
                 f"federation.average_decay={self.average_decay} must be in [0, 1)")
        require(0 <= self.server_momentum < 1,
                 f"federation.server_momentum={self.server_momentum} must be in [0, 1)")


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """What `simulate make-hospitals` writes: real reports and real image pairs split over sites, public and test."""

    seed: int = 0
    fold: int | None = None          # which fifth of the patients the test split comes from; None = seed modulo 5
    num_public_reports: int = 400
    num_test_reports: int = 600
    num_public_images: int = 40      # source images, ten pairs each
    num_test_images: int = 40
    site_shares: list[float] = field(default_factory=lambda: [0.35, 0.30, 0.20, 0.15])
    max_reports: int | None = None   # private reports over all sites; None = all
    max_images: int | None = None    # private source images over all sites; None = all
    report_questions: str = "choices"  # of a report patient: choices (normal? which impression?), or impression (write
    #                                    it from the findings; such hospitals have no images)

    def __post_init__(self) -> None:
        one_of("data", "report_questions", self.report_questions, ("choices", "impression"))
        require(self.fold is None or 0 <= self.fold < 5, f"data.fold={self.fold} must be 0 to 4")
        require(len(self.site_shares) >= 2, "data.site_shares needs at least two sites")
        require(abs(sum(self.site_shares) - 1) < 1e-6, "data.site_shares must add up to 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseConfig:
    """The public base model: a tiny one that is pretrained here, or SmolLM2-135M-Instruct out of its package."""

    kind: str = "tiny"               # tiny, smollm2
    adapted_layers: int = 0          # of smollm2: how many of the last layers carry adapters; 0 = all
    seed: int = 0
    epochs: dict[str, int] = field(default_factory=dict)  # passes over each kind of question; empty = the recipe's own

    def __post_init__(self) -> None:
        one_of("base", "kind", self.kind, ("tiny", "smollm2"))
        require(self.kind == "smollm2" or self.adapted_layers == 0,
                 "base.adapted_layers belongs to kind smollm2; remove it")
        require(0 <= self.adapted_layers <= 30, f"base.adapted_layers={self.adapted_layers} must be 0 to 30")


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultConfig:
    """A message that the simulated network loses."""

    site: str
    round: int   # counted from 1
    at: str      # protocol step

    def __post_init__(self) -> None:
        one_of("faults", "at", self.at, STEPS)
        positive("faults", round=self.round)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """How much is evaluated: public questions after each round, test questions at the end."""

    public_questions: int = 200      # per kind
    every_rounds: int = 1
    samples: int = 4                 # sample answers shown side by side, per kind
    answers: int = 60                # of test patients, the first so many: impressions that are written and compared
    answer_tokens: int = 48          # most of such an impression

    def __post_init__(self) -> None:
        positive("evaluation", public_questions=self.public_questions, every_rounds=self.every_rounds,
                  answers=self.answers, answer_tokens=self.answer_tokens)


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmConfig:
    """Which rows the final table has, and how many processes share the work."""

    names: list[str] = field(default_factory=lambda: ["base", "alone", "pooled", "federated", "federated-dp"])
    processes: int = 2

    def __post_init__(self) -> None:
        positive("arms", processes=self.processes)
        for name in self.names:
            one_of("arms", "names", name, ARMS)


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulationConfig:
    """`simulate run FILE`: a whole federation on one machine."""

    name: str
    curriculum: str                  # a YAML file, relative to the folder `configs/`
    seed: int = 1
    site_max_epsilon: float = 8.0    # the cap in each simulated site's own policy
    site_min_patients: int = 50      # the floor in each simulated site's own policy
    site_max_patients: int | None = None  # the ceiling in each simulated site's own policy; None = none
    site_engine: str = "own"         # of each simulated site: own, opacus
    data: DataConfig = field(default_factory=DataConfig)
    base: BaseConfig = field(default_factory=BaseConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    federation: FederationConfig = field(default_factory=FederationConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    arms: ArmConfig = field(default_factory=ArmConfig)
    distributed_curriculum: str = ""  # of row federated-distributed; "" = the same stages in steps of one sum each
    site_max_epsilon_outside: float = 100.0  # caps of each simulated site on the other two guarantees (distributed)
    site_max_epsilon_alone: float = 1000.0
    faults: list[FaultConfig] = field(default_factory=list)

    def __post_init__(self) -> None:
        one_of("simulation", "site_engine", self.site_engine, ENGINES)
        require("federated-distributed" not in self.arms.names or self.privacy.distributed is not None,
                "arms.names has federated-distributed; state privacy.distributed with min_survivors")
        positive("simulation", site_max_epsilon_outside=self.site_max_epsilon_outside,
                 site_max_epsilon_alone=self.site_max_epsilon_alone)
        sites = len(self.data.site_shares)
        require(sites >= 3 or self.federation.two_sites,
                 f"data.site_shares has {sites} sites; give at least three, or set federation.two_sites")
        require(self.base.kind == "tiny" or self.data.report_questions == "impression",
                 "base.kind=smollm2 is for texts; set data.report_questions=impression")
        require(sites == 2 or not self.federation.two_sites,
                 f"federation.two_sites is for exactly two sites; data.site_shares has {sites}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """`coordinator launch FILE`: what a run is made from; its signed manifest fixes all of it."""

    run_id: str
    curriculum: str                  # a YAML file, relative to the folder `configs/` or to the working folder
    base_model: str                  # folder of the shared base model
    public_examples: str             # public questions to evaluate on after each round
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    federation: FederationConfig = field(default_factory=FederationConfig)
    every_rounds: int = 1            # how often the public questions are asked

    def __post_init__(self) -> None:
        positive("run", every_rounds=self.every_rounds)
