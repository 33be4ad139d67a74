"""Merged weights equal the adapted model, load everywhere, and are made without the base in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlavaForConditionalGeneration

from model.adapter import AdapterLayout, attach
from model.backbone import BASE_FILES, BaseModel, build, load_base, save_base
from model.checkpoint import read_spec
from model.inputs import Example, collate, encode_all
from model.loss import answer_logits
from model.merge import adapter_changes, base_tensors, merge_base, merged_tensors
from model.spec import DEFAULT_GROUPS, GROUPS, LoraSpec, ModelSpec
from model.weights_file import INDEX as INDEX_FILE

ROOT = Path(__file__).resolve().parents[2]


def random_vector(spec: ModelSpec, lora: LoraSpec, scale: float = 0.1) -> np.ndarray:
    size = AdapterLayout(attach(build(spec, 0), lora, seed=0)).size
    return np.random.default_rng(0).normal(0, scale, size).astype(np.float32).astype(np.float64)


def merged(base: BaseModel, spec: ModelSpec, folder: Path, lora: LoraSpec, **options: int) -> np.ndarray:
    """A base in FOLDER/base, and it with an adapter merged in FOLDER/out; the adapter's numbers."""
    save_base(build(spec, seed=3), base.tokenizer, spec, folder / "base")
    vector = random_vector(spec, lora)
    (folder / "out").mkdir()
    merge_base(folder / "base", folder / "out", adapter_changes(spec, lora, vector), **options)
    return vector


def adapted_logits(folder: Path, lora: LoraSpec, vector: np.ndarray, batch: object) -> torch.Tensor:
    model = attach(load_base(folder).model, lora, seed=0)
    AdapterLayout(model).write(model, vector)
    with torch.no_grad():
        return answer_logits(model, batch)  # type: ignore[arg-type]


@pytest.mark.parametrize("groups", [DEFAULT_GROUPS, tuple(GROUPS)])
def test_logits_are_the_adapted_models_in_our_loader_and_in_transformers(
    base: BaseModel, spec: ModelSpec, examples: list[Example], tmp_path: Path, groups: tuple[str, ...]
) -> None:
    lora = LoraSpec(rank=4, alpha=12, groups=groups)
    vector = merged(base, spec, tmp_path, lora)
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(BASE_FILES)
    batch = collate(encode_all(examples, base.tokenizer, spec))
    adapted = adapted_logits(tmp_path / "base", lora, vector, batch)
    theirs = LlavaForConditionalGeneration.from_pretrained(tmp_path / "out", attn_implementation="eager").eval()
    with torch.no_grad():
        ours = answer_logits(load_base(tmp_path / "out").model, batch)
        stock = answer_logits(theirs, batch)
        plain = answer_logits(load_base(tmp_path / "base").model, batch)
    assert torch.allclose(ours, adapted, atol=1e-5) and torch.allclose(stock, adapted, atol=1e-5)
    assert not torch.allclose(plain, adapted, atol=1e-3)


def test_several_shards_have_an_index_that_transformers_reads(
    base: BaseModel, spec: ModelSpec, tmp_path: Path
) -> None:
    merged(base, spec, tmp_path, LoraSpec(rank=4), shard_bytes=60_000)
    index = json.loads((tmp_path / "out" / INDEX_FILE).read_text())
    files = sorted(path.name for path in (tmp_path / "out").glob("*.safetensors"))
    assert len(files) > 2 and files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    state = {name: tensor for file in files for name, tensor in load_file(tmp_path / "out" / file).items()}
    assert index["weight_map"] == {name: file for file in files for name in load_file(tmp_path / "out" / file)}
    assert index["metadata"]["total_size"] == sum(t.numel() * t.element_size() for t in state.values())
    (tmp_path / "one").mkdir()
    changes = adapter_changes(spec, LoraSpec(rank=4), random_vector(spec, LoraSpec(rank=4)))
    merge_base(tmp_path / "base", tmp_path / "one", changes)
    single = load_file(tmp_path / "one" / "model.safetensors")
    assert state.keys() == single.keys() and all(torch.equal(state[name], single[name]) for name in state)
    theirs = LlavaForConditionalGeneration.from_pretrained(tmp_path / "out").state_dict()
    assert theirs.keys() == state.keys() and all(torch.equal(theirs[name], state[name]) for name in state)


def test_a_base_in_shards_gives_the_same(base: BaseModel, spec: ModelSpec, tmp_path: Path) -> None:
    merged(base, spec, tmp_path, LoraSpec(rank=4))
    whole = load_file(tmp_path / "base" / "model.safetensors")
    for number, names in enumerate((sorted(whole)[::2], sorted(whole)[1::2])):
        save_file({name: whole[name] for name in names}, tmp_path / "base" / f"part-{number}.safetensors")
    with pytest.raises(ValueError, match=r"twice, in .* and .*; keep one"):
        base_tensors(tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").unlink()
    changes = adapter_changes(spec, LoraSpec(rank=4), random_vector(spec, LoraSpec(rank=4)))
    ours = dict(merged_tensors(tmp_path / "base", changes))
    expected = load_file(tmp_path / "out" / "model.safetensors")
    assert ours.keys() == expected.keys() and all(torch.equal(ours[name], expected[name]) for name in ours)


def test_types_are_kept_and_packed_experts_copied(base: BaseModel, spec: ModelSpec, tmp_path: Path) -> None:
    packed = replace(spec, dtype="bfloat16", experts="mxfp4", hidden_size=32, expert_size=32)
    lora = LoraSpec(rank=4)
    vector = merged(base, packed, tmp_path, lora)
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("base", "out"))
    assert {name: t.dtype for name, t in before.items()} == {name: t.dtype for name, t in after.items()}
    assert {t.dtype for t in after.values()} == {torch.bfloat16, torch.uint8}
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == set(adapter_changes(packed, lora, vector))
    name = "model.language_model.layers.0.self_attn.q_proj.weight"
    change = adapter_changes(packed, lora, vector)[name]
    exact = before[name].double() + lora.alpha / lora.rank * change.b.double() @ change.a.double()
    assert torch.equal(after[name], exact.to(torch.bfloat16))
    load_base(tmp_path / "out")


def test_adapters_on_packed_experts_are_refused(spec: ModelSpec) -> None:
    packed = replace(spec, experts="mxfp4", hidden_size=32, expert_size=32)
    with pytest.raises(ValueError, match="packs as MXFP4; use the base model with dense"):
        adapter_changes(packed, LoraSpec(groups=("attention", "experts")), np.zeros(3))


def test_another_base_is_refused(base: BaseModel, spec: ModelSpec, tmp_path: Path) -> None:
    lora = LoraSpec(rank=4)
    vector = merged(base, spec, tmp_path, lora)
    with pytest.raises(ValueError, match="of another base, rank or set of groups"):
        adapter_changes(spec, LoraSpec(rank=8), vector)
    changes = adapter_changes(spec, lora, vector)
    other = replace(spec, num_layers=1)
    save_base(build(other, 0), base.tokenizer, other, tmp_path / "short")
    with pytest.raises(ValueError, match=r"no weight .*layers\.1\..* of another base"):
        merge_base(tmp_path / "short", tmp_path / "out", changes)
    wide = replace(spec, hidden_size=64)
    save_base(build(wide, 0), base.tokenizer, wide, tmp_path / "wide")
    with pytest.raises(ValueError, match="do not fit the base model's"):
        merge_base(tmp_path / "wide", tmp_path / "out", changes)
    (tmp_path / "base" / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors of the base model is damaged"):
        base_tensors(tmp_path / "base")
    with pytest.raises(ValueError, match=r"spec\.json is missing"):
        read_spec(tmp_path)


_MEASURE = """
import re, sys
from pathlib import Path
import numpy as np
from model.adapter import AdapterLayout, attach
from model.backbone import empty
from model.export import adapter_without_base, write_adapter
from model.checkpoint import read_spec
from model.merge import adapter_changes, merge_base
from model.spec import LoraSpec
base, out = Path(sys.argv[1]), Path(sys.argv[2])
def now(name): return 1024 * int(re.search(name + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
lora, spec = LoraSpec(groups=("attention", "projector", "experts")), read_spec(base)
vector = np.zeros(AdapterLayout(attach(empty(spec), lora, 0)).size) + 1e-3
Path("/proc/self/clear_refs").write_text("5")  # the peak so far is of the imports
before = now("VmRSS")
write_adapter(adapter_without_base(spec, lora, vector), out / "peft")
merge_base(base, out, adapter_changes(spec, lora, vector))
print(now("VmHWM") - before)
"""


def test_neither_format_needs_the_base_in_memory(base: BaseModel, spec: ModelSpec, tmp_path: Path) -> None:
    large = replace(spec, hidden_size=512, expert_size=512, num_layers=16, num_heads=8, head_dim=64, num_experts=8)
    save_base(build(large, 0), base.tokenizer, large, tmp_path / "base")
    size = (tmp_path / "base" / "model.safetensors").stat().st_size
    assert size > 400e6
    (tmp_path / "out").mkdir()
    done = subprocess.run([sys.executable, "-c", _MEASURE, tmp_path / "base", tmp_path / "out"], cwd=ROOT, text=True,
                          capture_output=True, check=True, env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
                                                                "PATH": "/usr/bin:/bin"})
    assert (tmp_path / "out" / "model.safetensors").stat().st_size == size
    assert int(done.stdout) < size / 4, f"{int(done.stdout) / 1e6:.0f} MB of {size / 1e6:.0f} MB"
