"""Steps at full size: a plain gradient, the private one, and stock PEFT; their seconds and their memory."""

from __future__ import annotations

import gc
import json
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks._full_size_model import answer_tokens, loaded, row_of, with_adapter
from model.backbone import hash_model, load_base, save_base
from model.inputs import IGNORE, Batch
from model.loss import answer_losses
from model.spec import LoraSpec, ModelSpec
from model.tokenizer import load_tokenizer
from privacy.dp.engine import PatientGradients

__all__ = ["Point", "Row", "gpu_rows", "host_step", "load_times"]

LORA = LoraSpec(rank=8, alpha=16)


@dataclass(frozen=True)
class Point:
    """patients rows of `length` tokens with `tiles` image tiles each, one row in a micro-batch."""

    length: int
    tiles: int
    patients: int
    rounds: int


@dataclass
class Row:
    """What one arm took at one point: seconds of each round, peak bytes held by torch's allocator; or why not."""

    arm: str
    length: int
    tokens: int
    seconds: list[float]
    peak: int = 0
    reserved: int = 0
    reason: str = ""

    @property
    def tokens_per_s(self) -> float:
        """Median over rounds."""
        return self.tokens / statistics.median(self.seconds)


class Plain:
    """Non-private on the same route: the sum of the rows' gradients, by ordinary autograd."""

    name = "non-private, packed"

    def __init__(self, model: Any, trained: list[tuple[str, nn.Parameter]]) -> None:
        self.model, self.trained = model, trained

    def step(self, rows: Sequence[Batch]) -> float:
        """One step over all rows; the mean loss."""
        total = 0.0
        for row in rows:
            loss = answer_losses(self.model, row).loss.sum()
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        for _, parameter in self.trained:
            parameter.grad = None
        return total / len(rows)

    def close(self) -> None:
        """Nothing to give back."""


class Private(Plain):
    """Each patient clipped, their sum brought to the host, the noise added."""

    name = "private, packed"

    def __init__(self, model: Any, trained: list[tuple[str, nn.Parameter]]) -> None:
        super().__init__(model, trained)
        self.engine = PatientGradients(model, trained, clip_norm=1.0)
        self.noise = _noise()

    def step(self, rows: Sequence[Batch]) -> float:
        total = 0.0
        for row in rows:
            owner = torch.arange(len(row.labels))  # each row a patient
            with self.engine.microbatch(
                text_patients=owner, image_patients=owner[row.tile_rows.cpu()], num_patients=len(owner)
            ):
                loss = answer_losses(self.model, row).loss.sum()
                loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
            self.engine.collect()
        clipped = self.engine.finish()
        if clipped.num_nonfinite_local:
            raise RuntimeError("a patient's gradient is not finite")
        if self.noise is not None:
            self.noise(clipped)
        return total / len(rows)

    def close(self) -> None:
        self.engine.detach()


class Stock(Plain):
    """Dense experts in bfloat16, transformers' eager attention and loss, PEFT's adapters: what one would start with."""

    name = "non-private, dense, stock"

    def step(self, rows: Sequence[Batch]) -> float:
        total = 0.0
        for row in rows:
            outputs = self.model(
                input_ids=row.input_ids, attention_mask=row.attention_mask, pixel_values=row.pixel_values,
                labels=row.labels, use_cache=False)
            outputs.loss.backward()
            total += float(outputs.loss.detach())
        for _, parameter in self.trained:
            parameter.grad = None
        return total / len(rows)


def _noise() -> Callable[[Any], object] | None:
    """The noise of a step, or None on a machine without the library of the random source."""
    try:
        from privacy.dp.noise import noisy_sum
        from privacy.entropy import SystemEntropy
    except ImportError:
        return None
    source = SystemEntropy()
    return lambda clipped: noisy_sum(clipped, 1.0, source)


def host_step(spec: ModelSpec, point: Point) -> dict[str, Any]:
    """One private step on the CPU: seconds to make the model, seconds of the step, the process's peak in bytes."""
    begin = time.monotonic()
    adapted, trained = with_adapter(loaded(spec, "cpu"), LORA)
    rows = _rows(spec, point, "cpu")
    made, arm = time.monotonic() - begin, Private(adapted, trained)
    begin, used = time.monotonic(), time.process_time()
    loss = arm.step(rows)
    return {
        "made_s": made, "seconds": time.monotonic() - begin, "cpu_s": time.process_time() - used, "loss": loss,
        "length": point.length, "tiles": point.tiles, "coordinates": arm.engine.dimension,
        "answer_tokens": int((rows[0].labels != IGNORE).sum()), "noised": arm.noise is not None,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def load_times(spec: ModelSpec, tokenizer: Path, folder: Path, device: str) -> dict[str, float]:
    """Seconds to write a base folder with random weights, to hash it, to load it (which hashes it again) and to bring
    it to the device; bytes on disk, and the process's peak so far. What the page cache holds is read from there."""
    found: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        begin = time.monotonic()
        result = work()
        if device == "cuda":
            torch.cuda.synchronize()
        found[name] = time.monotonic() - begin
        return result

    timed("write_s", lambda: save_base(loaded(spec, device), load_tokenizer(tokenizer), spec, folder))
    found["bytes"] = sum(path.stat().st_size for path in folder.iterdir())
    gc.collect()
    timed("hash_s", lambda: hash_model(folder))
    base = timed("load_s", lambda: load_base(folder))
    found["held"] = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    timed("to_device_s", lambda: base.model.to(device))
    return found


def peaks(
    spec: ModelSpec, adapted: Any, trained: list[tuple[str, nn.Parameter]], shapes: Sequence[tuple[int, int, int]]
) -> list[dict[str, int]]:
    """One private micro-batch for each (length, rows, tiles a row): what torch's allocator handed out and held."""
    found = []
    for length, rows, tiles in shapes:
        batch = row_of(spec, length, tiles, "cuda", seed=0, rows=rows)
        row, arm = Row(Private.name, length, length * rows, []), Private(adapted, trained)
        arm.noise = None
        try:
            _one(arm, [batch], row)
        finally:
            arm.close()
        found.append({"length": length, "rows": rows, "patients": rows, "tiles": tiles, "rank": LORA.rank,
                      "answers": rows * answer_tokens(length), "allocated": row.peak, "held": row.reserved})
        del batch
    return found


def gpu_rows(spec: ModelSpec, points: Sequence[Point], arms: Sequence[type[Plain]], report: Callable[[Row], None],
             shapes: Sequence[tuple[int, int, int]] = ()) -> dict[str, Any]:
    """Each point's arms in turn, a warm-up first; seconds to make the model, its bytes, and the peaks of `shapes`."""
    begin = time.monotonic()
    attention = "eager" if Stock in arms else "fused_sinks"
    adapted, trained = with_adapter(loaded(spec, "cuda", attention=attention), LORA)
    torch.cuda.synchronize()
    facts: dict[str, Any] = {"made_s": time.monotonic() - begin, "weights": torch.cuda.memory_allocated()}
    facts["peaks"] = peaks(spec, adapted, trained, shapes)
    for point in points:
        for row in _timed(spec, point, adapted, trained, arms):
            report(row)
    return facts


def _timed(
    spec: ModelSpec, point: Point, adapted: Any, trained: list[tuple[str, nn.Parameter]], arms: Sequence[type[Plain]]
) -> list[Row]:
    rows = _rows(spec, point, "cuda")
    found = {kind: Row(kind.name, point.length, point.length * point.patients, []) for kind in arms}
    for number in range(point.rounds + 1):
        for kind in arms if number % 2 else arms[::-1]:
            row = found[kind]
            if row.reason:
                continue
            arm = kind(adapted, trained)
            try:
                seconds = _one(arm, rows, row)
            except torch.OutOfMemoryError:
                row.reason = "out of memory"
            else:
                if number:  # the first compiles and fills the allocator
                    row.seconds.append(seconds)
            finally:
                arm.close()
    return list(found.values())


def _one(arm: Plain, rows: Sequence[Batch], row: Row) -> float:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.synchronize()
    begin = time.monotonic()
    arm.step(rows)
    torch.cuda.synchronize()
    seconds = time.monotonic() - begin
    row.peak = max(row.peak, torch.cuda.max_memory_allocated())
    row.reserved = max(row.reserved, torch.cuda.max_memory_reserved())
    return seconds


def _rows(spec: ModelSpec, point: Point, device: str) -> list[Batch]:
    return [row_of(spec, point.length, point.tiles, device, seed) for seed in range(point.patients)]


def main(text: str) -> None:
    """A child of `benchmarks.full_size` on the CPU: JSON of the spec and the point in, JSON of the figures out."""
    given = json.loads(text)
    torch.set_num_threads(given["threads"])
    print(json.dumps(host_step(ModelSpec.from_json(given["spec"]), Point(**given["point"]))), flush=True)


def as_json(row: Row) -> dict[str, Any]:
    """For the report."""
    return asdict(row)
