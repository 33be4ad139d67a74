"""Each way to couple patients that the engine can see is refused, by name and with the fix."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from privacy.dp.engine import PatientGradients
from privacy.dp.refusals import (
    AdapterDropoutError,
    BatchCoupledLayerError,
    LengthCoupledRopeError,
    RouterLossError,
)

C = 0.5
NO_TILES = torch.zeros(0, dtype=torch.int64)


@pytest.fixture
def model(tiny):
    return tiny.build_llava(torch.float32, targets=r".*language_model.*\.q_proj")


def attach(tiny, model):
    return PatientGradients(model, tiny.trainable(model), clip_norm=C)


@pytest.mark.parametrize("nested", [True, False])
def test_the_routers_balancing_loss_is_refused_in_any_configuration(tiny, model, nested):
    config = model.base_model.model.config
    (config.text_config if nested else config).output_router_logits = True
    with pytest.raises(RouterLossError, match="set output_router_logits to False"):
        attach(tiny, model)


def test_the_routers_balancing_loss_is_refused_when_it_is_switched_on_later(tiny, model):
    engine = attach(tiny, model)
    samples = tiny.make_cohort([[0], [0]], [5]).samples
    tiny.run_microbatch(model, engine, samples)
    engine.collect()
    model.base_model.model.config.text_config.output_router_logits = True
    with pytest.raises(RouterLossError):
        tiny.run_microbatch(model, engine, samples)


def test_a_forward_that_asks_for_router_logits_is_refused():
    from transformers import GptOssConfig, GptOssForCausalLM

    config = GptOssConfig(
        vocab_size=20, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, head_dim=16, num_local_experts=2, num_experts_per_tok=1,
    )  # fmt: skip
    model = GptOssForCausalLM(config).requires_grad_(False)
    weight = model.model.layers[0].self_attn.q_proj.weight.requires_grad_(True)
    engine = PatientGradients(model, [("q", weight)], clip_norm=C)
    ids = torch.tensor([[3, 4, 5]])
    with (
        pytest.raises(RouterLossError, match="asked for router logits"),
        engine.microbatch(text_patients=torch.tensor([0]), image_patients=NO_TILES, num_patients=1),
    ):
        model(input_ids=ids, labels=ids, output_router_logits=True).loss.backward()
    engine.detach()
    model(input_ids=ids, output_router_logits=True)  # the model is its own again


@pytest.mark.parametrize(
    "layer",
    [nn.BatchNorm1d(6), nn.SyncBatchNorm(6), nn.InstanceNorm1d(6, track_running_stats=True)],
)
def test_layers_that_mix_patients_are_refused(layer):
    model = nn.Sequential(nn.Linear(6, 6, bias=False), layer.requires_grad_(False))
    with pytest.raises(BatchCoupledLayerError):
        PatientGradients(model, [("0.weight", model[0].weight)], clip_norm=C)


def test_layers_that_keep_rows_apart_are_accepted():
    apart = (nn.InstanceNorm1d(6), nn.LayerNorm(6).requires_grad_(False), nn.GroupNorm(2, 6).requires_grad_(False))
    for layer in apart:
        model = nn.Sequential(nn.Linear(6, 6, bias=False), layer)
        engine = PatientGradients(model, [("0.weight", model[0].weight)], clip_norm=C)
        assert engine.dimension == 36
        engine.detach()


def test_dropout_on_an_adapter_is_refused(tiny):
    from peft import LoraConfig, get_peft_model

    base = tiny.build_llava(torch.float32).unload()
    model = get_peft_model(base, LoraConfig(r=2, target_modules=r".*language_model.*\.q_proj", lora_dropout=0.1))
    with pytest.raises(AdapterDropoutError, match="set the adapter's lora_dropout to 0"):
        attach(tiny, model)


@pytest.mark.parametrize("kind", ["dynamic", "longrope", "somebody's own"])
@pytest.mark.parametrize("where", ["flat", "per layer type", "rope_scaling", "module", "module per layer type"])
def test_positions_that_follow_the_longest_row_are_refused(tiny, model, kind, where):
    inner = model.base_model.model.model.language_model
    config = model.base_model.model.config.text_config
    fixed = {"rope_type": "yarn", "factor": 2.0}
    if where == "flat":
        config.rope_parameters = {"rope_type": kind, "factor": 4.0}
    elif where == "per layer type":
        config.rope_parameters = {"full_attention": fixed, "sliding_attention": {"rope_type": kind}}
    elif where == "rope_scaling":
        vars(config)["rope_scaling"] = {"type": kind, "factor": 4.0}
    else:
        inner.rotary_emb.rope_type = kind if where == "module" else {"full_attention": "yarn", "sliding": kind}
    with pytest.raises(LengthCoupledRopeError, match="longest row of a batch"):
        attach(tiny, model)


@pytest.mark.parametrize("kind", ["default", "linear", "yarn", "llama3"])
def test_positions_with_constant_frequencies_are_accepted(tiny, model, kind):
    model.base_model.model.config.text_config.rope_parameters = {"rope_type": kind}
    engine = attach(tiny, model)
    assert engine.dimension == sum(parameter.numel() for _, parameter in tiny.trainable(model))
    engine.detach()


def test_a_model_that_was_made_with_dynamic_positions_is_refused():
    from transformers import GptOssConfig, GptOssForCausalLM

    config = GptOssConfig(
        vocab_size=20, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, head_dim=16, num_local_experts=2, num_experts_per_tok=1, max_position_embeddings=16,
        rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0},
    )  # fmt: skip
    model = GptOssForCausalLM(config).requires_grad_(False)
    weight = model.model.layers[0].self_attn.q_proj.weight.requires_grad_(True)
    with pytest.raises(LengthCoupledRopeError, match="'dynamic'"):
        PatientGradients(model, [("q", weight)], clip_norm=C)
