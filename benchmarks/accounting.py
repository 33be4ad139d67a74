"""What accounting costs: calibrating a curriculum, and epsilon after a round from a ledger of hundreds of entries.

    python -m benchmarks.accounting [--quick] [--json FILE]

CPU seconds of one process, since machines are shared. "After a round" is the whole path: one more entry is in the
ledger, then the chain is verified and epsilon, reserved and run, is computed from its rows; median and worst over the
rounds measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from privacy.dp.accounting import ReleaseEvent, calibrate, epsilon, epsilon_rdp
from privacy.identity import SigningKey
from privacy.ledger import Ledger, LedgerEntry

__all__ = ["main"]

STAGES = (ReleaseEvent(0.02, 1.0, 300), ReleaseEvent(0.05, 1.0, 200), ReleaseEvent(0.1, 1.5, 100))
DELTA, TARGET = 1e-5, 8.0
GOALS = {"calibrate-seconds": 5.0, "epsilon-after-a-round-ms": 50.0}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the goals; exit code 1 if one is short."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds measured, end within 50 s")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args(argv)
    begin = time.process_time()
    scale = calibrate(STAGES, TARGET, DELTA)
    calibrate_s = time.process_time() - begin
    events = [ReleaseEvent(e.sampling_rate, scale * e.noise_multiplier, e.steps) for e in STAGES]
    with tempfile.TemporaryDirectory() as folder:
        rounds_ms = _rounds(Path(folder) / "ledger.sqlite", events, measured=20 if arguments.quick else 100)
    after_ms = statistics.median(rounds_ms)
    print(f"three stages, target {TARGET:g}: scale {scale:.4f}, PLD {epsilon(events, DELTA):.4f}, "
          f"RDP {epsilon_rdp(events, DELTA):.4f}")
    print(f"after a round, {len(rounds_ms)} rounds: median {after_ms:.1f} ms, worst {max(rounds_ms):.1f} ms")
    values = {"calibrate-seconds": calibrate_s, "epsilon-after-a-round-ms": after_ms}
    for name, value in values.items():
        print(f"goal {name}: {value:.2f} <= {GOALS[name]:g} {'ok' if value <= GOALS[name] else 'short'}")
    if arguments.json:
        arguments.json.write_text(json.dumps({**values, "rounds_ms": rounds_ms, "scale": scale}, indent=1))
    return int(any(value > GOALS[name] for name, value in values.items()))


def _rounds(path: Path, events: Sequence[ReleaseEvent], measured: int) -> list[float]:
    """Milliseconds after each of the last `measured` of 600 one-step rounds over all stages."""
    key = SigningKey.from_private_bytes(bytes(range(32)))
    ledger = Ledger.open(path, signing_key=key, epsilon_cap=TARGET)
    ledger.reserve_run("run", "00", list(events), DELTA)
    steps = [(stage, event) for stage, event in enumerate(events) for _ in range(event.steps)]
    first = len(steps) - measured
    taken: list[float] = []
    for number, (stage, event) in enumerate(steps):
        if number < first and number % 2:
            continue  # rounds of an earlier part are booked two steps at a time
        count = 2 if number < first else 1
        ledger.reserve(LedgerEntry(
            run_id="run", round=number, attempt=0, stage=stage, mechanism="poisson-gaussian",
            sampling_rate=event.sampling_rate, noise_multiplier=event.noise_multiplier, steps=count, clip_norm=1.0,
            delta=DELTA, entropy="simulated", created_utc="2026-01-01T00:00:00Z"))
        ledger.mark_masked("run", number)
        ledger.finish_round("run", number)
        begin = time.process_time()
        ledger.verify_chain()
        account = ledger.account()
        account.spent(), account.ran()
        if number >= first:
            taken.append(1e3 * (time.process_time() - begin))
    ledger.close()
    return taken


if __name__ == "__main__":
    raise SystemExit(main())
