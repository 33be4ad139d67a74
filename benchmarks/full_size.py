"""MedGPT-oss at full size: one private step of the 20B model with random weights, its seconds and its memory.

    python -m benchmarks.full_size [--quick] [--json FILE] [--only host|gpu] [--lengths N...]

host: in a process of its own, the 20B with its experts packed as MXFP4, attention and projector adapted at rank 8,
layers recomputed: forward, backward, clip, sum and noise of one patient's row with an image tile. It is slow (tens of
minutes on two cores); what counts is that it runs, and the peak of the process.

gpu: where torch finds CUDA. Private and non-private steps on the same packed route in turn, rows of 2,048, 8,192 and
32,768 tokens, one row in a micro-batch; then stock PEFT on dense bfloat16 experts with eager attention. Peak: bytes
that torch's allocator held, weights included; the CUDA context is not in it (about 0.5 GiB). Peaks of more shapes stand
beside what `site-client plan-memory` says; `--record FILE` keeps them for its test.

load: only with `--only load --tokenizer FILE` (`coordinator make-tokenizer`): a base folder with random weights is
written to the temporary folder (15 GB), hashed, loaded and brought to the device.

`--quick` (within 50 s) runs one layer of the 20B in place of 24, with 16,384 words: it shows that the code runs, and
measures no goal.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks._ratios import Goal, exit_code, goal_line, ratio_of

if TYPE_CHECKING:
    from benchmarks._full_size_measure import Row

__all__ = ["main"]

GIB = 1 << 30
_HOST_LENGTH, _HOST_TILES = 704, 1
_LENGTHS = (2048, 8192, 32768)
_TILES = {2048: 2, 8192: 8, 32768: 13}
# (tokens, rows, tiles a row) of the peaks that the planner is compared with
_SHAPES = ((1024, 1, 1), (2048, 1, 2), (2048, 4, 2), (4096, 1, 4), (8192, 1, 8), (16384, 1, 13), (32768, 1, 13))
_CODE = "import sys; from benchmarks._full_size_measure import main; main(sys.argv[1])"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print tables and goals; exit code 1 if one is short."""
    arguments = _arguments(argv)
    spec = _full_spec()
    if arguments.quick:
        spec = replace(spec, name="one-layer", num_layers=1, vision_layers=2, vocab_size=16_384, bos_token_id=1,
                       eos_token_id=2, pad_token_id=0, image_token_id=9)
    figures: dict[str, Any] = {"where": _where(), "quick": arguments.quick}
    print(", ".join(f"{key} {value}" for key, value in figures["where"].items()), flush=True)
    if arguments.only == "load":
        figures["load"] = _load(spec, arguments)
    elif arguments.only != "gpu":
        figures["host"] = _host(spec, arguments.threads)
    if arguments.only in (None, "gpu") and _has_gpu() and not arguments.quick:
        figures["gpu"] = _gpu(spec, arguments.lengths)
        if arguments.record:
            _record(arguments.record, spec, figures)
    goals = _goals(figures, arguments)
    print("", *(goal_line(goal) for goal in goals), sep="\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures | {"goals": [asdict(goal) for goal in goals]}, indent=1))
    return exit_code(goals)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one layer instead of 24, end within 50 s")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--record", type=Path, help="write the measured peaks here (benchmarks/records)")
    parser.add_argument("--only", choices=("host", "gpu", "load"), help="only this part")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json of the base folder that `load` writes")
    parser.add_argument("--lengths", type=int, nargs="+", default=list(_LENGTHS), help="tokens of a row on the GPU")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="torch's threads on the host (default all)")
    return parser.parse_args(argv)


def _full_spec() -> Any:
    from model.spec import MEDGPT_OSS_20B_PACKED

    return MEDGPT_OSS_20B_PACKED


def _where() -> dict[str, str]:
    import datetime

    import torch
    import transformers

    from benchmarks.dp_step import processor

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return {"date": datetime.date.today().isoformat(), "host": f"{processor()}, {os.cpu_count()} cores",
            "device": device, "torch": torch.__version__, "transformers": transformers.__version__}


def _has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _host(spec: Any, threads: int) -> dict[str, Any]:
    """The step in a child, whose peak is the model's and its own."""
    point = {"length": _HOST_LENGTH, "tiles": _HOST_TILES, "patients": 1, "rounds": 1}
    given = json.dumps({"spec": spec.to_json(), "point": point, "threads": threads})
    child = subprocess.run([sys.executable, "-c", _CODE, given], stdout=subprocess.PIPE, text=True, check=False)
    if child.returncode:
        raise SystemExit(f"full_size: the step on the host ended with {child.returncode}; see above")
    found: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    print(
        f"\nhost: {spec.num_layers} layers, {found['length']} tokens, {spec.tokens_per_tile} of them an image's, "
        f"{found['answer_tokens']} with loss, {found['coordinates']:,} trained coordinates\n"
        f"model made in {found['made_s']:.0f} s, step {found['seconds']:.0f} s ({found['cpu_s']:.0f} CPU s), "
        f"peak {found['peak'] / GIB:.2f} GiB, loss {found['loss']:.2f}", flush=True)
    return found


def _load(spec: Any, arguments: argparse.Namespace) -> dict[str, float]:
    import tempfile

    from benchmarks._full_size_measure import load_times

    if arguments.tokenizer is None:
        raise SystemExit("full_size: --only load needs --tokenizer FILE; coordinator make-tokenizer writes one")
    device = "cuda" if _has_gpu() else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        found = load_times(spec, arguments.tokenizer, Path(folder) / "base", device)
    print(f"\nbase folder of {found['bytes'] / 1e9:.1f} GB: hashed in {found['hash_s']:.1f} s, loaded with its hash in "
          f"{found['load_s']:.1f} s, to {device} in {found['to_device_s']:.1f} s; peak of the process "
          f"{found['held'] / GIB:.2f} GiB", flush=True)
    return found


def _gpu(spec: Any, lengths: Sequence[int]) -> dict[str, Any]:
    import gc

    import torch

    from benchmarks._full_size_measure import Plain, Point, Private, Stock, as_json, gpu_rows

    rows: list[Row] = []

    def report(row: Row) -> None:
        rows.append(row)
        print(_line(row), flush=True)

    print("\n| arm | row | tokens/s | peak allocated GiB | peak held GiB |", "| --- | --- | --- | --- | --- |",
          sep="\n", flush=True)
    points = [Point(n, _TILES.get(n, 0), max(2, 16 * 2048 // n), 5 if n <= 2048 else 2) for n in lengths]
    packed = gpu_rows(spec, points, (Plain, Private), report, _SHAPES)
    gc.collect()
    torch.cuda.empty_cache()
    dense = gpu_rows(replace(spec, experts="dense"), points[:2], (Stock,), report)
    _print_plan(spec, packed["peaks"])
    print(f"\nweights packed {packed['weights'] / GIB:.2f} GiB, dense {dense['weights'] / GIB:.2f} GiB", flush=True)
    return {"rows": [as_json(row) for row in rows], "packed": packed, "dense": dense}


def _planned(spec: Any, line: dict[str, int]) -> Any:
    from benchmarks._full_size_measure import LORA
    from model.memory_plan import plan

    return plan(spec, LORA, length=line["length"], rows=line["rows"], patients=line["patients"],
                answers=line["answers"])


def _print_plan(spec: Any, peaks: Sequence[dict[str, int]]) -> None:
    print("\n| rows x tokens | planned GiB held | measured | planned / measured |", "| --- | --- | --- | --- |",
          sep="\n")
    for line in peaks:
        held = _planned(spec, line).held
        print(f"| {line['rows']} x {line['length']:,} | {held / GIB:.2f} | {line['held'] / GIB:.2f} | "
              f"{held / line['held']:.3f} |", flush=True)


def _record(path: Path, spec: Any, figures: dict[str, Any]) -> None:
    peaks = [{"spec": spec.name} | line for line in figures["gpu"]["packed"]["peaks"]]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(
        {"where": figures["where"], "specs": {spec.name: asdict(spec)}, "peaks": peaks}, indent=1) + "\n")


def _line(row: Row) -> str:
    if row.reason:
        return f"| {row.arm} | {row.length:,} | {row.reason} | | |"
    return (f"| {row.arm} | {row.length:,} | {row.tokens_per_s:,.0f} | {row.peak / GIB:.2f} | "
            f"{row.reserved / GIB:.2f} |")


def _goals(figures: dict[str, Any], arguments: argparse.Namespace) -> list[Goal]:
    why = "--quick" if arguments.quick else "not asked for"
    host = figures.get("host")
    goals = [Goal("host-peak-gib", 20.0, host["peak"] / GIB) if host and not arguments.quick
             else Goal("host-peak-gib", 20.0, reason=why)]
    rows = {(row["arm"], row["length"]): row for row in figures.get("gpu", {}).get("rows", [])}
    private, plain = (rows.get((f"{name}, packed", 2048)) for name in ("private", "non-private"))
    if not private or not plain or not private["seconds"] or not plain["seconds"]:
        why = why if arguments.quick or arguments.only == "host" else "no GPU here"
        return [*goals, Goal("gpu-peak-gib-at-2048", 20.0, reason=why),
                Goal("private-over-plain-seconds", 1 / 0.95, reason=why), Goal("planner-error", 0.1, reason=why)]
    ratio = ratio_of([a / b for a, b in zip(private["seconds"], plain["seconds"], strict=True)])
    return [*goals, Goal("gpu-peak-gib-at-2048", 20.0, private["reserved"] / GIB),
            Goal("private-over-plain-seconds", 1 / 0.95, ratio.median),
            Goal("planner-error", 0.1, max(
                abs(_planned(_full_spec(), line).held / line["held"] - 1)
                for line in figures["gpu"]["packed"]["peaks"]))]


if __name__ == "__main__":
    raise SystemExit(main())
