"""The tables of `benchmarks.dp_step` as Markdown. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks._exactness import Deviation
    from benchmarks._measure import ArmResult, PointResult

__all__ = ["error_lines", "footnotes", "header", "row"]

_BASE = "non-private"
_TITLES = {
    "attention": "Attention LoRA", "experts": "Expert and attention LoRA",
    "packed": "Ragged batches (46 % fill), against the padded non-private step",
}


def header(result: PointResult) -> list[str]:
    """Title and head of the table that starts with this point."""
    others = [name for name in result.arms if name != _BASE]
    names = ["B,T,r,d", "non-private ms / MB", *others, "noise ms"]
    return [f"{_TITLES[result.point.family]}: time [95 % interval] / peak memory, relative to non-private", "",
            f"| {' | '.join(names)} |", "|" + " --- |" * len(names)]


def row(result: PointResult) -> str:
    """One point's line."""
    base = result.arms[_BASE]
    first = "-" if base.median_s is None else f"{base.median_s * 1e3:.1f} / {_megabytes(base.peak_bytes)}"
    cells = [_cell(arm) for name, arm in result.arms.items() if name != _BASE]
    noise = "-" if result.noise_s is None else f"{result.noise_s * 1e3:.1f}"
    return f"| {' | '.join([result.point.label, first, *cells, noise])} |"


def footnotes(results: Sequence[PointResult]) -> Iterator[str]:
    """Why arms were left out, each reason once."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for result in results:
        for name, arm in result.arms.items():
            if arm.skipped:
                reasons.setdefault((name, arm.skipped), []).append(result.point.label)
    for (name, reason), labels in reasons.items():
        yield f"{name} left out at {'; '.join(labels)}: {reason}"


def error_lines(deviations: Sequence[Deviation]) -> Iterator[str]:
    """The table of errors against the float64 loop."""
    yield "Largest relative error against a float64 loop over patients: gradient norm / clipped sum"
    yield ""
    yield "| B,T,r,d | arm | float32 | float64 |"
    yield "| --- | --- | --- | --- |"
    found: dict[tuple[str, str], dict[str, str]] = {}
    for one in deviations:
        cells = found.setdefault((one.point.label, one.arm), {})
        cells[one.dtype] = f"{one.norm:.1e} / {one.clipped_sum:.1e}"
    for (label, arm), cells in found.items():
        yield f"| {label} | {arm} | {cells.get('float32', '-')} | {cells.get('float64', '-')} |"


def _cell(arm: ArmResult) -> str:
    if arm.skipped or arm.ratio is None:
        return "-"
    interval = f"{arm.ratio.median:.3f} [{arm.ratio.low:.3f}, {arm.ratio.high:.3f}]"
    return interval if arm.memory_ratio is None else f"{interval} / {arm.memory_ratio:.3f}"


def _megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.1f}"
