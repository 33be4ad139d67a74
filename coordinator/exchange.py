"""How the coordinator talks to sites, without saying through what: the interface that Flower and tests implement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Link", "Outgoing", "Reply"]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to one site: canonical bytes, and a vector where the step carries one."""

    body: bytes
    vector: npt.NDArray[np.generic] | None = None

    @property
    def size_bytes(self) -> int:
        return len(self.body) + (0 if self.vector is None else int(self.vector.nbytes))


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back from one site; `failure` is a fixed word ("no-reply", "transport") when nothing did."""

    site_id: str
    body: bytes = b""
    vector: npt.NDArray[np.generic] | None = None
    failure: str | None = None

    @property
    def size_bytes(self) -> int:
        return len(self.body) + (0 if self.vector is None else int(self.vector.nbytes))


class Link(Protocol):
    """A transport that knows which node is which site."""

    def newcomers(self) -> bool:
        """Whether a node is connected that no site was bound to."""
        ...

    def meet(self, body: bytes, timeout_s: float, step: str = "hello") -> Iterator[Reply]:
        """Send `body` as `step` to every connected node; yield the replies as they come. `site_id` is the
        site for which the node was enrolled, as the transport says, or empty.

        The caller checks each reply's signature and then calls :meth:`bind` in the order of the replies."""
        ...

    def bind(self, reply_index: int, site_id: str) -> None:
        """Remember that the node that gave reply `reply_index` of the last `meet` is `site_id`."""
        ...

    def exchange(self, step: str, outgoing: Mapping[str, Outgoing], timeout_s: float) -> Iterator[Reply]:
        """Send each site its message of `step` and yield replies as they come; silence yields a failure."""
        ...
