"""Every use of a module of Flower that is not public. Written against flwr 1.41.0; a conformance test holds it there.

*Guarantees.*
    * A request of Flower's goes to the address that it was made for: no redirect, no proxy of the environment.
    * The node sends no duration of ours: Flower's own report of how long a message took is always 0.
    * Telemetry, update checks and run-time installation are off before Flower is imported (`prepare`).
    * A task's bundle is returned by its hash and is never written or imported.

*Assumes.* `prepare` runs before anything else of Flower in the process; timings are those of one process.

*Does not cover.* Authenticity: a node of Flower's signs a time stamp only, so every message of ours is signed by us.
"""

from privacy.transport.flower_internals.hub import FLEET_ROUTES, serve_hub
from privacy.transport.flower_internals.node import run_node
from privacy.transport.flower_internals.process import FLOWER_VERSION, as_wire, be_in_process, from_wire, prepare
from privacy.transport.flower_internals.tasks import HubControl, NodeTask, NodeTasks
from privacy.transport.timing import NodeOptions, Timing

__all__ = [
    "FLEET_ROUTES", "FLOWER_VERSION", "HubControl", "NodeOptions", "NodeTask", "NodeTasks", "Timing", "as_wire",
    "be_in_process", "from_wire", "prepare", "run_node", "serve_hub"]
