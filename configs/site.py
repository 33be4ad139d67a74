"""A hospital's own files: its policy and its installation."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from configs.checks import LOG_FORMATS, TransportConfig, one_of, positive, require, require_cohort
from configs.site_data import ImagesConfig, PhiConfig, SourceConfig
from configs.trust import TrustConfig

__all__ = ["ENGINES", "PolicyConfig", "SiteConfig"]

ENGINES = ("own", "opacus")
APPROVALS = ("auto", "by-hand")
_HOURS = re.compile(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d")


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
    require_scheduled_replies: bool = True  # only runs whose replies leave at a scheduled time
    min_reply_after_s: float = 60.0      # least seconds of that schedule; read only where schedules are required
    two_sites: bool = False              # together with min_cohort 2: accept a federation of exactly two sites
    approve_runs: str = "auto"           # "auto": what the policy allows runs; or "by-hand": each manifest is approved
    approve_rosters: str = "by-hand"     # "auto": a roster that two pinned officers signed comes into force by itself
    allowed_groups: list[str] = field(default_factory=list)       # of LoRA layers; empty = none is refused by name
    max_rounds: int = 1000               # of one run, all its stages together
    max_upload_mb: float = 1024.0        # of one masked upload
    max_evaluations: int = 100           # of one run on this site's validation patients, repeats included; 0 = none
    working_hours: list[str] = field(default_factory=list)        # "22:00-06:00" local time; empty = always
    distributed_noise: TrustConfig | None = None  # whose noise this site counts on; None = no run shares its noise out

    def __post_init__(self) -> None:
        positive("policy", max_epsilon=self.max_epsilon, max_delta=self.max_delta, min_patients=self.min_patients,
                  max_samples=self.max_samples)
        require(self.max_patients is None or self.max_patients >= self.min_patients,
                 f"policy.max_patients={self.max_patients} must be at least policy.min_patients={self.min_patients}")
        positive("policy", max_total_delta=self.max_total_delta)
        one_of("policy", "composition", self.composition, ("sum", "rdp"))
        require(self.max_delta <= 1e-5, f"policy.max_delta={self.max_delta} must be at most 1e-5")
        require(self.max_total_delta < 1, f"policy.max_total_delta={self.max_total_delta} must be below 1")
        require(self.renyi_order >= 2, f"policy.renyi_order={self.renyi_order} must be at least 2")
        require(self.max_wasted_rounds >= 0, f"policy.max_wasted_rounds={self.max_wasted_rounds} cannot be negative")
        require(self.min_ledger_witnesses >= 0,
                 f"policy.min_ledger_witnesses={self.min_ledger_witnesses} must be at least 0")
        require(0.001 <= self.min_reply_after_s <= 1e6,
                f"policy.min_reply_after_s={self.min_reply_after_s} must be in [0.001, 1e6]")
        require_cohort("policy", self.min_cohort, self.two_sites)
        one_of("policy", "approve_runs", self.approve_runs, APPROVALS)
        one_of("policy", "approve_rosters", self.approve_rosters, APPROVALS)
        positive("policy", max_rounds=self.max_rounds, max_upload_mb=self.max_upload_mb)
        require(self.max_evaluations >= 0, f"policy.max_evaluations={self.max_evaluations} cannot be negative")
        for span in self.working_hours:
            require(_HOURS.fullmatch(span) is not None and len(set(span.split("-"))) == 2,
                    f"policy.working_hours has {span!r}; write spans such as 22:00-06:00")


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteConfig:
    """One hospital's installation: where its data, keys, ledger and the shared base model are."""

    site_id: str
    data: str                # folder with dicom/ and tables of reports and questions; "" where `sources` has all
    state: str               # keys (0600), ledger, index; on the site's protected volume
    base_model: str          # folder of the shared base model
    policy: PolicyConfig
    roster: str = ""         # the consortium's roster file, signed by its officers; "" where it comes over the wire
    roster_hash: str = ""    # SHA-256 of the first roster that this site pins, hex; later ones are approved
    issuer: str = ""         # authority that assigned the patient IDs (DICOM PS3.3 C.7.1.1), "" when files name none
    engine: str = "own"      # of the per-patient gradients: own, or opacus for comparison
    device: str = "auto"     # where the model trains: auto (a GPU where there is one), cpu, cuda or cuda:N
    microbatch_tokens: int = 0  # most tokens computed at once (site-client plan-memory); 0 = what the device can hold
    invitation: str = ""     # the coordinator's invitation file: address, certificate authority, officers' keys
    health_port: int = 0     # gRPC health service on 127.0.0.1; 0 = none
    log_format: str = "text"  # of `start` and its processes: text, or json (one redacted object a line)
    processes: int = 1       # that train side by side, each with a whole model and whole patients of a step
    gpus_per_process: int = 1  # that one process' model is spread over, layer by layer, where `device` is a GPU
    transport: TransportConfig = field(default_factory=TransportConfig)
    sources: list[SourceConfig] = field(default_factory=list)  # beside `data`: servers and further folders
    images: ImagesConfig = field(default_factory=ImagesConfig)
    phi: PhiConfig = field(default_factory=PhiConfig)
    index: str = ""          # folder of index, mirrors and picture cache, on the protected volume; "" = state/index
    report_samples: bool = True  # each report whose study has images here is a sample of source `studies`
    activations: str = ""    # outputs of a base's frozen layers: "" = computed in each step, "memory", or a folder of
    #                          the protected volume that keeps them (made from patients' texts, 0600)
    max_samples_per_patient: int = 512  # of one source; further ones of that patient are left out

    def __post_init__(self) -> None:
        require(bool(self.data) or bool(self.sources), "site.data is empty and site.sources too; name one")
        names = [source.name for source in self.sources]
        require(len(set(names)) == len(names) and "data" not in names,
                "site.sources must have different names, none of them `data`")
        positive("site", max_samples_per_patient=self.max_samples_per_patient)
        one_of("site", "engine", self.engine, ENGINES)
        one_of("site", "log_format", self.log_format, LOG_FORMATS)
        require(re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device) is not None,
                f"site.device={self.device!r} must be auto, cpu, cuda or cuda:N")
        require(self.microbatch_tokens >= 0, f"site.microbatch_tokens={self.microbatch_tokens} must not be negative")
        require(1 <= self.processes <= 64, f"site.processes={self.processes} must be 1 to 64")
        require(1 <= self.gpus_per_process <= 64, f"site.gpus_per_process={self.gpus_per_process} must be 1 to 64")
        require(self.processes * self.gpus_per_process == 1 or ":" not in self.device,
                 f"site.device={self.device} is one GPU; write cuda for several processes or GPUs")
        require(self.gpus_per_process == 1 or (self.device != "cpu" and self.engine == "own"),
                 "site.gpus_per_process above 1 needs device cuda or auto, and engine own")
        require(self.gpus_per_process == 1 or self.microbatch_tokens > 0,
                 "site.gpus_per_process above 1 needs microbatch_tokens: what fits is planned for one card only")
        require(not self.activations or self.processes * self.gpus_per_process == 1,
                 "site.activations is for one process and one device; remove it, or set processes and gpus_per_process "
                 "to 1")
        require(0 <= self.health_port < 65536, f"site.health_port={self.health_port} must be 0 to 65535")
        require(bool(self.invitation) or bool(self.roster and self.roster_hash),
                "a site file needs `invitation`, or `roster` with `roster_hash`; `site-client init` writes one")
