"""The coordinator of the large rounds of `benchmarks.federation`: secure and plain rounds in turn, each measured.

Both arms use the product's link over the same hub, nodes and executors. Plain: the model float32[d] to every site, each
site's model back, folded as it comes. Secure: keys, shares, masked vectors, confirmations and the unmasking, then the
packed sum to every site, each of which computes the next model; the hashes of it are compared.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks._federation_processes import cpu_seconds
from coordinator.conversation import Conversation
from coordinator.exchange import Outgoing, Reply
from coordinator.home import Home
from coordinator.link import MESSAGE_TYPES, FlowerLink
from coordinator.superlink_process import timing_of
from model.server_optimizer import model_hash
from privacy.identity import Roster, SigningKey
from privacy.messages import Plan, RunManifest, SignedManifest, SiteTerms, SourceShare, StageSpec
from privacy.release import release_hash
from privacy.secagg.params import ring_params
from privacy.secagg.quantize import dequantized_blocks, pack
from privacy.secagg.server import CoordinatorRound
from privacy.transport.app_bundle import app_bundle
from privacy.transport.flower_internals.process import prepare
from privacy.transport.flower_internals.tasks import HubControl
from privacy.transport.listeners import PrivateListener
from site_client.supernode_process import read_counts

__all__ = ["BenchCoordinator", "Talk", "main"]

SATURATION, BITS, TIMEOUT_S = 0.5, 24, 300.0
Model = npt.NDArray[np.float32]


class Talk(Conversation):
    """One round's messages, as the product sends and takes them; nobody may be missing."""

    def ask(self, step: str, outgoing: Mapping[str, Outgoing], accept: Callable[[Reply], None]) -> None:
        """Send a step and take each reply. RuntimeError when a site is missing."""
        if len(self._step(step, outgoing, accept)) < len(outgoing):
            raise RuntimeError(f"round {self.number}: {self.missing}")

    def secure(self, protocol: CoordinatorRound) -> npt.NDArray[np.uint32]:
        """The steps from the plan to the ring sum uint32[d]."""
        receive: dict[str, Callable[[str, bytes], None]] = {
            "sa_train": protocol.receive_advertise, "sa_share": protocol.receive_share,
            "sa_confirm": protocol.receive_confirm, "sa_unmask": protocol.receive_unmask}
        close: dict[str, Callable[[], dict[str, bytes]]] = {
            "sa_train": protocol.close_advertise, "sa_share": protocol.close_share, "sa_mask": protocol.close_masked,
            "sa_confirm": protocol.close_confirm}

        def take(reply: Reply) -> None:
            if step == "sa_mask":
                protocol.receive_masked(reply.site_id, reply.body, np.asarray(reply.vector, dtype=np.uint8))
            else:
                receive[step](reply.site_id, reply.body)

        out: Mapping[str, bytes] = dict.fromkeys(self.participants, protocol.signed_plan())
        for step in ("sa_train", "sa_share", "sa_mask", "sa_confirm", "sa_unmask"):
            self.ask(step, {site: Outgoing(body) for site, body in out.items()}, take)
            if step in close:
                out = close[step]()
        return protocol.finish()


class BenchCoordinator:
    """One model float32[d] for each arm, and a round of each."""

    def __init__(self, link: FlowerLink, roster: Roster, key: SigningKey, dimension: int) -> None:
        self._link, self._roster, self._key, self._dimension = link, roster, key, dimension
        self._ring = ring_params(BITS, SATURATION, len(roster.sites))
        self.manifest = _manifest(roster)
        self.plain_model, self.model = np.zeros(dimension, np.float32), np.zeros(dimension, np.float32)

    def meet(self) -> list[str]:
        """Bind the nodes that are connected; their sites."""
        met = []
        hello = SignedManifest.make(self.manifest, self._key).to_bytes()
        for index, reply in enumerate(self._link.meet(hello, TIMEOUT_S)):
            if reply.failure is None:
                self._link.bind(index, reply.body.decode())
                met.append(reply.body.decode())
        return met

    def plain(self, number: int) -> None:
        """One round of federated averaging, nothing hidden."""
        total = np.zeros(self._dimension, np.float32)
        sites = self._roster.active_ids

        def fold(reply: Reply) -> None:
            np.add(total, reply.vector, out=total)

        self._talk(number).ask("plain", dict.fromkeys(sites, Outgoing(b"", self.plain_model)), fold)
        total /= np.float32(len(sites))
        self.plain_model = total

    def secure(self, number: int) -> None:
        """One secure round, to the model that every site has computed."""
        talk = self._talk(number)
        total = talk.secure(CoordinatorRound(
            plan=self._plan(number), roster=self._roster, signing_key=self._key))
        for part, sums in dequantized_blocks(total, self._ring):
            self.model[part] += (sums / len(self._roster.sites)).astype(np.float32)
        wanted, packed = model_hash(self.model), pack(total, BITS)

        def agree(reply: Reply) -> None:
            if reply.body != wanted:
                raise RuntimeError(f"{reply.site_id} computed another model")

        result = Outgoing(hashlib.sha256(packed.data).digest(), packed)
        talk.ask("sa_result", dict.fromkeys(self._roster.active_ids, result), agree)

    def _talk(self, number: int) -> Talk:
        return Talk(self._link, self._roster, TIMEOUT_S, self._roster.active_ids, number)

    def _plan(self, number: int) -> Plan:
        return Plan(
            federation_id=self._roster.federation_id, run_id="bench", roster_hash=self._roster.hash(),
            manifest_hash=self.manifest.hash(), round=number, attempt=1, stage=0, factor="B",
            model_hash=model_hash(self.model), dimension=self._dimension, num_lanes=0, bits=BITS,
            scale=self._ring.scale, saturation=SATURATION)


def _manifest(roster: Roster) -> RunManifest:
    stage = StageSpec("one", (SourceShare("reports", 2),), ("attention",), "alternate", 0.1, 0.9, 4, 0.1, 1.0, 9)
    return RunManifest(
        federation_id=roster.federation_id, run_id="bench", release=release_hash(), roster_hash=roster.hash(),
        base_model_hash=bytes(32), adapter_hash=bytes(32), lora_rank=8, lora_alpha=16, privacy="patient-dp",
        clip_norm=1.0, target_epsilon=8.0, lane_share=0.1, bits=BITS, saturation=SATURATION, stages=(stage,),
        sites=tuple(SiteTerms(site.site_id, site.declared_patients, 1.0, 1e-5) for site in roster.sites))


def main(argv: list[str] | None = None) -> int:
    """`HOME --port PORT --secret-file FILE --dimension D --rounds N --pids FILE --counters FILE... --out FILE`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    for name in ("--port", "--dimension", "--rounds"):
        parser.add_argument(name, type=int, required=True)
    for name in ("--secret-file", "--pids", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--counters", type=Path, nargs="+", required=True)
    arguments = parser.parse_args(argv)
    home = Home.open(arguments.home)
    prepare(timing_of(home), home.folder / "flower")
    control = HubControl(PrivateListener(arguments.port, arguments.secret_file.read_text("ascii")), timing_of(home))
    MESSAGE_TYPES["plain"] = "train.plain"
    grid, _ = control.begin("bench", app_bundle(release_hash()))
    coordinator = BenchCoordinator(FlowerLink(grid), home.roster().roster, home.key(), arguments.dimension)
    try:
        deadline = time.monotonic() + 60
        while len(coordinator.meet()) < len(arguments.counters):
            if time.monotonic() > deadline:
                raise RuntimeError("not every site is connected")
            time.sleep(0.5)
        pids = [int(pid) for pid in arguments.pids.read_text().split()]
        found = _measured(coordinator, arguments.rounds, pids, arguments.counters)
    finally:
        control.finish()
    arguments.out.write_text(json.dumps(found))
    return 0


def _measured(coordinator: BenchCoordinator, rounds: int, pids: list[int], counters: list[Path]) -> dict[str, Any]:
    """By arm: wall and CPU seconds and the sites' bytes of each round; the first round of each arm is not counted."""
    arms = {"plain": coordinator.plain, "secure": coordinator.secure}
    found: dict[str, Any] = {arm: {"wall": [], "cpu": [], "bytes": []} for arm in arms}
    for number in range(1, rounds + 2):
        order = list(arms) if number % 2 else list(arms)[::-1]
        for arm in order:
            moved = _bytes(counters)
            cpu, begin = cpu_seconds(pids) + time.process_time(), time.monotonic()
            arms[arm](number)
            wall, cpu = time.monotonic() - begin, cpu_seconds(pids) + time.process_time() - cpu
            if number > 1:
                found[arm]["wall"].append(wall)
                found[arm]["cpu"].append(cpu)
                found[arm]["bytes"].append(_bytes(counters) - moved)
    return found


def _bytes(counters: list[Path]) -> int:
    """What the sites' nodes have sent and received so far, once their counters are on the disk."""
    time.sleep(1.5)
    return sum(one["bytes_out"] + one["bytes_in"] for path in counters for one in read_counts(path).values())
