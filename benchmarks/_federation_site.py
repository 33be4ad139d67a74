"""The executor of a site in the large rounds of `benchmarks.federation`: the product's loop, other handlers.

Messages come from the site's own node and go back to it as in the product (`site_client.executor.Executor`: bundle
hash, audit log before the node gets anything). What answers them here is either the protocol alone on a synthetic
vector, or one step of plain federated averaging on the same vector.
"""

from __future__ import annotations

import argparse
import hashlib
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from configs.load import load_config
from configs.schema import SiteConfig
from model.server_optimizer import model_hash
from privacy.entropy import SystemEntropy
from privacy.identity import Roster
from privacy.messages import LedgerMark, RunManifest, SignedManifest
from privacy.roster import SignedRoster
from privacy.secagg.client import SiteRound
from privacy.secagg.params import ring_params
from privacy.secagg.quantize import dequantized_blocks, quantize, unpack
from privacy.transport.child import child_arguments
from privacy.transport.flower_internals.process import prepare
from privacy.transport.flower_internals.tasks import NodeTasks
from site_client.app import with_body
from site_client.audit_log import AuditLog
from site_client.executor import Executor
from site_client.keystore import signing_key
from site_client.supernode_process import timing_of

__all__ = ["BenchSite", "main"]

_BOOKED = ("sa_train", "sa_share", "sa_mask", "sa_confirm", "sa_unmask")
Answer = tuple[bytes, npt.NDArray[Any] | None]


class BenchSite:
    """Answers both arms' messages; `delta` (float32[d]) stands for what a round's training changes."""

    def __init__(self, config: SiteConfig, roster: Roster, dimension: int) -> None:
        self._id, self._roster, self._key = config.site_id, roster, signing_key(Path(config.state))
        rng = np.random.default_rng(int.from_bytes(config.site_id.encode()[-4:], "little"))
        self._delta = rng.uniform(-0.4, 0.4, dimension).astype(np.float32)
        self._model = np.zeros(dimension, dtype=np.float32)
        self._manifest: RunManifest
        self._round: SiteRound

    def answer(self, step: str, body: bytes, vector: npt.NDArray[Any] | None) -> Answer:
        """The reply to one message."""
        if step == "plain":
            return b"", vector + self._delta  # type: ignore[operator]
        if step == "hello":
            self._manifest = SignedManifest.open(body, self._roster)
            return self._id.encode(), None
        if step == "sa_train":
            return self._advertise(body), None
        if step == "sa_mask":
            return self._round.mask(body)
        if step == "sa_result":
            return self._result(body, vector), None  # type: ignore[arg-type]
        steps = {"sa_share": self._round.share, "sa_confirm": self._round.confirm, "sa_unmask": self._round.unmask}
        return steps[step](body), None

    def _advertise(self, body: bytes) -> bytes:
        plan = SiteRound.check_plan(body, roster=self._roster, manifest=self._manifest, last=None)
        federation = self._roster.federation_id
        self._round = SiteRound(
            site_id=self._id, signing_key=self._key, roster=self._roster, manifest=self._manifest,
            entropy=SystemEntropy(),
            on_masking=lambda: LedgerMark.make(self._id, 2, bytes(32), federation, self._key))
        ring = ring_params(plan.bits, plan.saturation, len(self._roster.sites))
        return self._round.advertise(plan, quantize(self._delta, ring))

    def _result(self, body: bytes, packed: npt.NDArray[np.uint8]) -> bytes:
        """Check the announced sum, compute the next model from it, say which one it is."""
        if hashlib.sha256(np.ascontiguousarray(packed).data).digest() != body:
            raise ValueError("the announced sum is another one")
        ring = ring_params(self._manifest.bits, self._manifest.saturation, len(self._roster.sites))
        for part, sums in dequantized_blocks(unpack(packed, ring.bits), ring):
            self._model[part] += (sums / len(self._roster.sites)).astype(np.float32)
        return model_hash(self._model)


class _Executor(Executor):
    """The product's, with the benchmark's app; books what the product would book."""

    def play(self, app: ClientApp) -> None:
        self._app = SimpleNamespace(app=app, with_body=with_body)  # type: ignore[assignment]

    def _book(self, step: str, request: Any, reply: Any) -> None:
        if step in _BOOKED:
            vector = reply.content["vector"]["v"].numpy() if "vector" in reply.content else None
            self._audit.egress(step=step, body=reply.content["message"]["body"], vector=vector)


def _client_app(site: BenchSite) -> ClientApp:
    app = ClientApp()

    def answer(message: Message, context: Context) -> Message:
        step = message.metadata.message_type.split(".")[-1]
        vector = message.content["vector"]["v"].numpy() if "vector" in message.content else None
        return with_body(message, *site.answer(step, message.content["message"]["body"], vector))

    for step in ("hello", *_BOOKED[1:], "sa_result"):
        app.query(step)(answer)
    for step in ("sa_train", "plain"):
        app.train(step)(answer)
    return app


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--roster", type=Path, required=True)
    parser.add_argument("--dimension", type=int, required=True)


def main(argv: list[str] | None = None) -> int:
    """`SITE_FILE --port PORT --secret-file FILE --ready FILE --roster FILE --dimension D`."""
    arguments = child_arguments("benchmarks._federation_site", __doc__, argv, _more)
    config = load_config(SiteConfig, arguments.owner)
    timing = timing_of(config)
    prepare(timing, Path(config.state) / "flower")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    audit = AuditLog.open(Path(config.state) / "audit.sqlite", signing_key(Path(config.state)))
    executor = _Executor(str(arguments.owner), config, audit)
    roster = SignedRoster.open(arguments.roster.read_bytes())
    executor.play(_client_app(BenchSite(config, roster, arguments.dimension)))
    arguments.ready.touch()
    executor.run_until(stop, NodeTasks(arguments.port, arguments.secret_file.read_bytes(), timing), timing)
    return 0
