"""A federation of real processes on this machine: what its operators would type, and what can go wrong with it.

    with RealFederation(folder, materials) as federation:
        run = federation.launch("first", rounds=8)
        begin = federation.booked("site-1")
        federation.wait_for_step("site-1", "sa_mask", after=begin)
        federation.kill("executor", "site-1")
        federation.wait_for_rounds(run, 8)

Everything is made and started by the product's own commands; only timings and limits in its files are changed. With a
:class:`~simulations.network_lab.Lab` each site and the coordinator live in network namespaces of their own. Processes
that this object did not start are left alone.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import simulations
from coordinator.run_queue import QueuedRun, RunQueue
from privacy.enrolment import Invitation
from privacy.transport.service import free_port
from privacy.transport.supervisor import read_status
from simulations.materials import Materials
from simulations.network_lab import COORDINATOR, Lab
from simulations.real_processes import egress, end_with_us, lives, program
from simulations.sum_watch import SumWatch

__all__ = ["COORDINATOR_KINDS", "SHORT", "SITE_KINDS", "RealFederation", "set_keys", "until"]

SHORT: Mapping[str, float] = {"heartbeat_s": 4.0, "busy_poll_s": 0.15, "idle_poll_s": 0.3}
COORDINATOR_KINDS = ("up", "superlink", "coordinator-executor")
SITE_KINDS = ("start", "node", "executor")
_COORDINATOR = {"console": 0, "retries": 5, "retry_after_s": 2, "resend_s": 20, "wait_for_sites_s": 60}
_POLICY = {"min_patients": 10, "require_scheduled_replies": "false", "max_wasted_rounds": 1000}
_CURRICULUM = """\
stages:
  - {{name: only, sources: {{reports: 1}}, groups: [attention], learning_rate: 0.1, learning_rate_without_privacy: 0.1,
     local_steps: 1, sampling_rate: 0.05, rounds: {rounds}, reply_after_s: 0}}
"""
_RUN = """\
run_id: {run}
curriculum: {curriculum}
base_model: {base}
public_examples: {public}
every_rounds: 1000
federation: {federation}
"""
_OFFICERS = ("ann", "bob")


def until(what: Callable[[], str], reached: Callable[[], Any], timeout_s: float, every_s: float = 0.1) -> Any:
    """What `reached` says once it is true. Raises TimeoutError with what `what` says at the end."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = reached()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what()}: not within {timeout_s:g} s")
        time.sleep(every_s)


@dataclass
class RealFederation:
    """Sites `site-1` to `site-N` and a coordinator under `folder`, which is made.

    :param materials: the hospitals' data, the public base model and questions (`simulations.materials.prepare`).
    :param lab: where the processes run; None = all on 127.0.0.1.
    :param timing: the `transport` section of every file; empty = the defaults.
    :param coordinator: further keys of `coordinator.yaml`. :param policy: of each site's policy.
    :param environment: further variables, by "coordinator" or site.
    """

    folder: Path
    materials: Materials
    sites: int = 4
    lab: Lab | None = None
    timing: Mapping[str, float] = field(default_factory=lambda: SHORT)
    coordinator: Mapping[str, Any] = field(default_factory=dict)
    policy: Mapping[str, Any] = field(default_factory=dict)
    environment: dict[str, dict[str, str]] = field(default_factory=dict)
    address_of: dict[str, str] = field(default_factory=dict)  # a site's own way to the coordinator, such as a proxy
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    sums: SumWatch = field(init=False)

    def __post_init__(self) -> None:
        self.site_ids = tuple(f"site-{i}" for i in range(1, self.sites + 1))
        self.home = self.folder / "C"
        self.health_ports = {name: free_port() for name in (COORDINATOR, *self.site_ids)}
        host = "127.0.0.1" if self.lab is None else self.lab.address(COORDINATOR)
        self.address = f"{host}:{free_port()}"
        self.sums = SumWatch({site: self.state(site) for site in self.site_ids}, self.home / "runs")

    def __enter__(self) -> RealFederation:
        self.lay_out()
        try:
            self.start_all()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    # -------------------------------------------------------------- making it

    def lay_out(self) -> None:
        """Init, enrol, sign: every folder, nothing started."""
        self.folder.mkdir(parents=True)
        keys = {one: self.command("coordinator", "roster", "officer-key", f"{one}.key").strip() for one in _OFFICERS}
        officers = [part for one in _OFFICERS for part in ("--officer", f"{one}:{keys[one]}")]
        self.command("coordinator", "init", "C", "--federation", "north", "--address", self.address,
                     "--listen", self.address, *officers)
        set_keys(self.home / "coordinator.yaml", {
            **_COORDINATOR, "health_port": self.health_ports[COORDINATOR], **self._transport(), **self.coordinator})
        for site in self.site_ids:
            self._lay_out_site(site)
        self.enrol(*self.site_ids)

    def enrol(self, *sites: str) -> None:
        """Hand these sites' requests to the coordinator and let two officers sign."""
        self.command("coordinator", "enroll", "C", *(f"{site}/{site}.request" for site in sites))
        for one in _OFFICERS:
            self.command("coordinator", "roster", "sign", "C", "--key", f"{one}.key")

    def _lay_out_site(self, site: str) -> None:
        self.command(
            "site-client", "init", site, "--invitation", "C/invitation.json", "--site-id", site, "--patients",
            str(self.materials.declared[site]), "--data", str(self.materials.hospitals / site), "--base-model",
            str(self.materials.base_model), "--max-epsilon", "200", "--auto-approve")
        set_keys(self.site_file(site), {"health_port": self.health_ports[site], **self._transport()})
        set_keys(self.site_file(site), {**_POLICY, **self.policy}, indent="  ")
        if site in self.address_of:
            self.change_invitation(site, address=self.address_of[site])

    def change_invitation(self, site: str, **changes: str) -> None:
        """Change what a site believes of its coordinator, from its next start on: another invitation is there."""
        path = self.folder / site / "invitation.json"
        path.chmod(0o600)
        path.write_text(replace(Invitation.from_json(path.read_bytes()), **changes).to_json(), encoding="utf-8")

    def _transport(self) -> dict[str, Any]:
        return {"transport": json.dumps(dict(self.timing))} if self.timing else {}

    # -------------------------------------------------------------- its files

    def state(self, site: str) -> Path:
        """A site's state folder."""
        return self.folder / site / "state"

    def site_file(self, site: str) -> Path:
        """A site's YAML file."""
        return self.folder / site / "site.yaml"

    @property
    def queue(self) -> RunQueue:
        """The coordinator's runs."""
        return RunQueue(self.home / "runs")

    # -------------------------------------------------------------- its processes

    def command(self, name: str, *arguments: str, check: bool = True, typed: str = "") -> str:
        """Run a command of an operator to its end, in `folder`, with `typed` as its input; its standard output (with
        `check=False` the error output as well). Raises RuntimeError when it fails."""
        done = subprocess.run([*program(name), *arguments], cwd=self.folder, env=self.environment_of(),
                              input=typed, capture_output=True, text=True, check=False, timeout=600)
        if check and done.returncode:
            raise RuntimeError(f"{name} {' '.join(arguments[:3])} failed: {done.stderr.strip()}")
        return done.stdout if check else done.stdout + done.stderr

    def start_all(self, timeout_s: float = 400.0) -> None:
        """Start everything and wait until it is ready."""
        self.begin(COORDINATOR)
        for site in self.site_ids:
            self.begin(site)
        for name in (COORDINATOR, *self.site_ids):
            self.wait_until_ready(name, timeout_s)
        self.sums.begin()

    def begin(self, name: str) -> None:
        """Start `coordinator up` ("coordinator") or a site's `site-client start`."""
        arguments = [*program("coordinator"), "up", "C"] if name == COORDINATOR else [
            *program("site-client"), "start", str(self.site_file(name))]
        with (self.folder / f"{name}.out").open("ab") as out:
            options: dict[str, Any] = {
                "cwd": self.folder, "env": self.environment_of(name), "stdout": out, "stderr": subprocess.STDOUT,
                "stdin": subprocess.DEVNULL, "preexec_fn": end_with_us}
            self.processes[name] = (subprocess.Popen(arguments, **options) if self.lab is None
                                    else self.lab.run(name, arguments, **options))

    def end(self, name: str, timeout_s: float = 60.0) -> int:
        """End one of them as an operator would, by SIGTERM; its exit code."""
        self.processes[name].terminate()
        code = self.processes[name].wait(timeout_s)
        del self.processes[name]  # after it ended: one that does not is still ours to end
        return code

    def wait_until_ready(self, name: str, timeout_s: float = 300.0) -> None:
        """Until its status file says so. Raises RuntimeError with its output when it ended instead."""
        def ready() -> bool:
            if self.processes[name].poll() is not None:
                raise RuntimeError(f"{name} ended: {self.said(name)[-500:]}")
            status = self.status(name)
            return status.get("pid") == self.processes[name].pid and status["ready"]

        until(lambda: f"{name} ready ({self.status(name)})", ready, timeout_s)

    def said(self, name: str) -> str:
        """What `up` or `start` printed so far."""
        return (self.folder / f"{name}.out").read_text(encoding="utf-8", errors="replace")

    def status(self, name: str) -> dict[str, Any]:
        """What the supervisor wrote of its children; {} before its first word."""
        file = self.home / "log" / "up.json" if name == COORDINATOR else self.state(name) / "start.json"
        return read_status(file) or {}

    def pid(self, kind: str, site: str = "") -> int:
        """Of a process that runs now: one of COORDINATOR_KINDS, or of SITE_KINDS with a site."""
        owner = site or COORDINATOR
        if kind in ("up", "start"):
            return self.processes[owner].pid
        child = "executor" if kind == "coordinator-executor" else kind

        def running() -> int:
            for one in self.status(owner).get("children", ()):
                if one["name"] == child and one["pid"] is not None and one["state"] in ("running", "lost") and (
                        lives(one["pid"])):
                    return int(one["pid"])
            return 0

        return int(until(lambda: f"{owner}'s {kind} running", running, 300))

    def kill(self, kind: str, site: str = "") -> None:
        """SIGKILL, and wait until it is gone. `up` and `start` take their children along; `begin` starts them again."""
        pid = self.pid(kind, site)
        os.kill(pid, signal.SIGKILL)
        if kind in ("up", "start"):
            self.processes.pop(site or COORDINATOR).wait(30)
        until(lambda: f"{kind} {site} gone", lambda: not lives(pid), 30)

    def freeze(self, site: str) -> None:
        """SIGSTOP to the site's three processes."""
        self._signal(site, signal.SIGSTOP)

    def thaw(self, site: str) -> None:
        """SIGCONT to them."""
        self._signal(site, signal.SIGCONT)

    def _signal(self, site: str, number: signal.Signals) -> None:
        supervisor = self.processes[site].pid
        for pid in (supervisor, *(one["pid"] for one in self.status(site)["children"] if one["pid"])):
            os.kill(pid, number)

    def close(self) -> None:
        """End what this object started."""
        self.sums.end()
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()

    def environment_of(self, name: str = "") -> dict[str, str]:
        """The variables of "coordinator", a site, or (by default) a command."""
        root = str(Path(simulations.__file__).resolve().parent.parent)
        own = self.environment.get(name, {})
        path = os.pathsep.join(filter(None, (root, own.get("PYTHONPATH", ""), os.environ.get("PYTHONPATH", ""))))
        return {**os.environ, "OMP_NUM_THREADS": "1", **own, "PYTHONPATH": path}

    # -------------------------------------------------------------- its runs

    def launch(self, run: str, rounds: int, detach: bool = False, **federation: Any) -> str:
        """Queue a run of short rounds and (without `detach`) wait until the sites were asked; its name.

        `federation` are keys of `configs.schema.FederationConfig`."""
        curriculum, file = self.folder / f"{run}.curriculum.yaml", self.folder / f"{run}.yaml"
        curriculum.write_text(_CURRICULUM.format(rounds=rounds), encoding="utf-8")
        file.write_text(_RUN.format(
            run=run, curriculum=curriculum, base=self.materials.base_model, public=self.materials.public_examples,
            federation=json.dumps({"timeout_s": 120, **federation})), encoding="utf-8")
        self.command("coordinator", "launch", "C", str(file), *(["--detach"] if detach else []))
        return run

    def wait(self, run: str, *states: str, timeout_s: float = 300.0) -> QueuedRun:
        """Until the run is in one of `states` ("finished" by default). Raises RuntimeError when it ended otherwise."""
        wanted = states or ("finished",)

        def reached() -> QueuedRun | None:
            found = self.queue.get(run)
            if found.state not in wanted:
                _refuse_ended(found)
            return found if found.state in wanted else None

        return until(lambda: f"run {run} {'/'.join(wanted)} (now {self.queue.get(run)})",  # type: ignore[no-any-return]
                     reached, timeout_s)

    def history(self, run: str) -> list[dict[str, Any]]:
        """The finished rounds, attested or not, from the newest checkpoint."""
        for folder in sorted(self.queue.folder(run).glob("checkpoints/round-*"), reverse=True):
            with suppress(FileNotFoundError, NotADirectoryError):  # being removed just now
                found: list[dict[str, Any]] = json.loads((folder / "state.json").read_text())["history"]
                return found
        return []

    def attested(self, run: str) -> int:
        """How many rounds are finished and attested."""
        return sum(bool(entry["attested"]) for entry in self.history(run))

    def wait_for_rounds(self, run: str, number: int, timeout_s: float = 180.0) -> None:
        """Until so many rounds are attested. Raises RuntimeError when the run ended before."""
        def reached() -> bool:
            if self.attested(run) >= number:
                return True
            _refuse_ended(self.queue.get(run))
            return False

        until(lambda: f"{number} rounds of {run} (now {self.attested(run)}, {self.queue.get(run)})", reached, timeout_s)

    # -------------------------------------------------------------- what left a site

    def replies(self, site: str) -> list[tuple[int, str, str]]:
        """(number, step, kind of message) of every reply that the site booked; it is booked before it is sent."""
        return list(egress(self.state(site) / "audit.sqlite"))

    def booked(self, site: str) -> int:
        """The number of the newest reply, for `after`."""
        return max((number for number, _, _ in self.replies(site)), default=0)

    def wait_for_step(self, site: str, step: str, after: int = 0, timeout_s: float = 400.0, good: bool = True) -> int:
        """Until the site booked a reply to `step`, numbered above `after`; its number. `good`: no refusal."""
        def found() -> int:
            return next((number for number, booked, message in self.replies(site) if number > after and booked == step
                         and not (good and message == "ErrorReply")), 0)

        return int(until(lambda: f"{site} answers {step}", found, timeout_s, every_s=0.05))


def _refuse_ended(found: QueuedRun) -> None:
    if found.state in ("failed", "stopped"):
        raise RuntimeError(f"run {found.run_id} {found.state}: {found.reason}")


def set_keys(file: Path, values: Mapping[str, Any], indent: str = "") -> None:
    """Set keys in a YAML file as an editor would: the line of the key, or a new one at the end (top level only)."""
    text = file.read_text(encoding="utf-8")
    for key, value in values.items():
        line = f"{indent}{key}: {value}"
        text, found = re.subn(rf"^{indent}{key}:.*$", line, text, flags=re.MULTILINE)
        if not found:
            if indent:
                raise ValueError(f"{file.name} has no key {key}")
            text = f"{text.rstrip()}\n{line}\n"
    file.write_text(text, encoding="utf-8")
