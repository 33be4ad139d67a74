"""From published checkpoints to this project's own form: the same weights, in shards, within the memory of one."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model.backbone import BASE_FILES, BaseModel, empty, expected_tensors, hash_model, load_base, load_source, save_base
from model.checkpoint import open_composed, open_upstream
from model.conversion import convert
from model.inputs import Example, collate, encode_all
from model.loss import answer_logits
from model.projector_training import new_projector
from model.spec import ModelSpec
from model.tokenizer import save_tokenizer, train_tokenizer
from model.weights_file import INDEX, weight_files
from model.weights_writing import write_weights
from tests.vectors import make_checkpoints as made

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("words") / "tokenizer.json"
    save_tokenizer(train_tokenizer(["Is this study normal? The lungs are clear."], made.TINY.vocab), path)
    return path


def same(one: torch.nn.Module, two: torch.nn.Module) -> bool:
    left, right = one.state_dict(), two.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("experts", ["dense", "mxfp4"])
@pytest.mark.parametrize("layout", ["upstream", "composed"])
def test_what_is_written_is_what_would_have_been_loaded(
    tmp_path: Path, words: Path, layout: str, experts: str
) -> None:
    if layout == "upstream":
        source = open_upstream(made.write_upstream(tmp_path / "up"), words)
    else:
        source = open_composed(made.write_stock(tmp_path / "language"), made.write_clip(tmp_path / "clip"), words)
        source = source.with_projector(new_projector(source.spec, seed=4))
    source = source.with_experts(experts)
    for name, size in (("one", 4 << 30), ("shards", 60_000), ("again", 60_000)):
        seen: list[tuple[int, int]] = []
        (tmp_path / name).mkdir()
        convert(source, tmp_path / name, shard_bytes=size, progress=lambda *now, seen=seen: seen.append(now))  # type: ignore[misc]
        assert len({total for _, total in seen}) == 1 and seen[-1][0] == seen[-1][1] and seen == sorted(seen)
    loaded = load_base(tmp_path / "shards")
    assert loaded.spec == source.spec and loaded.spec.experts == experts
    assert same(loaded.model, load_source(source)) and same(load_base(tmp_path / "one").model, loaded.model)
    assert hash_model(tmp_path / "shards") == hash_model(tmp_path / "again") != hash_model(tmp_path / "one")
    names = weight_files(tmp_path / "shards")
    count = len(names) - 1
    assert count > 3 and names == (INDEX, *(f"model-{k:05d}-of-{count:05d}.safetensors" for k in range(1, count + 1)))
    assert weight_files(tmp_path / "one") == ("model.safetensors",)


def test_the_hash_of_four_files_is_what_it_was(base: BaseModel, tmp_path: Path) -> None:
    save_base(base.model, base.tokenizer, base.spec, tmp_path)
    total = hashlib.sha256(b"base-model/1|")
    for name in ("config.json", "model.safetensors", "spec.json", "tokenizer.json"):
        data = (tmp_path / name).read_bytes()
        total.update(f"{name}|{len(data)}|".encode() + hashlib.sha256(data).digest())
    assert hash_model(tmp_path) == total.digest()
    assert sorted(path.name for path in tmp_path.iterdir()) == list(BASE_FILES)


def test_saving_in_shards(base: BaseModel, tmp_path: Path, examples: list[Example]) -> None:
    save_base(base.model, base.tokenizer, base.spec, tmp_path, shard_bytes=40_000)
    loaded = load_base(tmp_path, expected_hash=hash_model(tmp_path))
    batch = collate(encode_all(examples, loaded.tokenizer, loaded.spec))
    assert torch.equal(answer_logits(base.model, batch), answer_logits(loaded.model, batch))
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"]["total_size"] == sum(one.nbytes for one in base.model.state_dict().values())
    for name in (INDEX, *sorted(set(index["weight_map"].values()))):
        before, data = hash_model(tmp_path), (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data + b" " if name == INDEX else data[:-1] + bytes([data[-1] ^ 1]))
        assert hash_model(tmp_path) != before
        (tmp_path / name).write_bytes(data)
    (tmp_path / sorted(set(index["weight_map"].values()))[-1]).unlink()
    for refused in (hash_model, load_base):
        with pytest.raises(ValueError, match=r"safetensors is missing"):
            refused(tmp_path)


def test_a_link_out_of_a_base_model_is_refused(base: BaseModel, tmp_path: Path) -> None:
    save_base(base.model, base.tokenizer, base.spec, tmp_path / "base")
    for name in BASE_FILES:
        path = tmp_path / "base" / name
        path.rename(tmp_path / name)
        path.symlink_to(tmp_path / name)
        for refused in (hash_model, load_base):
            with pytest.raises(ValueError, match=f"{name} is a link that leaves its folder"):
                refused(tmp_path / "base")
        path.unlink()
        (tmp_path / name).rename(path)
    assert load_base(tmp_path / "base").spec == base.spec


def test_nothing_is_written_of_a_checkpoint_that_does_not_fit(tmp_path: Path, words: Path) -> None:
    values = made.tensors(made.upstream_shapes(made.TINY), 1)
    del values["mlp1.3.bias"]
    made.write(tmp_path / "up", made.upstream_config(made.TINY), values)
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match=r"mlp1\.3\.bias is missing"):
        convert(open_upstream(tmp_path / "up", words), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_tensors_out_of_order_are_refused(tmp_path: Path) -> None:
    tensors = {"a": torch.ones(2), "b": torch.ones(3)}
    a, b, c = (((size,), torch.float32) for size in (2, 3, 1))
    for expected in ({"b": b, "a": a}, {"a": a, "b": b, "c": c}, {"a": a, "b": a}, {"a": a, "b": ((3,), torch.int32)}):
        with pytest.raises(ValueError, match="in their order"):
            write_weights(tensors.items(), expected, tmp_path)


def test_the_bytes_are_the_librarys(tmp_path: Path) -> None:
    """Types of every width, names out of order, a scalar and an empty tensor."""
    draw = torch.Generator().manual_seed(0)
    tensors = {name: torch.randint(0, 100, shape, generator=draw).to(dtype) for name, shape, dtype in (
        ("z", (3, 5), torch.uint8), ("b", (7,), torch.bfloat16), ("a", (2, 2), torch.float32), ("y", (), torch.float64),
        ("c", (5,), torch.bfloat16), ("é", (0, 4), torch.float32))}
    expected = {name: (tuple(one.shape), one.dtype) for name, one in tensors.items()}
    assert write_weights(tensors.items(), expected, tmp_path) == ["model.safetensors"]
    save_file(tensors, tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    assert (tmp_path / "model.safetensors").read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()


BIG = ModelSpec(
    name="big", vocab_size=2000, hidden_size=512, expert_size=512, num_layers=16, num_heads=4, num_kv_heads=2,
    head_dim=32, num_experts=8, experts_per_token=2, sliding_window=64, rope_factor=4.0, original_context=256,
    vision_hidden_size=64, vision_mlp_size=64, vision_layers=2, vision_heads=2, vision_feature_layer=-1, image_size=32,
    patch_size=8, max_tiles=1, bos_token_id=1, eos_token_id=2, pad_token_id=0, image_token_id=9, max_tokens=256,
    dtype="bfloat16")
MEASURE = """
import sys
from pathlib import Path
from model.backbone import empty, load_base
from model.spec import TINY
empty(TINY)  # code that is loaded when it is first called
Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten

def status(name):
    line = next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith(name))
    return int(line.split()[1]) * 1024

before = status("VmRSS")
model = load_base(Path(sys.argv[1])).model
print(status("VmHWM") - before, sum(one.nbytes for one in model.state_dict().values()))
"""


def written_big(spec: ModelSpec, folder: Path) -> int:
    """A base model of random numbers in shards; its tensors' bytes."""
    expected = expected_tensors(empty(spec))
    draw = torch.Generator().manual_seed(0)
    drawn = ((name, torch.randint(0, 100, shape, generator=draw, dtype=torch.uint8).to(dtype))
             for name, (shape, dtype) in expected.items())
    write_weights(drawn, expected, folder, shard_bytes=50_000_000)
    (folder / "spec.json").write_text(spec.to_json())
    (folder / "config.json").write_text("{}")
    return sum(torch.Size(shape).numel() * dtype.itemsize for shape, dtype in expected.values())


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="counts resident memory as Linux does")
@pytest.mark.parametrize(("experts", "layers", "size"), [("dense", 16, 210e6), ("mxfp4", 50, 195e6)])
def test_loading_takes_the_weights_and_at_most_a_layer(
    tmp_path: Path, words: Path, experts: str, layers: int, size: float
) -> None:
    """In a process of its own. Packed experts, unpacked, would take 630 MB."""
    stored = written_big(replace(BIG, experts=experts, num_layers=layers), tmp_path)
    assert 0.95 * size < stored < 1.1 * size
    (tmp_path / "tokenizer.json").write_bytes(words.read_bytes())
    result = subprocess.run([sys.executable, "-c", MEASURE, str(tmp_path)], cwd=ROOT, capture_output=True, text=True,
                            check=True)
    taken, held = map(int, result.stdout.split())
    layer = 3 * BIG.num_experts * BIG.hidden_size * BIG.expert_size * 2  # gate, up and down, bfloat16
    outline = 12 << 20  # modules, tokenizer, headers
    assert held == stored and stored / 2 < taken < stored + layer + outline
