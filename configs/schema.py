"""Every configuration file of the project as a frozen dataclass; nothing here imports torch, flwr or OmegaConf.

A field without a default is required. Units are in the names. Values are checked when the object is made, so an
object that exists is valid; :mod:`configs.load` turns YAML into these objects and names misspelt keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "AdaptiveClipConfig", "ArmConfig", "BaseConfig", "ConfigError", "CoordinatorConfig", "CurriculumConfig",
    "DataConfig", "EvaluationConfig", "FaultConfig", "FederationConfig",
    "LoraConfig", "PolicyConfig", "PrivacyConfig", "SimulationConfig", "SiteConfig",
    "StageConfig", "StopConfig", "TruncationConfig",
]

SOURCES = ("reports", "impressions", "patches")
GROUPS = ("attention", "projector", "experts")
SCHEDULES = ("alternate", "b-only", "both")
OPTIMIZERS = ("sgd", "adamw", "adamw-bc")
CLIPPINGS = ("flat", "auto-s")
ENGINES = ("own", "opacus")
STEPS = ("hello", "witness", "restore", "sa_train", "sa_share", "sa_mask", "sa_confirm", "sa_unmask", "sa_result")
ARMS = ("base", "alone", "pooled", "federated", "federated-dp", "pooled-dp")


class ConfigError(ValueError):
    """A configuration value that cannot be used; the text is one sentence that names the key and the fix."""


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise ConfigError(text)


def _positive(owner: str, **values: float) -> None:
    for name, value in values.items():
        _require(value > 0, f"{owner}.{name}={value} must be greater than 0")


def _one_of(owner: str, name: str, value: str, allowed: tuple[str, ...]) -> None:
    _require(value in allowed, f"{owner}.{name}={value!r} must be one of {', '.join(allowed)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class StopConfig:
    """Ends a stage early on the noised mean loss (never on an exact statistic of patients)."""

    patience: int            # rounds without improvement
    min_improvement: float   # nats of mean loss

    def __post_init__(self) -> None:
        _positive("stop", patience=self.patience)


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaptiveClipConfig:
    """The clip threshold follows a private quantile of gradient norms (Andrew et al., arXiv 1905.03871)."""

    quantile: float = 0.5        # share of patients that should be below the threshold
    learning_rate: float = 0.2   # of the geometric update, a step
    bit_noise: float = 10.0      # standard deviation on the number of patients below the threshold

    def __post_init__(self) -> None:
        _require(0.01 <= self.quantile <= 0.99, f"adaptive_clip.quantile={self.quantile} must be in [0.01, 0.99]")
        _positive("adaptive_clip", learning_rate=self.learning_rate, bit_noise=self.bit_noise)


@dataclass(frozen=True, kw_only=True, slots=True)
class TruncationConfig:
    """Draws above `batch_size` patients are cut to it; each site's policy.max_patients enforces the upper bound."""

    batch_size: int
    most_patients: int   # public upper bound on the patients of any site; the budget is charged for it

    def __post_init__(self) -> None:
        _positive("truncation", batch_size=self.batch_size)
        _require(self.most_patients >= self.batch_size, f"truncation.most_patients={self.most_patients} must be at "
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

    def __post_init__(self) -> None:
        owner = f"stages[{self.name}]"
        _one_of(owner, "optimizer", self.optimizer, OPTIMIZERS)
        _one_of(owner, "clipping", self.clipping, CLIPPINGS)
        _require(self.momentum == 0 or self.optimizer == "sgd",
                 f"{owner}.momentum={self.momentum} belongs to optimizer sgd; remove it for {self.optimizer}")
        _require(self.adaptive_clip is None or self.clipping == "flat",
                 f"{owner}.adaptive_clip needs clipping flat; {self.clipping} has no threshold to adapt")
        _positive(owner, learning_rate=self.learning_rate, local_steps=self.local_steps, rounds=self.rounds,
                  learning_rate_without_privacy=self.learning_rate_without_privacy,
                  relative_noise=self.relative_noise)
        _require(0 < self.sampling_rate <= 1, f"{owner}.sampling_rate={self.sampling_rate} must be in (0, 1]")
        _require(0 <= self.momentum < 1, f"{owner}.momentum={self.momentum} must be in [0, 1)")
        _one_of(owner, "schedule", self.schedule, SCHEDULES)
        _require(bool(self.sources), f"{owner}.sources is empty; name at least one of {', '.join(SOURCES)}")
        for source, most in self.sources.items():
            _one_of(owner, "sources", source, SOURCES)
            _positive(f"{owner}.sources", **{source: most})
        _require(bool(self.groups), f"{owner}.groups is empty; name at least one of {', '.join(GROUPS)}")
        for group in self.groups:
            _one_of(owner, "groups", group, GROUPS)


@dataclass(frozen=True, kw_only=True, slots=True)
class CurriculumConfig:
    """The stages, in order."""

    stages: list[StageConfig]

    def __post_init__(self) -> None:
        _require(bool(self.stages), "curriculum.stages is empty; add at least one stage")
        names = [stage.name for stage in self.stages]
        _require(len(set(names)) == len(names), f"curriculum.stages has a name twice: {', '.join(names)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PrivacyConfig:
    """Patient-level differential privacy that the run asks for; a site's policy may still refuse it."""

    target_epsilon: float = 8.0
    clip_norm: float = 0.1       # C, bound on the L2 norm of one patient's [gradient, statistics]
    lane_share: float = 0.1      # share of C set aside for loss, accuracy and draw-count statistics

    def __post_init__(self) -> None:
        _positive("privacy", target_epsilon=self.target_epsilon, clip_norm=self.clip_norm)
        _require(0 < self.lane_share < 1, f"privacy.lane_share={self.lane_share} must be in (0, 1)")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraConfig:
    """Rank and alpha of the adapters, and which layers carry them."""

    rank: int = 8
    alpha: int = 16
    groups: list[str] = field(default_factory=lambda: ["attention", "projector"])

    def __post_init__(self) -> None:
        _positive("lora", rank=self.rank, alpha=self.alpha)
        _require(0 < len(self.groups) == len(set(self.groups)), "lora.groups must name at least one group, each once")
        for group in self.groups:
            _one_of("lora", "groups", group, GROUPS)


@dataclass(frozen=True, kw_only=True, slots=True)
class FederationConfig:
    """Cohort rules, ring and server optimiser."""

    min_cohort: int = 3          # never fewer sites in a sum
    min_fraction: float = 0.5    # of the roster
    bits: int = 24               # ring width on the wire
    saturation: float = 4.0      # largest |coordinate| of a site's weighted update
    server_momentum: float = 0.0
    server_learning_rate: float = 1.0
    average_decay: float = 0.7   # of the average over rounds that is evaluated and exported; 0 = the last round's
    timeout_s: float = 3600.0    # per protocol step

    def __post_init__(self) -> None:
        _require(self.min_cohort >= 3, f"federation.min_cohort={self.min_cohort} must be at least 3: "
                 "a sum of two sites shows each the other's update")
        _require(0 < self.min_fraction <= 1, f"federation.min_fraction={self.min_fraction} must be in (0, 1]")
        _positive("federation", saturation=self.saturation, timeout_s=self.timeout_s,
                  server_learning_rate=self.server_learning_rate)
        _require(self.bits in (16, 24, 32), f"federation.bits={self.bits} must be 16, 24 or 32")
        _require(0 <= self.average_decay < 1,
                 f"federation.average_decay={self.average_decay} must be in [0, 1)")
        _require(0 <= self.server_momentum < 1,
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

    def __post_init__(self) -> None:
        _require(self.fold is None or 0 <= self.fold < 5, f"data.fold={self.fold} must be 0 to 4")
        _require(len(self.site_shares) >= 3, "data.site_shares needs at least three sites")
        _require(abs(sum(self.site_shares) - 1) < 1e-6, "data.site_shares must add up to 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseConfig:
    """Pretraining of the tiny public base model."""

    seed: int = 0
    epochs: dict[str, int] = field(default_factory=dict)  # passes over each kind of question; empty = the recipe's own


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultConfig:
    """A message that the simulated network loses."""

    site: str
    round: int   # counted from 1
    at: str      # protocol step

    def __post_init__(self) -> None:
        _one_of("faults", "at", self.at, STEPS)
        _positive("faults", round=self.round)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """How much is evaluated: public questions after each round, test questions at the end."""

    public_questions: int = 200      # per kind
    every_rounds: int = 1
    samples: int = 4                 # sample answers shown side by side, per kind

    def __post_init__(self) -> None:
        _positive("evaluation", public_questions=self.public_questions, every_rounds=self.every_rounds)


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmConfig:
    """Which rows the final table has, and how many processes share the work."""

    names: list[str] = field(default_factory=lambda: ["base", "alone", "pooled", "federated", "federated-dp"])
    processes: int = 2

    def __post_init__(self) -> None:
        _positive("arms", processes=self.processes)
        for name in self.names:
            _one_of("arms", "names", name, ARMS)


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
    faults: list[FaultConfig] = field(default_factory=list)

    def __post_init__(self) -> None:
        _one_of("simulation", "site_engine", self.site_engine, ENGINES)


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyConfig:
    """A site's own rules. The coordinator may only ask; what breaks a rule is refused before any training."""

    max_epsilon: float                   # over the life of this site's ledger
    max_delta: float = 1e-5              # of one run
    max_total_delta: float = 1e-4        # over the life of this site's ledger; never above 1 / declared patients
    composition: str = "sum"             # of runs: "sum" of reserved budgets, or "rdp" at one Renyi order
    renyi_order: int = 8                 # of composition "rdp"; fixed by the ledger's first run
    max_wasted_rounds: int = 8           # trained for and never finished, over the life of this site's ledger
    min_patients: int = 100              # floor on the declared number of patients
    min_cohort: int = 3                  # fewest sites in a sum
    allowed_stages: list[str] = field(default_factory=list)       # empty = none is refused by name
    allowed_base_models: list[str] = field(default_factory=list)  # SHA-256, hex
    allowed_sources: list[str] = field(default_factory=list)      # empty = none is refused by name
    allow_without_privacy: bool = False  # only ever true in a simulation
    max_samples: int = 16                # of one patient in one step
    min_noise_multiplier: float = 0.3
    max_patients: int | None = None      # upper bound on this site's patients; None = no run with truncated batches
    min_ledger_witnesses: int = 0        # peers that must confirm the ledger; the roster's own number is the least

    def __post_init__(self) -> None:
        _positive("policy", max_epsilon=self.max_epsilon, max_delta=self.max_delta, min_patients=self.min_patients,
                  max_samples=self.max_samples)
        _require(self.max_patients is None or self.max_patients >= self.min_patients,
                 f"policy.max_patients={self.max_patients} must be at least policy.min_patients={self.min_patients}")
        _positive("policy", max_total_delta=self.max_total_delta)
        _one_of("policy", "composition", self.composition, ("sum", "rdp"))
        _require(self.max_delta <= 1e-5, f"policy.max_delta={self.max_delta} must be at most 1e-5")
        _require(self.max_total_delta < 1, f"policy.max_total_delta={self.max_total_delta} must be below 1")
        _require(self.renyi_order >= 2, f"policy.renyi_order={self.renyi_order} must be at least 2")
        _require(self.max_wasted_rounds >= 0, f"policy.max_wasted_rounds={self.max_wasted_rounds} cannot be negative")
        _require(self.min_ledger_witnesses >= 0,
                 f"policy.min_ledger_witnesses={self.min_ledger_witnesses} must be at least 0")
        _require(self.min_cohort >= 3, f"policy.min_cohort={self.min_cohort} must be at least 3")


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteConfig:
    """One hospital's installation: where its data, keys, ledger and the shared base model are."""

    site_id: str
    data: str                # folder with dicom/, reports.csv and questions.csv
    state: str               # keys (0600), ledger, index; on the site's protected volume
    base_model: str          # folder of the shared base model
    roster: str              # the consortium's roster file
    roster_hash: str         # SHA-256 that this site pinned, hex
    policy: PolicyConfig
    issuer: str = ""         # authority that assigned the patient IDs (DICOM PS3.3 C.7.1.1), "" when files name none
    engine: str = "own"      # of the per-patient gradients: own, or opacus for comparison

    def __post_init__(self) -> None:
        _one_of("site", "engine", self.engine, ENGINES)


@dataclass(frozen=True, kw_only=True, slots=True)
class CoordinatorConfig:
    """One run at the coordinator: its signed manifest, keys, base model and public evaluation data."""

    manifest: str            # signed run manifest
    roster: str
    key: str                 # coordinator's Ed25519 key file, 0600
    base_model: str
    output: str              # checkpoints, rounds and the adapter are written here
    public_examples: str     # public questions to evaluate on after each round
    timeout_s: float = 3600.0
    every_rounds: int = 1
    audit: str = ""          # audit.json of `simulate audit`; the export says "audited" only if it is of this very run
    data_hash: str = ""      # SHA-256 of the data, hex, where it is known here (simulations); "" is never "audited"
