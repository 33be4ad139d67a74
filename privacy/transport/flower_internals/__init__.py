"""Every use of a module of Flower that is not public. Written against flwr 1.41.0; a conformance test holds it there.

*Guarantees.*
    * A request of Flower's goes to the address that it was made for: no redirect, no proxy of the environment.
    * The node sends no duration of ours: Flower's own report of how long a message took is always 0.
    * Telemetry, update checks and run-time installation are off before Flower is imported (`prepare`).
    * A task's bundle is returned by its hash and is never written or imported.

*Assumes.* `prepare` runs before anything else of Flower in the process; timings are those of one process.

*Does not cover.* Authenticity: a node of Flower's signs a time stamp only, so every message of ours is signed by us.
"""
