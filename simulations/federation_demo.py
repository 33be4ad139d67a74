"""A real federation, told step by step: four hospitals and a coordinator, each in a network namespace of its own.

`make federation-demo` runs it. Every command is printed as an operator would type it, and runs as a real process. On
the way one site's executor and then the whole coordinator are killed in the middle of a round. At the end the books are
opened: ledgers, audit logs, and a packet capture of each site's only interface.

The data are small and public, and the sites' policies are relaxed for them (few patients, replies at once): what is
shown here is the machinery, not a privacy setting.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from configs.load import load_config
from configs.schema import SimulationConfig
from simulations.materials import Materials, prepare
from simulations.network_lab import Capture, Lab, cannot_run

__all__ = ["Demo", "main"]

PORT = 8443
SITES = ("site-1", "site-2", "site-3", "site-4")
_BIN = Path(sys.executable).parent
_RELAXED = ("min_patients=20", "require_scheduled_replies=false")


def main(argv: list[str] | None = None) -> int:
    """`python -m simulations.federation_demo [--out FOLDER]`; 0 when everything was as it should be."""
    parser = argparse.ArgumentParser(prog="make federation-demo", description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("runs/federation-demo"), help="the folder, made anew")
    out = parser.parse_args(argv).out.resolve()
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    why_not = cannot_run()
    if why_not:
        print(f"on loopback, without namespaces and packet capture: {why_not}")
    materials = prepare(load_config(SimulationConfig, "simulations/smoke.yaml"), lambda what, done, total: None)
    network: AbstractContextManager[Lab | None] = Lab(len(SITES), sink=True) if not why_not else nullcontext(None)
    with network as lab:
        demo = Demo(out, materials, lab)
        try:
            return demo.play()
        finally:
            demo.end()


@dataclass
class Demo:
    """The story. `lab` is None where no namespaces can be made: then everything is on loopback."""

    out: Path
    materials: Materials
    lab: Lab | None
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    captures: dict[str, Capture] = field(default_factory=dict)
    begin: float = field(default_factory=time.monotonic)

    def play(self) -> int:
        """All steps; the exit code."""
        self.enrol()
        self.start()
        self.launch_and_kill()
        self.finish()
        return self.open_the_books()

    # ------------------------------------------------------------------ the commands that people type

    def enrol(self) -> None:
        """Keys, folders, requests, roster."""
        address = f"{self.lab.address('coordinator') if self.lab else '127.0.0.1'}:{PORT}"
        self.say("Two officers, at two hospitals, each make a signing key.")
        officers = []
        for name in ("ann", "bob"):
            key = self.run("coordinator", "roster", "officer-key", f"{name}.key").strip()
            officers += ["--officer", f"{name}:{key}"]
        self.say("The coordinator (1 of 4 commands) makes its folder: keys, certificates, invitation.")
        self.run("coordinator", "init", "C", "--federation", "north", "--address", address, "--listen", address,
                 *officers)
        self.say("Each hospital (1 of 2 commands) answers the invitation. Its keys never leave it.")
        for site in SITES:
            self.run("site-client", "init", site, "--invitation", "C/invitation.json", "--site-id", site,
                     "--patients", str(self.materials.declared[site]), "--data", str(self.materials.hospitals / site),
                     "--base-model", str(self.materials.base_model), "--max-epsilon", "8", "--auto-approve",
                     *[word for rule in _RELAXED for word in ("--policy", rule)])
        self.say("The coordinator (2 of 4) takes the requests in; the officers sign the roster.")
        self.run("coordinator", "enroll", "C", *[f"{site}/{site}.request" for site in SITES])
        for name in ("ann", "bob"):
            self.run("coordinator", "roster", "sign", "C", "--key", f"{name}.key")

    def start(self) -> None:
        """Coordinator and sites as services, each site's interface listened to from before its first packet."""
        for site in SITES if self.lab else ():
            self.captures[site] = self.lab.capture(site, self.out / f"{site}.pcap")  # type: ignore[union-attr]
        self.say("The coordinator (3 of 4) serves; each hospital (2 of 2) takes part.")
        self.service("coordinator", "coordinator", "up", "C")
        for site in SITES:
            self.service(site, "site-client", "start", f"{site}/site.yaml")
        self.until(lambda: self.is_up("coordinator") and all(map(self.is_up, SITES)), 300, "everybody is ready")

    def launch_and_kill(self) -> None:
        """A run, and two deaths in the middle of rounds."""
        (self.out / "run.yaml").write_text(
            "run_id: first\ncurriculum: configs/curriculum/smoke.yaml\n"
            f"base_model: {self.materials.base_model}\npublic_examples: {self.materials.public_examples}\n"
            "federation: {timeout_s: 300}\n")
        self.say("The coordinator (4 of 4) launches a run; each site's own policy accepts it.")
        self.run("coordinator", "launch", "C", "run.yaml")
        self.until(lambda: self.rounds() >= 1, 300, "the first round is done")
        self.say("site-3's executor is killed after it uploaded in a round. Its ledger was written before.")
        self.when("site-3", "sa_mask")
        self.kill(self.child("site-3", "executor"))
        self.until(lambda: self.rounds() >= 2, 300, "the round went on, with or without it")
        self.say("Now the whole coordinator is killed, hub and executor, while the sites exchange keys.")
        self.when("site-1", "sa_share")
        for name in ("superlink", "executor"):
            self.kill(self.child("coordinator", name))
        self.kill(self.running["coordinator"].pid)
        self.running.pop("coordinator").wait()
        self.say("It is started again, as systemd would. The run goes on after its last checkpoint.")
        self.service("coordinator", "coordinator", "up", "C")
        done = self.rounds()
        self.until(lambda: self.rounds() > done, 300, "the run goes on")

    def finish(self) -> None:
        """Stop, resume, and the adapter."""
        if self.state() == "running":
            self.say("The operator stops the run after a round, and resumes it.")
            self.run("coordinator", "stop", "C", "first", check=False)
            self.until(lambda: self.state() in ("stopped", "finished"), 300, "stopped")
            if self.state() == "stopped":
                self.run("coordinator", "resume", "C", "first")
        self.run("coordinator", "watch", "C", "first")
        self.run("coordinator", "export", "C", "first", "adapter")
        self.say("Everybody is told to stop, and does.")
        for name in (*SITES, "coordinator"):
            process = self.running.pop(name)
            process.send_signal(signal.SIGTERM)
            process.wait(60)

    def open_the_books(self) -> int:
        """Ledgers, audit logs, captures: 0 when all agree."""
        faults: list[str] = []
        rounds = self.history()
        for site in SITES:
            self.run("site-client", "ledger", "verify", f"{site}/site.yaml")
            self.run("site-client", "audit", "verify", f"{site}/site.yaml")
            facts = json.loads(self.run("site-client", "ledger", "show", f"{site}/site.yaml", "--json", quiet=True))
            masked = sum(site in one["masked"] for one in rounds)
            print(f"  {site}: epsilon {facts['epsilon']:.3f} of {facts['max_epsilon']:g} in its ledger; "
                  f"in {masked} of {len(rounds)} sums' uploads")
            if facts["epsilon"] > facts["max_epsilon"]:
                faults.append(f"{site} spent more than its cap")
        faults += self.egress() if self.lab else []
        if len(rounds) + self.lost() < 6:
            faults.append(f"only {len(rounds)} rounds have a sum and {self.lost()} were lost, of 6")
        for one in rounds:
            if len(one["summed"]) < 3 or len(one["attested"]) < 3:
                faults.append(f"round {one['round']} has {len(one['summed'])} sites in its sum")
        for fault in faults:
            print(f"FAULT: {fault}")
        left = f"adapter in {self.out / 'adapter'}" if not faults else "see above"
        print(f"\n{'as it should be' if not faults else 'NOT as it should be'}: {len(rounds)} rounds summed, "
              f"{self.lost()} lost to the kill, {time.monotonic() - self.begin:.0f} s; {left}")
        return int(bool(faults))

    def egress(self) -> list[str]:
        """What left each site, from the capture of its only interface; what should not have."""
        faults = []
        self.say("What left each hospital, by its own audit log and by the packets on its only interface:")
        for site, capture in self.captures.items():
            traffic = capture.stop()
            peer = self.lab.address("coordinator") if self.lab else ""
            strays = traffic.strays(peer, PORT)
            faults += [f"{site}: {stray}" for stray in strays]
            left = int(json.loads(self.run(
                "site-client", "audit", "show", f"{site}/site.yaml", "--json", quiet=True))["bytes_that_left"])
            print(f"  {site}: peers {', '.join(sorted(traffic.peers))}; "
                  f"protocols {', '.join(sorted(traffic.protocols))}; "
                  f"{traffic.sent_bytes:,} bytes sent on the wire, {left:,} of them messages in its log")
            if left > traffic.sent_bytes:
                faults.append(f"{site}: its audit log has more bytes than left it")
            if traffic.has_dns or "UDP" in traffic.protocols:
                faults.append(f"{site}: DNS or UDP left it")
        return faults

    # ------------------------------------------------------------------ running things

    def say(self, text: str) -> None:
        print(f"\n[{time.monotonic() - self.begin:4.0f} s] {text}", flush=True)

    def run(self, program: str, *words: str, quiet: bool = False, check: bool = True) -> str:
        """Run a command to its end and show it; its standard output. Raises RuntimeError when it fails."""
        if not quiet:
            print(f"$ {shlex.join([program, *words])}", flush=True)
        done = subprocess.run([_BIN / program, *words], cwd=self.out, capture_output=True, text=True, check=False)
        if not quiet:
            shown = "".join(f"  {line}\n" for line in (done.stdout + done.stderr).splitlines())
            print(shown, end="", flush=True)
        if check and done.returncode != 0:
            raise RuntimeError(f"{program} {words[0]} failed with exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def service(self, name: str, program: str, *words: str) -> None:
        """Start a command that stays, in its namespace; its lines go to NAME.log."""
        print(f"$ {shlex.join([program, *words])} &", flush=True)
        log = (self.out / f"{name}.log").open("ab")
        command: Sequence[str | Path] = [_BIN / program, *words]
        options: dict[str, Any] = {"cwd": self.out, "stdout": log, "stderr": subprocess.STDOUT,
                                   "stdin": subprocess.DEVNULL, "env": {**os.environ, "OMP_NUM_THREADS": "1"}}
        self.running[name] = self.lab.run(name, command, **options) if self.lab else subprocess.Popen(
            command, **options)

    def until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait. Raises RuntimeError when a service ended, or time is over."""
        end = time.monotonic() + seconds
        while not condition():
            for name, process in self.running.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} ended with exit code {process.returncode}; see {self.out / name}.log")
            if time.monotonic() > end:
                raise RuntimeError(f"after {seconds:.0f} s still not: {what}; see the logs in {self.out}")
            time.sleep(0.1)
        print(f"  [{time.monotonic() - self.begin:4.0f} s] {what}", flush=True)

    def kill(self, pid: int) -> None:
        print(f"$ kill -9 {pid}", flush=True)
        os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        """End what still runs."""
        for process in self.running.values():
            process.kill()
            process.wait()

    # ------------------------------------------------------------------ what the files say

    def status(self, name: str) -> dict[str, Any]:
        path = self.out / ("C/log/up.json" if name == "coordinator" else f"{name}/state/start.json")
        try:
            found: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError):
            return {"ready": False, "children": []}
        return found

    def is_up(self, name: str) -> bool:
        return bool(self.status(name)["ready"])

    def child(self, name: str, which: str) -> int:
        return next(int(one["pid"]) for one in self.status(name)["children"] if one["name"] == which)

    def state(self) -> str:
        return str(json.loads((self.out / "C/runs/first/state.json").read_text())["state"])

    def history(self) -> list[dict[str, Any]]:
        found = sorted((self.out / "C/runs/first/checkpoints").glob("round-*/state.json"))
        return list(json.loads(found[-1].read_text())["history"]) if found else []

    def rounds(self) -> int:
        """Rounds with a sum and a quorum of attestations."""
        return sum(len(one["attested"]) >= 3 for one in self.history())

    def lost(self) -> int:
        """Rounds whose uploads began and whose sum the kill took: spent at the sites, never opened."""
        facts = json.loads((self.out / "C/runs/first/journal.json").read_text())
        return len(set(map(int, facts["masked"])) - {one["round"] for one in self.history()})

    def when(self, site: str, step: str) -> None:
        """Wait until `site` has booked its next answer to `step`: it is in the log before it leaves."""
        before = self._booked(site, step)
        self.until(lambda: self._booked(site, step) > before, 300, f"{site} answers {step}")

    def _booked(self, site: str, step: str) -> int:
        path = self.out / site / "state/audit.sqlite"
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            rows = database.execute("SELECT body FROM events WHERE kind = 'egress'").fetchall()
        database.close()
        return sum(json.loads(body)["step"] == step for (body,) in rows)




if __name__ == "__main__":
    sys.exit(main())
