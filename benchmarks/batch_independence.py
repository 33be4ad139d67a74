"""Does a patient's gradient depend on batch-mates? The sensitivity proof assumes that it does not; this measures it.

    python -m benchmarks.batch_independence [--quick] [--json FILE] [--device cpu|cuda]

Kernels may add in another order for another batch shape, and a router's choice of experts may flip on a near tie. Each
patient's clipped gradient in a batch is compared with the one of the same patient alone, on a small mixture of experts.
No goal: it reports, relative to the clip norm C, the largest change of one patient and the sum over all patients.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks._grid import Point

if TYPE_CHECKING:
    from torch import Tensor

    from benchmarks._workload import Batch

__all__ = ["Change", "main"]

_POINT = Point(8, 64, 8, 128, ragged=True)


@dataclass(frozen=True)
class Change:
    """largest, total: change of one patient's clipped gradient and its sum over patients, in units of C.

    flips: share of (token, layer) whose set of experts differs from that of the patient alone.
    """

    layout: str
    dtype: str
    largest: float
    total: float
    flips: float


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; exit code 0, or 2 without the device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="float32 only")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args(argv)
    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("batch_independence: torch finds no CUDA device here; run with --device cpu")
        return 2
    torch.set_num_threads(1)
    where = torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu"
    print(f"device {where}, torch {torch.__version__}, {_POINT.num_patients} patients\n")
    print("| layout | precision | largest change / C | summed over patients / C | experts flipped |")
    print("| --- | --- | --- | --- | --- |")
    found: list[Change] = []
    for dtype in ("float32",) if arguments.quick else ("float32", "autocast"):
        for change in _changes(arguments.device, dtype):
            print(f"| {change.layout} | {change.dtype} | {change.largest:.1e} | {change.total:.1e} | "
                  f"{change.flips:.2%} |", flush=True)
            found.append(change)
    if arguments.json:
        arguments.json.write_text(json.dumps({"device": where, "changes": [asdict(one) for one in found]}, indent=1))
    return 0


def _changes(device: str, dtype: str) -> list[Change]:
    import torch

    from benchmarks._workload import build, make_batch

    adapted = build(_POINT, device, dtype, "fused_sinks")
    batch = make_batch(_POINT, device)
    patients = range(batch.num_patients)
    alone = [_gradient(adapted, batch.alone(p), 0, dtype, device) for p in patients]
    bound = float(torch.stack([gradient.norm() for gradient, _ in alone]).median())
    changes = []
    for layout, other, kept in _layouts(batch):
        gaps, flipped, looked = [], 0, 0
        for p in kept:
            gradient, experts = _gradient(adapted, other, p, dtype, device)
            gaps.append(float((_clip(gradient, bound) - _clip(alone[p][0], bound)).norm()) / bound)
            flipped += int((experts != alone[p][1]).any(dim=-1).sum())
            looked += experts[..., 0].numel()
        changes.append(Change(layout, dtype, max(gaps), sum(gaps), flipped / looked))
    return changes


def _layouts(batch: Batch) -> list[tuple[str, Batch, range]]:
    """Name, batch, and the patients of it that are compared."""
    half = batch.num_patients // 2
    few = replace(batch, ids=batch.ids[:half], mask=batch.mask[:half], labels=batch.labels[:half],
                  patients=batch.patients[:half], num_patients=half)
    others = batch.ids.clone()
    others[half:] = others[half:].flip(1).roll(7, 1)
    mates = replace(batch, ids=others)
    return [("all patients", batch, range(2 * half)), ("half of them", few, range(half)),
            ("other batch-mates", mates, range(half))]


def _gradient(adapted: Any, batch: Batch, patient: int, dtype: str, device: str) -> tuple[Tensor, Tensor]:
    """float64 gradient of one patient's loss in this batch, and its tokens' experts (layers, tokens, k), sorted."""
    import torch

    from benchmarks._workload import patient_losses, precision, trainable

    seen: list[Tensor] = []
    routers = [module for module in adapted.modules() if type(module).__name__ == "GptOssTopKRouter"]
    handles = [router.register_forward_hook(lambda _m, _x, out: seen.append(out[2].detach())) for router in routers]
    adapted.zero_grad(set_to_none=True)
    with precision(dtype, device):
        patient_losses(adapted, batch)[patient].backward()
    for handle in handles:
        handle.remove()
    length = int(batch.mask[patient].sum())
    start = patient * batch.ids.shape[1]
    experts = torch.stack([choice[start : start + length].sort(dim=-1).values for choice in seen])
    flat = torch.cat([p.grad.flatten().double() for _, p in trainable(adapted) if p.grad is not None])
    return flat, experts


def _clip(gradient: Tensor, bound: float) -> Tensor:
    return gradient * min(1.0, bound / float(gradient.norm()))


if __name__ == "__main__":
    raise SystemExit(main())
