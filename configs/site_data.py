"""Where a hospital's samples come from, how its images are read, and what its texts must not hold."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from configs.checks import one_of, positive, require

__all__ = ["ImagesConfig", "PhiConfig", "SourceConfig"]

KINDS = ("folder", "dicomweb", "fhir", "dimse")
_TITLE = re.compile(r"[ -~]{1,16}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceConfig:
    """One place that samples come from. What a server holds is mirrored into the site's state folder first."""

    kind: str                            # folder, dicomweb, fhir or dimse
    name: str                            # of the mirror's folder, and on the operator's screen
    path: str = ""                       # folder: with dicom/, and tables of reports and questions
    url: str = ""                        # dicomweb: .../dicom-web; fhir: the base; dimse: HOST:PORT
    user: str = ""                       # of basic authentication
    secret_file: str = ""                # 0600: that user's password; without a user a bearer token
    ca_file: str = ""                    # PEM of the server's authority; "" = the system's
    called_title: str = ""               # dimse: the archive's application entity title
    calling_title: str = "SITE"          # dimse: this site's
    modalities: list[str] = field(default_factory=list)  # CR, CT, ...; empty = all (dicomweb, dimse)
    since: str = ""                      # YYYY-MM-DD: studies or reports from that day on; "" = all
    category: str = ""                   # fhir: DiagnosticReport.category, such as RAD; "" = all
    patient_system: str = ""             # fhir: system of the identifier that DICOM's PatientID holds; "" = of type MR
    page_size: int = 100                 # answers asked for at once
    timeout_s: float = 60.0              # of one request

    def __post_init__(self) -> None:
        one_of("source", "kind", self.kind, KINDS)
        require(re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}", self.name) is not None,
                f"source.name={self.name!r} must be 1 to 32 lower-case letters, digits and hyphens")
        require(self.kind != "folder" or bool(self.path), f"source {self.name} is a folder and needs `path`")
        require(self.kind == "folder" or bool(self.url), f"source {self.name} is {self.kind} and needs `url`")
        if self.kind in ("dicomweb", "fhir"):
            parts = urlsplit(self.url)
            require(parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None,
                    f"source {self.name}: url must be http(s)://HOST/..., without user or password")
            require(parts.scheme == "https" or parts.hostname in ("127.0.0.1", "::1", "localhost"),
                    f"source {self.name}: url must be https; only this machine itself may be asked without TLS")
        require(self.kind != "dimse" or all(map(_TITLE.fullmatch, (self.called_title, self.calling_title))),
                f"source {self.name}: called_title and calling_title must be 1 to 16 printable characters")
        require(not self.since or re.fullmatch(r"\d{4}-\d\d-\d\d", self.since) is not None,
                f"source {self.name}: since={self.since!r} must be YYYY-MM-DD")
        require(not self.user or bool(self.secret_file), f"source {self.name}: user needs secret_file")
        require(1 <= self.page_size <= 10_000, f"source {self.name}: page_size={self.page_size} must be 1 to 10000")
        positive(f"source {self.name}", timeout_s=self.timeout_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagesConfig:
    """How DICOM files become pictures: in a child process with limits, each picture once."""

    most_frames: int = 8                 # of one multi-frame file, evenly spaced
    most_images: int = 8                 # of one sample; of a longer series evenly spaced slices
    workers: int = 1                     # child processes that decode
    memory_gib: float = 3.0              # of one child's address space
    timeout_s: float = 60.0              # for one file
    most_file_mib: int = 2048            # larger files are refused
    burned_in: str = "refuse"            # suspects of text in the pixels: refuse, ocr (tesseract decides) or accept
    burned_in_accept: list[str] = field(default_factory=list)  # modalities accepted although suspect, such as US

    def __post_init__(self) -> None:
        positive("images", most_frames=self.most_frames, most_images=self.most_images, workers=self.workers,
                 timeout_s=self.timeout_s, most_file_mib=self.most_file_mib)
        require(self.most_frames <= 64 and self.most_images <= 64, "images.most_frames and most_images go up to 64")
        require(0.5 <= self.memory_gib <= 64, f"images.memory_gib={self.memory_gib} must be 0.5 to 64")
        one_of("images", "burned_in", self.burned_in, ("refuse", "ocr", "accept"))


@dataclass(frozen=True, kw_only=True, slots=True)
class PhiConfig:
    """What happens to a text that seems to name a patient. Counts by kind are shown, the texts never are."""

    on_hit: str = "refuse"               # refuse: the sample is not used; redact: the hit is; warn: used as it is
    plugin: str = ""                     # "presidio": also its recognisers, with the model below
    plugin_model: str = ""               # folder of a spaCy model that the site provides

    def __post_init__(self) -> None:
        one_of("phi", "on_hit", self.on_hit, ("refuse", "redact", "warn"))
        one_of("phi", "plugin", self.plugin, ("", "presidio"))
        require(bool(self.plugin) == bool(self.plugin_model), "phi.plugin and phi.plugin_model go together")
