"""The coordinator's web console on a real, small, live run: three hospitals and a coordinator as processes.

`make console-demo` runs it, prints the address to open, and stays until Ctrl-C or for `--seconds`. Everything is made
and started by the product's own commands (`simulations.real_federation`); the data are small and public, and the sites'
policies are relaxed for them.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from configs.load import load_config
from configs.schema import SimulationConfig
from privacy.transport.service import free_port
from simulations.console_pictures import take_pictures, write_examples
from simulations.materials import prepare
from simulations.real_federation import RealFederation

__all__ = ["launch_curriculum", "main"]

RUN = "demo"
_STAGE = """\
  - {{name: {name}, sources: {{{sources}}}, groups: [{groups}], learning_rate: 0.3, learning_rate_without_privacy: 0.3,
     local_steps: 1, sampling_rate: 0.1, rounds: {rounds}, reply_after_s: {pause}}}
"""
_STAGES = (("alignment", "patches: 2", "projector"), ("multi-image", "patches: 2", "attention, projector"),
           ("instruction", "reports: 1, patches: 1", "attention, projector"))
_RUN_FILE = """\
run_id: {run}
curriculum: {curriculum}
base_model: {base}
public_examples: {public}
privacy: {{target_epsilon: 8.0}}
federation: {{timeout_s: 120}}
"""


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m simulations.console_demo [--seconds S] [--rounds N] [--out FOLDER]`."""
    parser = argparse.ArgumentParser(prog="make console-demo", description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("runs/console-demo"), help="the folder, made anew")
    parser.add_argument("--seconds", type=float, default=0.0, help="end by itself after that; 0 = at Ctrl-C")
    parser.add_argument("--rounds", type=int, default=8, help="of each of the three stages")
    parser.add_argument("--port", type=int, default=0, help="of the console on 127.0.0.1; 0 = any that is free")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER",
                        help="take pictures of the console in the run's second half (needs Chromium and Playwright)")
    parser.add_argument("--examples", type=Path, metavar="FOLDER",
                        help="write the finished run's model card and a site's input for an impact assessment")
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    out = arguments.out.resolve()
    if out.exists():
        shutil.rmtree(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with suppress(KeyboardInterrupt):
        _play(out, arguments)
    print("ended", flush=True)
    return 0


def _play(out: Path, arguments: argparse.Namespace) -> None:
    begin, port = time.monotonic(), arguments.port or free_port()
    print("making three small hospitals (once) and their folders; the processes load for a minute", flush=True)
    materials = prepare(load_config(SimulationConfig, "simulations/smoke.yaml"), lambda what, done, total: None)
    with RealFederation(out, materials, sites=3, coordinator={"console": f"127.0.0.1:{port}"}) as federation:
        address = federation.command("coordinator", "console", "C", "--url").strip()
        launch_curriculum(federation, RUN, arguments.rounds)
        print(f"\nthe console is live; open\n  {address}\nthe folder is {federation.home}; Ctrl-C ends everything",
              flush=True)
        if arguments.pictures is not None:
            federation.wait_for_rounds(RUN, 2 * arguments.rounds, timeout_s=1200)
            for picture in take_pictures(address, arguments.pictures, RUN):
                print(f"picture: {picture}", flush=True)
        _export_at_the_end(federation, begin + arguments.seconds if arguments.seconds else None, arguments.examples)


def launch_curriculum(federation: RealFederation, run: str, rounds: int, pause_s: float = 0.0) -> None:
    """Queue a run of three stages with that many rounds each, evaluated on public questions after every round."""
    folder = federation.folder
    curriculum = folder / f"{run}.curriculum.yaml"
    curriculum.write_text("stages:\n" + "".join(
        _STAGE.format(name=name, sources=sources, groups=groups, rounds=rounds, pause=pause_s)
        for name, sources, groups in _STAGES), encoding="utf-8")
    file = folder / f"{run}.yaml"
    file.write_text(_RUN_FILE.format(
        run=run, curriculum=curriculum, base=federation.materials.base_model,
        public=federation.materials.public_examples), encoding="utf-8")
    federation.command("coordinator", "launch", "C", str(file), "--detach")


def _export_at_the_end(federation: RealFederation, ends: float | None, examples: Path | None) -> None:
    """Wait; a run that finishes is exported, so that the console has a release to show."""
    said = ""
    while ends is None or time.monotonic() < ends:
        run = federation.queue.get(RUN)
        if run.state in ("finished", "failed") and run.state != said:
            said = run.state
            print(federation.command("coordinator", "export", "C", RUN, "release", check=False).strip()
                  if said == "finished" else f"the run failed: {run.reason}", flush=True)
            if said == "finished" and examples is not None:
                for paper in write_examples(federation, federation.folder / "release", examples):
                    print(f"example: {paper}", flush=True)
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
