"""A whole model with packed experts beside the same model with dense ones: logits, and each patient's gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from peft import PeftModel

from model.adapted import recompute_layers
from model.adapter import AdapterLayout, attach
from model.backbone import BaseModel, build
from model.inputs import Encoded, Example, collate, encode_all
from model.loss import answer_logits, answer_losses
from model.mxfp4 import PackedExperts
from model.spec import LoraSpec, ModelSpec
from model.tokenizer import train_tokenizer
from privacy.dp.engine import PatientGradients

LORA = LoraSpec(rank=4, alpha=8)


@pytest.fixture
def packed_spec(spec: ModelSpec) -> ModelSpec:
    return replace(spec, name="micro-packed", expert_size=32, experts="mxfp4")


@pytest.fixture
def encoded(packed_spec: ModelSpec, examples: list[Example]) -> list[Encoded]:
    tokenizer = train_tokenizer([e.question + " " + e.answer for e in examples], packed_spec.vocab_size)
    return encode_all(examples, tokenizer, packed_spec)


def _pair(spec: ModelSpec, dtype: torch.dtype = torch.float32) -> tuple[PeftModel, PeftModel]:
    """The packed model and a dense one with the same numbers, both with the same adapter, whose B is not zero."""
    packed = build(spec, seed=3)
    dense = build(replace(spec, experts="dense"), seed=3)
    state = packed.state_dict()
    for name, module in packed.named_modules():
        if isinstance(module, PackedExperts):
            for projection in ("gate_up_proj", "down_proj"):
                state[f"{name}.{projection}"] = module.dense(projection, torch.float32)
                for part in ("blocks", "scales"):
                    del state[f"{name}.{projection}_{part}"]
    dense.load_state_dict(state, strict=True)
    models = []
    for model in (packed, dense):
        adapted = attach(model.to(dtype), LORA, seed=0)
        torch.manual_seed(7)
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)
        models.append(adapted)
    return models[0], models[1]


def _patients(model: PeftModel, samples: Sequence[Encoded]) -> torch.Tensor:
    """(D,): the sum of the patients' gradients, one patient a sample, by the engine; C is far away."""
    layout = AdapterLayout(model)
    engine = PatientGradients(model, layout.set_trainable(model), clip_norm=1e9)
    rows = collate(samples)
    owners = torch.arange(len(samples))
    with engine.microbatch(text_patients=owners, image_patients=owners[rows.tile_rows], num_patients=len(samples)):
        answer_losses(model, rows).loss.sum().backward()
    engine.collect()
    total = torch.from_numpy(engine.finish().vector)
    engine.detach()
    return total


def test_logits_are_those_of_dense_experts(packed_spec: ModelSpec, encoded: list[Encoded]) -> None:
    packed, dense = _pair(packed_spec)
    batch = collate(encoded)
    with torch.no_grad():
        assert float((answer_logits(packed, batch) - answer_logits(dense, batch)).abs().max()) < 1e-5


@pytest.mark.parametrize("checkpointing", [False, True])
def test_each_patients_gradient_is_that_of_dense_experts(
    packed_spec: ModelSpec, encoded: list[Encoded], checkpointing: bool
) -> None:
    packed, dense = _pair(packed_spec)
    if checkpointing:
        recompute_layers(packed)
        assert any(module.training for module in packed.modules())
    for samples in ([encoded[0]], [encoded[3]], encoded):
        ours, theirs = _patients(packed, samples), _patients(dense, samples)
        assert float((ours - theirs).abs().max()) <= 1e-6 * max(1.0, float(theirs.abs().max()))
        assert float(theirs.abs().max()) > 1e-3


def test_in_bfloat16_they_agree_to_its_rounding(packed_spec: ModelSpec, encoded: list[Encoded]) -> None:
    packed, dense = _pair(packed_spec, torch.bfloat16)
    recompute_layers(packed)
    for samples in ([encoded[0]], [encoded[2]]):
        ours, theirs = _patients(packed, samples), _patients(dense, samples)
        assert float((ours - theirs).norm() / theirs.norm()) < 0.05


def test_recomputing_layers_keeps_their_inputs_alone(packed_spec: ModelSpec, encoded: list[Encoded]) -> None:
    kept: dict[bool, int] = {}
    for checkpointing in (False, True):
        model, _ = _pair(packed_spec)
        AdapterLayout(model).set_trainable(model)
        if checkpointing:
            recompute_layers(model)
        sizes: list[int] = []

        def note(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            answer_losses(model, collate(encoded)).loss.sum()
        kept[checkpointing] = sum(sizes)
    assert kept[True] < kept[False] / 5


def test_adapters_on_packed_experts_are_refused(packed_spec: ModelSpec) -> None:
    with pytest.raises(ValueError, match="packed experts carry no adapter"):
        attach(build(packed_spec, 0), replace(LORA, groups=("attention", "experts")), seed=0)


def test_a_folder_of_a_packed_model_comes_back_as_it_was(
    packed_spec: ModelSpec, examples: list[Example], tmp_path: object
) -> None:
    from pathlib import Path

    from model.backbone import load_base, save_base

    folder = Path(str(tmp_path)) / "base"
    tokenizer = train_tokenizer([e.question + " " + e.answer for e in examples], packed_spec.vocab_size)
    model = build(packed_spec, seed=3)
    save_base(model, tokenizer, packed_spec, folder)
    loaded: BaseModel = load_base(folder)
    state = model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in loaded.model.state_dict().items())
    batch = collate(encode_all(examples, loaded.tokenizer, loaded.spec))
    assert torch.equal(answer_logits(model, batch), answer_logits(loaded.model, batch))
