"""The site's executor: takes each message from the node, answers it with the installed code, and books what leaves.

It never unpacks or imports the bundle that came with a run; it compares its hash with the installed release. One
process keeps the session and the model for all messages. A reply is in the audit log before the node gets it; if it
cannot be written there, nothing leaves.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from configs.load import load_config
from configs.schema import SiteConfig
from privacy.entropy import SystemEntropy
from privacy.errors import NOBODY, MessageFormatError
from privacy.identity import Roster
from privacy.messages import ErrorReply, RoundStart, SignedManifest, SignedResult
from privacy.release import release_hash
from privacy.transport.app_bundle import bundle_hash
from privacy.transport.child import child_arguments, log_to_output
from privacy.transport.flower_internals.process import prepare
from privacy.transport.flower_internals.tasks import NodeTask, NodeTasks
from privacy.transport.timing import Timing
from site_client.audit_log import AuditLog
from site_client.keystore import signing_key
from site_client.supernode_process import timing_of

__all__ = ["Executor", "main"]

_log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """`python -m site_client.executor SITE_FILE --port PORT --secret-file FILE --ready FILE`."""
    arguments = child_arguments("site_client.executor", __doc__, argv)
    log_to_output(strict=True)
    config = load_config(SiteConfig, arguments.owner)
    timing = timing_of(config)
    prepare(timing, Path(config.state) / "flower")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    audit = AuditLog.open(Path(config.state) / "audit.sqlite", signing_key(Path(config.state)))
    executor = Executor(str(arguments.owner), config, audit)
    executor.warm_up()
    arguments.ready.touch()
    tasks = NodeTasks(arguments.port, arguments.secret_file.read_bytes(), timing)
    try:
        executor.run_until(stop, tasks, timing)
    finally:
        executor.close()
        audit.close()
    return 0


class Executor:
    """Answers tasks for one site."""

    def __init__(self, site_file: str, config: SiteConfig, audit: AuditLog) -> None:
        from site_client import app  # torch, peft, flwr: seconds, before the first message
        from site_client.ranked_mechanism import ranked
        from site_client.reception import Reception
        from site_client.session import SiteSession

        self._audit, self._config = audit, config
        self._expected = bundle_hash(release_hash())
        self._ranks = _ranks_of(config)
        mechanism = None if self._ranks is None else ranked(self._ranks)
        self._reception = Reception(
            site_file, lambda site: SiteSession(site, lambda purpose: SystemEntropy(), mechanism=mechanism), self._note)
        self._app, self._site_file = app, site_file
        self._belongs: tuple[str, int | None] = ("", None)
        app.set_session_factory(lambda _: self._reception)

    def warm_up(self) -> None:
        """Open the session if there is a roster, and load the base model, so that no message waits for it."""
        from model.spec import LoraSpec
        from privacy.dp.ranks import RankError
        from site_client.placement import open_model

        if self._reception.session() is not None:  # also where it ended between a roster's pin and its event
            self._note(self._reception.roster())
        try:
            open_model(self._config, LoraSpec())
            if self._ranks is not None:
                self._ranks.start()
        except (ValueError, RankError) as error:  # the next round tries again
            _log.error("base model: %s", error)

    def close(self) -> None:
        """End the further ranks."""
        if self._ranks is not None:
            self._ranks.close()

    def _note(self, roster: Roster) -> None:
        self._audit.note("roster", version=roster.version, hash=roster.hash().hex())

    def run_until(self, stop: threading.Event, tasks: NodeTasks, timing: Timing) -> None:
        """Task after task; `stop` lets the one that goes on finish."""
        last, pause = time.monotonic(), timing.first_poll_s
        while not stop.is_set():
            try:
                task = tasks.take()
            except Exception as error:  # the node is being restarted
                _log.debug("the node does not answer kind=%s", type(error).__name__)
                stop.wait(0.3)
                continue
            if task is None:
                busy = time.monotonic() - last < timing.busy_s
                stop.wait(pause if busy else min(timing.idle_poll_s, 0.5))
                pause = timing.later(pause)
                continue
            self._attend(task)
            last, pause = time.monotonic(), timing.first_poll_s

    def _attend(self, task: NodeTask) -> None:
        step = str(task.message.metadata.message_type).split(".")[-1]
        try:
            reply = self._answer(task)
            self._book(step, task.message, reply)
            task.reply(reply)
        except Exception as error:  # nothing left, or the node is gone: the coordinator asks again
            _log.error("step=%s not answered kind=%s", step, type(error).__name__)
        finally:
            task.close()

    def _answer(self, task: NodeTask) -> Any:
        if task.bundle_hash != self._expected:
            _log.warning("refused code=P_RELEASE: the run's bundle is not of the installed release")
            return self._app.with_body(task.message, ErrorReply("P_RELEASE", NOBODY).to_bytes())
        task.context.node_config = {"site-file": self._site_file}
        return self._app.app(task.message, task.context)

    def _book(self, step: str, request: Any, reply: Any) -> None:
        if reply.has_error():  # a message of a kind that this release does not have
            raise RuntimeError("the message has no handler")
        vector = reply.content["vector"]["v"].numpy() if "vector" in reply.content else None
        body = reply.content["message"]["body"]
        named = _belongs_to(step, request.content["message"]["body"])
        if named is not None and not _is_refusal(body):  # a refused message's names are anybody's
            self._belongs = named
        run_id, number = self._belongs
        self._audit.egress(step=step, body=body, vector=vector, run_id=run_id, round=number)


def _ranks_of(config: SiteConfig) -> Any:
    """The site's further processes, not started yet; None where it trains in one."""
    from site_client.placement import require_devices
    from site_client.ranks import RankGroup

    require_devices(config)
    return RankGroup.of(config) if config.processes > 1 else None


def _is_refusal(body: bytes) -> bool:
    try:
        ErrorReply.from_bytes(body)
    except MessageFormatError:
        return False
    return True


def _belongs_to(step: str, body: bytes) -> tuple[str, int | None] | None:
    """(run, round) that a message names, for the audit log; None for one that goes on with the last."""
    try:
        if step == "hello":
            return SignedManifest.from_bytes(body).manifest.run_id, None
        if step == "sa_train":
            plan = RoundStart.from_bytes(body).plan.plan
            return plan.run_id, plan.round
        if step == "sa_result":
            result = SignedResult.from_bytes(body).result
            return result.run_id, result.round
    except MessageFormatError:
        pass
    return ("", None) if step == "roster" else None


if __name__ == "__main__":
    sys.exit(main())
