"""The planner: weights to the byte, adapters to the number, sums that hang together, and what was measured on a GPU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.adapter import AdapterLayout, attach
from model.adapter_size import adapter_numbers
from model.backbone import empty
from model.memory_plan import GIB, most_tokens, parse_bytes, plan, table, weight_bytes
from model.spec import MEDGPT_OSS_20B, MEDGPT_OSS_20B_PACKED, TINY, LoraSpec, ModelSpec

LORA = LoraSpec(rank=8, alpha=16)
MEASURED = Path(__file__).resolve().parents[2] / "benchmarks" / "records" / "full_size_peaks.json"
SPECS = [
    TINY, replace(TINY, projector="internvl"), replace(TINY, experts="mxfp4"), MEDGPT_OSS_20B, MEDGPT_OSS_20B_PACKED,
    replace(MEDGPT_OSS_20B_PACKED, projector="internvl")]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.name}-{spec.projector}")
def test_weights_are_counted_to_the_byte(spec: ModelSpec) -> None:
    held = sum(tensor.numel() * tensor.element_size() for tensor in empty(spec).state_dict().values())
    assert weight_bytes(spec) == held


@pytest.mark.parametrize(
    "groups", [("attention",), ("attention", "projector"), ("projector",), ("attention", "experts")])
@pytest.mark.parametrize("projector", ["llava", "internvl"])
def test_adapters_are_counted_to_the_number(groups: tuple[str, ...], projector: str) -> None:
    spec, lora = replace(TINY, projector=projector), replace(LORA, groups=groups)
    with torch.device("meta"):
        layout = AdapterLayout(attach(empty(spec), lora, seed=0))
    assert adapter_numbers(spec, lora.rank, groups) == layout.size
    for factor in ("A", "B"):
        assert adapter_numbers(spec, lora.rank, groups, factor) == layout.select(groups, factor).size


def test_the_published_adapter() -> None:
    assert adapter_numbers(MEDGPT_OSS_20B, 8, ("attention",)) == 3_981_312


def test_more_tokens_patients_and_rank_need_more() -> None:
    small = plan(MEDGPT_OSS_20B_PACKED, LORA, length=2048)
    assert small.allocated < small.held < small.total
    assert plan(MEDGPT_OSS_20B_PACKED, LORA, length=4096).total > small.total
    assert plan(MEDGPT_OSS_20B_PACKED, LORA, length=2048, patients=4).gradients > small.gradients
    assert plan(MEDGPT_OSS_20B_PACKED, replace(LORA, rank=16), length=2048).total > small.total
    assert plan(MEDGPT_OSS_20B_PACKED, LORA, length=1024, rows=2).layer == small.layer


def test_the_longest_row_fits_and_the_next_does_not() -> None:
    free = parse_bytes("24GB")
    longest = most_tokens(MEDGPT_OSS_20B_PACKED, LORA, free)
    assert plan(MEDGPT_OSS_20B_PACKED, LORA, length=longest).total <= free
    assert plan(MEDGPT_OSS_20B_PACKED, LORA, length=longest + 1).total > free
    assert most_tokens(MEDGPT_OSS_20B, LORA, free) == 0
    rows = table(MEDGPT_OSS_20B_PACKED, LORA, free, [2048])[0]["rows"]
    assert plan(MEDGPT_OSS_20B_PACKED, LORA, length=2048, rows=rows, patients=rows).total <= free


@pytest.mark.parametrize(("text", "expected"), [
    ("24GB", 24 * 10**9), ("22.5 GiB", int(22.5 * GIB)), ("81559MiB", 81559 << 20)])
def test_amounts_of_memory(text: str, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["24", "-3GB", "GB", "24 elephants", "1e400GB", "nanGB"])
def test_other_amounts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no amount of memory"):
        parse_bytes(text)


def test_refuses_rows_that_no_model_takes() -> None:
    with pytest.raises(ValueError, match="131072 tokens"):
        plan(MEDGPT_OSS_20B, LORA, length=200_000)
    with pytest.raises(ValueError, match="at least 1"):
        plan(MEDGPT_OSS_20B, LORA, length=0)


def test_within_a_tenth_of_what_was_measured() -> None:
    """Peaks recorded on the GPU that the file names, by `python -m benchmarks.full_size --only gpu`."""
    record = json.loads(MEASURED.read_text(encoding="utf-8"))
    assert len(record["peaks"]) >= 4
    for line in record["peaks"]:
        spec = ModelSpec.from_json(json.dumps(record["specs"][line["spec"]]))
        planned = plan(spec, LoraSpec(rank=line["rank"], alpha=16), length=line["length"], rows=line["rows"],
                       patients=line["patients"], answers=line["answers"])
        assert abs(planned.held / line["held"] - 1) < 0.1, line
        assert abs(planned.allocated / line["allocated"] - 1) < 0.1, line
