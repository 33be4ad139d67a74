"""The coordinator's own files."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address

from configs.checks import LOG_FORMATS, TransportConfig, one_of, positive, require, require_address, require_cohort

__all__ = ["CoordinatorConfig", "HomeConfig", "require_private"]


@dataclass(frozen=True, kw_only=True, slots=True)
class HomeConfig:
    """`coordinator.yaml` of a coordinator's folder, as `coordinator init` writes it."""

    federation_id: str
    address: str                 # HOST:PORT under which the sites reach this coordinator
    listen: str = "0.0.0.0:8443"  # HOST:PORT that the public listener binds; only Flower's fleet routes are on it
    min_cohort: int = 3          # of the first roster, which `coordinator enroll` drafts: fewest sites in a sum
    min_fraction: float = 0.5    # the same, of the active sites
    two_sites: bool = False      # exactly two sites, min_cohort 2: hides a site's update from the coordinator only
    health_port: int = 0         # gRPC health service on 127.0.0.1; 0 = none
    log_format: str = "text"     # of `up` and its processes: text, or json (one object a line)
    console: str = "127.0.0.1:8444"  # HOST:PORT of the web console, a private address; 0 = none. TLS where not loopback
    console_names: list[str] = field(default_factory=list)  # further HOST[:PORT] that a browser may call it by (proxy)
    run_store: str = ""          # the console's database: "" = a SQLite file in the folder, or postgresql+psycopg://...
    retries: int = 3             # of a run that stopped below its quorum, before the operator is asked
    retry_after_s: float = 30.0
    resend_s: float = 90.0       # how long a lost message is sent again, once its site's node is back
    wait_for_sites_s: float = 600.0  # at the start of a run, for sites that are not connected or have not approved yet
    transport: TransportConfig = field(default_factory=TransportConfig)

    def __post_init__(self) -> None:
        require_address("coordinator", "address", self.address)
        require_address("coordinator", "listen", self.listen)
        require_cohort("coordinator", self.min_cohort, self.two_sites)
        one_of("coordinator", "log_format", self.log_format, LOG_FORMATS)
        require(0 <= self.min_fraction <= 1, f"coordinator.min_fraction={self.min_fraction} must be 0 to 1")
        require(0 <= self.health_port < 65536, f"coordinator.health_port={self.health_port} must be 0 to 65535")
        require_private("coordinator", "console", self.console)
        require(self.run_store == "" or self.run_store.startswith(("sqlite:///", "postgresql+psycopg://")),
                "coordinator.run_store must be empty, sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE")
        require(self.retries >= 0, f"coordinator.retries={self.retries} cannot be negative")
        positive("coordinator", retry_after_s=self.retry_after_s, wait_for_sites_s=self.wait_for_sites_s,
                 resend_s=self.resend_s)


def require_private(owner: str, name: str, value: str) -> None:
    """Raise ConfigError unless `value` is "0" or IP:PORT of this machine or of a private network."""
    if value == "0":
        return
    require_address(owner, name, value)
    try:
        address = ip_address(value.rpartition(":")[0].strip("[]"))
    except ValueError:
        address = None
    require(address is not None and address.is_private and not address.is_unspecified,
            f"{owner}.{name}={value!r} must be 0 (off) or an IP address of this machine or of a private network with "
            "a port, such as 127.0.0.1:8444")


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
    wait_for_sites_s: float = 0.0  # at the start, for sites that are not connected or have not approved yet
    resend_s: float = 0.0    # how long a message that a node lost is sent again once the node is back; 0 = never
    offer_roster: bool = False  # send the roster before the run, for sites that wait for it
    data_hash: str = ""      # SHA-256 of the data, hex, where it is known here (simulations); "" is never "audited"
