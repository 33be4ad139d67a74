"""Layers over devices: in order, by size, adapters with their layer; the numbers are those of one device.

accelerate's hooks are put on with the processor as the one device, so what moves between GPUs is not seen here; a test
with a GPU is skipped without one.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.adapted import open_adapted
from model.adapter import AdapterLayout, attach
from model.backbone import build, empty, save_base
from model.placement import _owners, device_map, open_placed, place
from model.spec import TINY, LoraSpec
from model.tokenizer import train_tokenizer
from privacy.dp.engine import PatientGradients

LORA = LoraSpec(rank=2, alpha=4)
MICRO = replace(TINY, name="micro", vocab_size=420, num_layers=4)


def test_layers_stay_in_order_and_share_the_bytes() -> None:
    assert _owners([10] * 4, 0, 0, 2) == [0, 0, 1, 1]
    assert _owners([10] * 8, 20, 0, 2) == [0, 0, 0, 1, 1, 1, 1, 1]  # the image encoder counts for the first
    assert _owners([10] * 3, 500, 0, 3) == _owners([10] * 3, 0, 500, 3) == [0, 1, 2]  # each has one
    assert _owners([10] * 6, 0, 0, 4) == sorted(_owners([10] * 6, 0, 0, 4))


def test_every_part_of_the_model_is_placed() -> None:
    model = empty(MICRO)
    placed = device_map(model, ["cuda:0", "cuda:1"])
    for name, _ in (*model.named_parameters(), *model.named_buffers()):
        assert any(name.startswith(part + ".") for part in placed), name
    assert placed["model.vision_tower"].index == 0 and placed["lm_head"].index == 1
    layers = [placed[f"model.language_model.layers.{i}"].index for i in range(4)]
    assert layers == sorted(layers) and set(layers) == {0, 1}


@pytest.mark.parametrize(("devices", "said"), [
    ([], "at least one"), (["cuda:0", "cuda:0"], "once"), ([f"cuda:{i}" for i in range(5)], "4 layers")], ids=str)
def test_devices_that_cannot_be_used_are_refused(devices: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        device_map(empty(MICRO), devices)


def gradient(model: Any, ids: torch.Tensor) -> Any:
    layout = AdapterLayout(model)
    engine = PatientGradients(model, layout.set_trainable(model, layout.select(("attention",))), clip_norm=1e6)
    with engine.microbatch(
        num_patients=2, text_patients=torch.tensor([0, 1]), image_patients=torch.zeros(0, dtype=torch.int64)
    ):
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
        logits.float().logsumexp(-1).mean(1).cpu().sum().backward()
    engine.collect()
    vector = engine.finish().vector
    engine.detach()
    return vector


def test_hooks_change_no_number_and_leave_the_adapters_free_for_the_engine() -> None:
    ids = torch.randint(3, 400, (2, 9), generator=torch.Generator().manual_seed(1))
    plain, hooked = build(MICRO, 0), build(MICRO, 0)
    place(hooked, ["cpu"], force_hooks=True)
    assert hasattr(hooked.model.language_model.layers[0].self_attn.q_proj, "_hf_hook")
    one, other = attach(plain, LORA, seed=0), attach(hooked, LORA, seed=0)
    assert [entry.name for entry in AdapterLayout(one).entries] == [e.name for e in AdapterLayout(other).entries]
    assert np.array_equal(AdapterLayout(one).read(one), AdapterLayout(other).read(other))
    expected = gradient(one, ids)
    assert np.abs(expected).max() > 0 and np.array_equal(expected, gradient(other, ids))


def test_a_placed_model_is_kept_and_another_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_base(build(MICRO, 0), train_tokenizer(["one question"], MICRO.vocab_size), MICRO, tmp_path)
    assert open_placed(str(tmp_path), LORA, ("cpu",)) is open_adapted(str(tmp_path), LORA)
    monkeypatch.setattr("model.placement.place", lambda model, devices: None)  # one device that has two names
    first = open_placed(str(tmp_path), LORA, ("cpu", "cpu:0"))
    assert open_placed(str(tmp_path), LORA, ("cpu", "cpu:0")) is first
    other = open_placed(str(tmp_path), LoraSpec(rank=1, alpha=1), ("cpu", "cpu:0"))
    assert other.lora.rank == 1 and open_placed(str(tmp_path), LORA, ("cpu", "cpu:0")) is not first


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_adapter_starts_with_the_same_numbers_and_gradients_agree() -> None:
    ids = torch.randint(3, 400, (2, 9), generator=torch.Generator().manual_seed(1))
    plain, placed = build(MICRO, 0), build(MICRO, 0)
    devices = [f"cuda:{i}" for i in range(min(2, torch.cuda.device_count()))]
    place(placed, devices, force_hooks=True)
    one, other = attach(plain, LORA, seed=0), attach(placed, LORA, seed=0)
    assert np.array_equal(AdapterLayout(one).read(one), AdapterLayout(other).read(other))
    expected, found = gradient(one, ids), gradient(other, ids.to("cuda"))
    assert np.abs(found - expected).max() <= 1e-2 * np.abs(expected).max()
