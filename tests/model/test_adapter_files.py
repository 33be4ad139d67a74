"""Adapters from elsewhere: what was exported comes back bit for bit; everything else is one sentence, and cheap."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from model.adapted import AdaptedModel, open_with_adapter
from model.adapter import AdapterLayout, attach
from model.adapter_files import read_adapter
from model.backbone import BaseModel, build, hash_model, save_base
from model.export import save_adapter
from model.inputs import Example, collate, encode_all
from model.loss import answer_logits
from model.spec import DEFAULT_GROUPS, GROUPS, LoraSpec, ModelSpec


def export(base: BaseModel, folder: Path, lora: LoraSpec, *, named: str | None = None) -> np.ndarray:
    """base and adapter folders below `folder`; the adapter's numbers, none of them zero."""
    save_base(base.model, base.tokenizer, base.spec, folder / "base")
    model = attach(base.model, lora, seed=0)
    layout = AdapterLayout(model)
    layout.write(model, np.random.default_rng(0).normal(0, 0.3, layout.size))
    name = hash_model(folder / "base").hex() if named is None else named
    save_adapter(model, folder / "adapter", base=name, description="Four hospitals,\ntwo stages.")
    return layout.read(model)


@pytest.fixture
def exported(base: BaseModel, tmp_path: Path) -> Path:
    export(base, tmp_path, LoraSpec(rank=4, alpha=8))
    return tmp_path


def opened(folder: Path) -> AdaptedModel:
    return open_with_adapter(folder / "base", read_adapter(folder / "adapter"))


@pytest.mark.parametrize("groups", [DEFAULT_GROUPS, tuple(GROUPS), ("experts",), ("attention",)])
def test_what_was_exported_comes_back(
    base: BaseModel, spec: ModelSpec, tmp_path: Path, examples: list[Example], groups: tuple[str, ...]
) -> None:
    lora = LoraSpec(rank=4, alpha=8, groups=groups)
    vector = export(base, tmp_path, lora)
    files = read_adapter(tmp_path / "adapter")
    assert files.lora == lora and files.description == "Four hospitals, two stages."
    assert files.base_hash == hash_model(tmp_path / "base")
    adapted = opened(tmp_path)
    assert np.array_equal(adapted.read(), vector)
    batch = collate(encode_all(examples, base.tokenizer, spec))
    with torch.no_grad():
        again = attach(build(spec, seed=3), lora, seed=5)
        AdapterLayout(again).write(again, vector)
        assert torch.equal(answer_logits(adapted.model, batch), answer_logits(again, batch))
        with adapted.model.disable_adapter():
            plain = answer_logits(adapted.model, batch)
        assert torch.allclose(plain, answer_logits(build(spec, seed=3), batch), atol=1e-5)
        assert not torch.allclose(plain, answer_logits(adapted.model, batch), atol=1e-3)


def test_a_base_in_bfloat16_has_adapters_in_float32(base: BaseModel, tmp_path: Path) -> None:
    spec = replace(base.spec, dtype="bfloat16")
    vector = export(BaseModel(build(spec, 3), base.tokenizer, spec, bytes(32)), tmp_path, LoraSpec(rank=2))
    assert np.array_equal(opened(tmp_path).read(), vector)


def test_an_adapter_that_names_no_base_is_judged_by_its_shapes(base: BaseModel, tmp_path: Path) -> None:
    vector = export(base, tmp_path, LoraSpec(rank=2), named="some/model")
    assert read_adapter(tmp_path / "adapter").base_hash is None
    assert np.array_equal(opened(tmp_path).read(), vector)


def test_the_card_may_be_missing_and_cannot_steer_a_terminal(exported: Path) -> None:
    card = exported / "adapter/README.md"
    card.write_text("# T\n\nRed \x1b[31m and \u202e back.\nSecond line.\n\n- Base model: x\n")
    assert read_adapter(exported / "adapter").description == "Red  [31m and   back. Second line."
    card.unlink()
    assert read_adapter(exported / "adapter").description == ""


def test_reading_the_folder_needs_no_torch(exported: Path) -> None:
    code = ("import sys\nfrom pathlib import Path\nfrom model.adapter_files import read_adapter\n"
            f"read_adapter(Path({str(exported / 'adapter')!r}))\n"
            "print([name for name in ('torch', 'peft', 'transformers') if name in sys.modules])")  # fmt: skip
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# --- refusals


def set_config(**values: Any) -> Callable[[Path], None]:
    def change(adapter: Path) -> None:
        path = adapter / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def change_header(change: Callable[[dict[str, Any], str], None]) -> Callable[[Path], None]:
    """`change(header, name of its first tensor)`, the numbers left as they are."""

    def rewrite(adapter: Path) -> None:
        path = adapter / "adapter_model.safetensors"
        header, body = header_of(path)
        change(header, min((name for name in header if name != "__metadata__"),
                           key=lambda name: header[name]["data_offsets"]))  # fmt: skip
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + body)

    return rewrite


def change_tensors(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def rewrite(adapter: Path) -> None:
        path = adapter / "adapter_model.safetensors"
        tensors = load_file(str(path))
        change(tensors)
        save_file(tensors, str(path))

    return rewrite


def write(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda adapter: (adapter / name).write_bytes(data) and None


def link_out(adapter: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    path.rename(adapter.parent / "elsewhere.safetensors")
    path.symlink_to(adapter.parent / "elsewhere.safetensors")


def pipe(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    os.mkfifo(adapter / "adapter_model.safetensors")


def cut(adapter: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-5])


def append(adapter: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes() + b"\0")


def repeat_key(adapter: Path) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(path.read_text().replace('"r": 4', '"r": 4, "r": 4'))


def other_card(adapter: Path) -> None:
    (adapter / "README.md").write_text("# T\n\nText.\n\n- Base model: " + "ab" * 32 + "\n")


def to_half(tensors: dict[str, torch.Tensor]) -> None:
    for name in tensors:
        tensors[name] = tensors[name].half()


def shifted(header: dict[str, Any], name: str) -> None:
    header[name]["data_offsets"] = [offset + 4 for offset in header[name]["data_offsets"]]


CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
BAD_FOLDERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "pickle": (write("adapter_model.bin", b"x"), "holds adapter_model.bin, a format that can run code"),
    "other pickle": (write("optimizer.PT", b"x"), "optimizer.PT"),
    "link out": (link_out, "link out of that folder"),
    "pipe": (pipe, "not a regular file"),
    "no tensors": (lambda adapter: (adapter / TENSORS).unlink(), f"no readable {TENSORS}"),
    "no config": (lambda adapter: (adapter / CONFIG).unlink(), f"no readable {CONFIG}"),
    "config too long": (write(CONFIG, b" " * 70_000 + b"{}"), "larger than"),
    "config no object": (write(CONFIG, b"[1]"), "malformed"),
    "config deep": (write(CONFIG, b"[" * 60_000), "malformed"),
    "config not utf-8": (write(CONFIG, b'{"r": "\xff"}'), "malformed"),
    "config with NaN": (write(CONFIG, b'{"r": NaN}'), "malformed"),
    "repeated key": (repeat_key, "every key once"),
    "loha": (set_config(peft_type="LOHA"), 'peft_type is "LOHA"'),
    "ia3": (set_config(peft_type="IA3"), 'peft_type is "IA3"'),
    "dora": (set_config(use_dora=True), "use_dora"),
    "rslora": (set_config(use_rslora=True), "use_rslora"),
    "bias": (set_config(bias="all"), "bias"),
    "modules_to_save": (set_config(modules_to_save=["lm_head"]), "modules_to_save"),
    "ranks": (set_config(rank_pattern={"q_proj": 2}), "rank_pattern"),
    "alphas": (set_config(alpha_pattern={"q_proj": 2}), "alpha_pattern"),
    "pissa": (set_config(init_lora_weights="pissa"), "init_lora_weights"),
    "layers": (set_config(layers_to_transform=[0]), "layers_to_transform"),
    "unknown setting": (set_config(use_something_new=True), "use_something_new"),
    "rank a flag": (set_config(r=True), "r in adapter_config.json"),
    "rank huge": (set_config(r=10**9), "r in adapter_config.json"),
    "alpha a fraction": (set_config(lora_alpha=0.5), "lora_alpha"),
    "other targets": (set_config(target_modules=["q_proj"]), "other layers"),
    "targets of another type": (set_config(target_modules=7), "other layers"),
    "two bases": (other_card, "names one base model"),
    "not safetensors": (write(TENSORS, b"PK\x03\x04"), "no safetensors file"),
    "empty": (write(TENSORS, b""), "no safetensors file"),
    "lying header": (write(TENSORS, struct.pack("<Q", 1 << 60) + b"{}"), "header is larger"),
    "header behind the end": (write(TENSORS, struct.pack("<Q", 1000) + b"{}"), "cut off"),
    "header no object": (write(TENSORS, struct.pack("<Q", 2) + b"[]"), "malformed"),
    "no tensor": (write(TENSORS, struct.pack("<Q", 2) + b"{}"), "inconsistent"),
    "truncated": (cut, "cut off"),
    "bytes behind": (append, "bytes behind its last tensor"),
    "half": (change_tensors(to_half), 'as "F16"; adapters are F32'),
    "wrong dtype": (change_header(lambda header, name: header[name].update(dtype="I32")), "I32"),
    "huge shape": (change_header(lambda header, name: header[name].update(shape=[1 << 39] * 2)), "bytes of its shape"),
    "three sides": (change_header(lambda header, name: header[name].update(shape=[1, 4, 32])), "must be a matrix"),
    "negative": (change_header(lambda header, name: header[name].update(data_offsets=[-4, 4])), "must be a matrix"),
    "overlap": (change_header(shifted), "overlap, or leave a gap"),
    "extra field": (change_header(lambda header, name: header[name].update(more=1)), "malformed"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_a_bad_folder_is_refused_by_name_and_costs_no_memory(exported: Path, case: str) -> None:
    damage, expected = BAD_FOLDERS[case]
    read_adapter(exported / "adapter")
    damage(exported / "adapter")
    tracemalloc.start()
    with pytest.raises(ValueError) as caught:
        read_adapter(exported / "adapter")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert expected in str(caught.value) and "\n" not in str(caught.value)
    assert str(exported / "adapter") in str(caught.value)
    assert peak < 3 << 20


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        read_adapter(tmp_path / "nowhere")


def test_a_link_inside_the_folder_is_followed(exported: Path) -> None:
    path = exported / "adapter" / TENSORS
    path.rename(path.with_name("weights"))
    path.symlink_to("weights")
    opened(exported)


def lack_one(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[min(tensors)]


def one_more(tensors: dict[str, torch.Tensor]) -> None:
    tensors["base_model.model.model.language_model.layers.7.self_attn.q_proj.lora_A.weight"] = torch.zeros(4, 32)


def put(value: float) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[max(tensors)][0, 0] = value

    return change


BAD_FITS: dict[str, tuple[Callable[[Path], None], str]] = {
    "rank of the config": (set_config(r=8), "of another rank"),
    "lacking": (change_tensors(lack_one), "of another base: it lacks model.language_model.layers.0"),
    "extra": (change_tensors(one_more), "of another base: this base model has no place for model.language_model.la"),
    "nan": (change_tensors(put(float("nan"))), "not finite, in model.multi_modal_projector.linear_2.lora_B"),
    "infinite": (change_tensors(put(float("-inf"))), "not finite"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FITS)
def test_what_does_not_fit_is_refused_before_a_weight_is_read(exported: Path, case: str) -> None:
    damage, expected = BAD_FITS[case]
    damage(exported / "adapter")
    (exported / "base/model.safetensors").write_bytes(b"never read")
    with pytest.raises(ValueError) as caught:
        opened(exported)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_another_base_by_its_hash_and_by_its_shapes(exported: Path, base: BaseModel, spec: ModelSpec) -> None:
    files = read_adapter(exported / "adapter")
    save_base(build(spec, seed=4), base.tokenizer, spec, exported / "same-size")
    with pytest.raises(ValueError, match=r"was trained on [0-9a-f]{16}") as caught:
        open_with_adapter(exported / "same-size", files)
    assert hash_model(exported / "same-size").hex()[:16] in str(caught.value)
    larger = replace(spec, hidden_size=64)
    save_base(build(larger, seed=4), base.tokenizer, larger, exported / "larger")
    with pytest.raises(ValueError, match=r"of another base: .*q_proj|of another base: .*k_proj"):
        open_with_adapter(exported / "larger", files)
    with pytest.raises(ValueError, match="No base model"):
        open_with_adapter(exported / "nowhere", files)


def test_a_file_that_is_cut_after_the_check(exported: Path) -> None:
    files = read_adapter(exported / "adapter")
    cut(exported / "adapter")
    with pytest.raises(ValueError, match="cut off"):
        open_with_adapter(exported / "base", files)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 1200), value=st.binary(min_size=1, max_size=12), config=st.booleans())
def test_any_change_of_a_header_is_a_sentence_or_harmless(exported: Path, at: int, value: bytes, config: bool) -> None:
    path = exported / "adapter" / (CONFIG if config else TENSORS)
    before = path.read_bytes()
    try:
        path.write_bytes(before[:at] + value + before[at + len(value) :])
        read_adapter(exported / "adapter")
    except ValueError as error:
        assert "\n" not in str(error)
    finally:
        path.write_bytes(before)
