"""Who may connect: the nodes whose keys are wanted now.

*Guarantees.*
    * A key that is no longer wanted finds no node from the next look on; looks are two seconds apart.
    * One that cannot be let in keeps out no other, and a look that fails changes nothing.

*Assumes.* A key, once known, keeps its node: nothing is deleted, so whoever is wanted again is in again.

*Does not cover.* Proof that a node holds its key: the hub checks its signature.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

__all__ = ["Doorkeeper"]

_LOOK_S = 2.0


@dataclass
class Doorkeeper:
    """Keeps the hub's nodes as `node_keys` wants them (site -> public key of its node, PEM).

    Args:
        find: the node of a key, None if there is none yet.
        admit: makes a node of a key for a site; ValueError if it cannot.
        leave: marks a node as gone; what waits for it fails at once.
    """

    node_keys: Callable[[], Mapping[str, bytes]]
    find: Callable[[bytes], int | None]
    admit: Callable[[str, bytes], object]
    leave: Callable[[int], object]
    _nodes: dict[bytes, int] = field(default_factory=dict)

    def node_of(self, public_key: bytes) -> int | None:
        """The node of a key that is wanted, else None."""
        return self._nodes.get(public_key)

    def look(self) -> None:
        """Once; a site that cannot be let in is said on standard output and keeps out no other."""
        nodes: dict[bytes, int] = {}
        for site, public_key in self.node_keys().items():
            node = self._nodes.get(public_key) or self.find(public_key)
            if node is None:
                try:
                    self.admit(site, public_key)
                except ValueError as error:
                    print(f"{site} cannot be let in: {error}", flush=True)
                    continue
                node = self.find(public_key)
            if node is not None:
                nodes[public_key] = node
        gone = [node for public_key, node in self._nodes.items() if public_key not in nodes]
        self._nodes = nodes
        for node in gone:
            self.leave(node)

    def keep_looking(self, stop: threading.Event) -> None:
        """Every two seconds until `stop`."""
        while not stop.wait(_LOOK_S):
            try:
                self.look()
            except Exception as error:
                print(f"who may connect cannot be read, nothing changed: {error}", flush=True)
