"""Where adapters sit, the order of their numbers, selections, and reading and writing them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.adapter import AdapterLayout, adapter_hash, attach
from model.backbone import BaseModel
from model.inputs import Example, collate, encode_all
from model.loss import answer_logits
from model.spec import DEFAULT_GROUPS, LoraSpec


def test_attaching_is_the_identity_and_seeded(base: BaseModel, examples: list[Example]) -> None:
    batch = collate(encode_all(examples, base.tokenizer, base.spec))
    with torch.no_grad():
        before = answer_logits(base.model, batch)
        torch.manual_seed(1)
        expected = torch.rand(1)
        torch.manual_seed(1)
        model = attach(base.model, LoraSpec(rank=4), seed=7)
        assert torch.equal(torch.rand(1), expected)  # the global generator was left alone
        assert torch.allclose(answer_logits(model, batch), before, atol=1e-6)
    layout = AdapterLayout(model)
    assert not layout.read(model, layout.select(DEFAULT_GROUPS, "B")).any()
    assert layout.read(model, layout.select(DEFAULT_GROUPS, "A")).all()
    first = adapter_hash(layout.read(model))
    again = attach(model.unload(), LoraSpec(rank=4), seed=7)
    assert adapter_hash(layout.read(again)) == first
    assert adapter_hash(layout.read(attach(again.unload(), LoraSpec(rank=4), seed=8))) != first


def test_only_intended_modules_are_adapted_and_trainable(base: BaseModel) -> None:
    model = attach(base.model, LoraSpec(rank=2), seed=0)
    layout = AdapterLayout(model)
    assert len(layout.entries) == 2 * (4 * base.spec.num_layers + 2)
    assert not any("vision_tower" in entry.name for entry in layout.entries)
    chosen = layout.set_trainable(model, layout.select(["projector"], "B"))
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert [name for name, _ in chosen] == sorted(trainable) and len(trainable) == 2
    assert all("multi_modal_projector" in name and "lora_B" in name for name in trainable)
    assert len(layout.set_trainable(model)) == len(layout.entries)


def test_vector_round_trip_whole_and_selected(base: BaseModel) -> None:
    model = attach(base.model, LoraSpec(rank=2), seed=0)
    layout = AdapterLayout(model)
    full = np.arange(layout.size, dtype=np.float64) / 8  # exact in float32
    layout.write(model, full)
    assert np.array_equal(layout.read(model), full)
    part = layout.select(["attention"], "A")
    assert np.array_equal(layout.read(model, part), full[part.indices])
    layout.write(model, -full[part.indices], part)
    expected = full.copy()
    expected[part.indices] *= -1
    assert np.array_equal(layout.read(model), expected)


def test_selections_partition_the_vector_in_order(base: BaseModel) -> None:
    layout = AdapterLayout(attach(base.model, LoraSpec(rank=2), seed=0))
    parts = [layout.select([group], factor) for group in DEFAULT_GROUPS for factor in ("A", "B")]
    together = np.concatenate([part.indices for part in parts])
    assert np.array_equal(np.sort(together), np.arange(layout.size))
    assert all(part.size == len(part.indices) and (np.diff(part.indices) > 0).all() for part in parts)
    everything = layout.select(DEFAULT_GROUPS)
    assert np.array_equal(everything.indices, np.arange(layout.size))
    assert everything.names == tuple(entry.name for entry in layout.entries)
    assert layout.select([]).size == 0


def test_order_compares_layer_numbers_as_numbers(base: BaseModel) -> None:
    from dataclasses import replace

    from model.backbone import build

    with torch.device("meta"):
        layout = AdapterLayout(attach(build(replace(base.spec, num_layers=11), seed=0), LoraSpec(), seed=0))
    layers = [int(entry.name.split(".layers.")[1].split(".")[0]) for entry in layout.entries if "layers" in entry.name]
    assert layers == sorted(layers) and max(layers) == 10
    assert [entry.factor for entry in layout.entries] == ["A", "B"] * (len(layout.entries) // 2)
    assert [entry.group for entry in layout.entries][-1] == "projector"


def test_bad_requests_are_refused(base: BaseModel) -> None:
    with pytest.raises(ValueError, match="carries no LoRA adapter"):
        AdapterLayout(base.model)
    model = attach(base.model, LoraSpec(rank=2), seed=0)
    layout = AdapterLayout(model)
    with pytest.raises(ValueError, match="unknown group 'router'"):
        layout.select(["router"])
    with pytest.raises(ValueError, match="has no group 'experts'"):
        layout.select(["experts"])
    with pytest.raises(ValueError, match="unknown factor"):
        layout.select(["attention"], "C")
    with pytest.raises(ValueError, match="must have shape"):
        layout.write(model, np.zeros(3))
    bad = layout.read(model)
    bad[5] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        layout.write(model, bad)
    other = attach(model.unload(), LoraSpec(rank=3), seed=0)
    with pytest.raises(ValueError, match="not the one this layout"):
        layout.read(other)


def test_hash_depends_on_every_number_and_the_length() -> None:
    vector = np.arange(5.0)
    changed = vector.copy()
    changed[-1] = np.nextafter(changed[-1], 9)
    assert len({adapter_hash(v) for v in (vector, changed, vector[:4], np.append(vector, 0.0))}) == 4
    assert adapter_hash(np.arange(10.0)[::2]) == adapter_hash(np.array([0.0, 2.0, 4.0, 6.0, 8.0]))


def test_experts_are_opt_in_and_stand_after_everything_else(base: BaseModel) -> None:
    """Adding them must not move a number of the other groups; PEFT's two wrappers of a layer are both found."""
    plain = attach(base.model, LoraSpec(rank=2), seed=0)
    before = AdapterLayout(plain)
    model = attach(plain.unload(), LoraSpec(rank=2, groups=(*DEFAULT_GROUPS, "experts")), seed=0)
    layout = AdapterLayout(model)
    assert [(e.name, e.offset) for e in layout.entries[: len(before.entries)]] == [
        (e.name, e.offset) for e in before.entries
    ]
    experts = layout.entries[len(before.entries) :]
    assert {entry.group for entry in experts} == {"experts"} and len(experts) == 4 * base.spec.num_layers
    wide, narrow, count = 2 * base.spec.expert_size, base.spec.hidden_size, 2 * base.spec.num_experts
    assert [entry.shape for entry in experts[:4]] == [
        (count, base.spec.expert_size), (narrow, count), (count, narrow), (wide, count)
    ]  # fmt: skip
    vector = np.arange(layout.size, dtype=np.float64) / 1024
    layout.write(model, vector)
    assert np.array_equal(layout.read(model), vector)
    chosen = layout.set_trainable(model, layout.select(["experts"], "B"))
    assert len(chosen) == 2 * base.spec.num_layers and all("lora_B" in name for name, _ in chosen)


def test_groups_can_stand_alone(base: BaseModel) -> None:
    model = base.model
    for group in ("experts", "projector"):
        adapted = attach(model, LoraSpec(rank=2, groups=(group,)), seed=0)
        assert {entry.group for entry in AdapterLayout(adapted).entries} == {group}
        model = adapted.unload()
    for groups in ((), ("router",), ("attention", "attention")):
        with pytest.raises(ValueError, match="LoraSpec: groups"):
            LoraSpec(groups=groups)
