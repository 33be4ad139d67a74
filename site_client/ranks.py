"""The further processes with which a site trains: started, kept loaded between rounds, ended, started again.

Rank 0 is the site's own process, which draws and adds noise. Any fault of any rank ends all of them: the step's sum is
not made, the round fails as it does when training fails (its budget stays booked), and the next round starts new ones.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

from torch import Tensor

from configs.schema import SiteConfig
from privacy.dp.ranks import RankError
from privacy.entropy import SystemEntropy
from privacy.wire import Message
from site_client.placement import devices_of, require_devices
from site_client.rank_channel import KEY_BYTES, RankChannel, open_group
from site_client.rank_messages import Failed, Ready, Tensors, pack, unpack
from site_client.rank_process import arrival

__all__ = ["RankGroup"]

M = TypeVar("M", bound=Message)
_log = logging.getLogger(__name__)
_END_S = 5.0


class RankGroup:
    """Rank 0's side of all ranks of one site.

    Args:
        state: the site's state folder; the group's folder and the ranks' logs lie in it.
        command: the command line of a rank's process; it gets rank, folder and time to meet.
        start_s: in which a rank has to come up; order_s: in which it has to answer an order.
    """

    def __init__(
        self, state: Path, processes: int, command: Callable[[int, Path, float], Sequence[str]], *,
        start_s: float = 120.0, order_s: float = 12 * 3600.0,
    ) -> None:
        self._state, self._processes, self._command = state, processes, command
        self._start_s, self._order_s = start_s, order_s
        self._children: list[subprocess.Popen[bytes]] = []
        self._channels: list[RankChannel] = []

    @staticmethod
    def of(config: SiteConfig) -> RankGroup:
        """The group that a site file asks for; nothing is started yet. ConfigError as `require_devices`."""
        require_devices(config)

        def command(rank: int, folder: Path, timeout_s: float) -> Sequence[str]:
            devices = [part for device in devices_of(config, rank) for part in ("--device", device)]
            return [sys.executable, "-m", "site_client.rank_process", "--rank", str(rank), "--processes",
                    str(config.processes), "--folder", str(folder), "--base-model", config.base_model,
                    "--timeout-s", str(timeout_s), *devices]

        return RankGroup(Path(config.state), config.processes, command)

    @property
    def size(self) -> int:
        """Ranks, this process among them."""
        return self._processes

    @property
    def pids(self) -> list[int]:
        """Of the processes that were started and not ended."""
        return [child.pid for child in self._children]

    def start(self) -> None:
        """Start what does not run. RankError when a rank does not come up; then none is left."""
        if self._channels and all(child.poll() is None for child in self._children):
            return
        self.close()
        folder = Path(tempfile.mkdtemp(prefix=".ranks.", dir=self._state))  # 0700
        try:
            with self.whole():
                keys = [self._spawn(rank, folder) for rank in range(1, self._processes)]
                self._await_arrivals(folder)
                group = open_group(folder, 0, self._processes, self._start_s)
                self._channels = [RankChannel(group, 0, rank, key) for rank, key in enumerate(keys, 1)]
                self.answers(Ready)  # they have read the addresses: only now may the folder go
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        _log.info("ranks up=%d", self._processes)

    def close(self) -> None:
        """End all other ranks, whatever they do."""
        children, self._children, self._channels = self._children, [], []
        for child in children:
            if child.poll() is None:
                child.kill()
        for child in children:
            try:
                child.wait(_END_S)
            except subprocess.TimeoutExpired:
                _log.error("rank pid=%d does not end", child.pid)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """What happens inside happens on all ranks or on none: any error ends them all."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def send(self, rank: int, message: Message, tensors: Tensors | None = None) -> None:
        """An order to one of ranks 1, 2, ... RankError when it is gone."""
        self._channel(rank).send(pack(message, tensors), self._order_s)

    def answers(self, kind: type[M]) -> list[tuple[M, dict[str, Tensor]]]:
        """One answer of each other rank, in their order. RankError when one is gone, late, or could not follow."""
        return [self._answer(rank, kind) for rank in range(1, self._processes)]

    def _answer(self, rank: int, kind: type[M]) -> tuple[M, dict[str, Tensor]]:
        frame = self._channel(rank).receive(self._order_s)
        answer, tensors = unpack(frame, kind, Failed)
        if isinstance(answer, kind):
            return answer, tensors
        raise RankError(f"rank {rank} could not follow: {getattr(answer, 'kind', '')}")

    def _channel(self, rank: int) -> RankChannel:
        if not self._channels:
            raise RankError("the ranks do not run")
        return self._channels[rank - 1]

    def _spawn(self, rank: int, folder: Path) -> bytes:
        key = SystemEntropy().random_bytes(KEY_BYTES)
        with _log_of(self._state, rank) as log:
            child = subprocess.Popen(
                list(self._command(rank, folder, self._start_s)), stdin=subprocess.PIPE, stdout=log, stderr=log)
        self._children.append(child)
        if child.stdin is None:
            raise RankError(f"rank {rank} has no standard input")
        try:
            child.stdin.write(key)
            child.stdin.close()
        except OSError as error:
            raise RankError(f"rank {rank} ended at its start; see log/rank-{rank}.log") from error
        return key

    def _await_arrivals(self, folder: Path) -> None:
        """Before the group is opened, since that would wait for one that has ended already."""
        end = time.monotonic() + self._start_s
        for rank, child in enumerate(self._children, 1):
            while not arrival(folder, rank).exists():
                if child.poll() is not None or time.monotonic() > end:
                    raise RankError(f"rank {rank} did not come up; see log/rank-{rank}.log")
                time.sleep(0.02)


def _log_of(state: Path, rank: int) -> IO[bytes]:
    """A rank's own log, begun again at each start; it holds no patient's value."""
    folder = state / "log"
    folder.mkdir(mode=0o700, exist_ok=True)
    return os.fdopen(os.open(folder / f"rank-{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")

