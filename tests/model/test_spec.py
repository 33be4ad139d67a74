"""The spec: the published sizes of the full model, its validation, and which modules an adapter may touch."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from model.adapter import AdapterLayout, attach
from model.backbone import build
from model.spec import DEFAULT_GROUPS, MEDGPT_OSS_20B, TINY, LoraSpec, ModelSpec, group_of, layers_in, target_regex


def test_the_full_model_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = build(MEDGPT_OSS_20B, seed=0)
        language = sum(p.numel() for p in model.model.language_model.parameters())
        language += sum(p.numel() for p in model.lm_head.parameters())
        assert language == 20_914_757_184
        layout = AdapterLayout(attach(model, LoraSpec(rank=8), seed=0))
    assert layout.select(["attention"]).size == 3_981_312
    assert layout.size == 4_058_624


def test_the_tiny_model_is_about_half_a_million_parameters() -> None:
    assert 400_000 < sum(p.numel() for p in build(TINY, seed=0).parameters()) < 750_000


def test_json_round_trip() -> None:
    assert ModelSpec.from_json(MEDGPT_OSS_20B.to_json()) == MEDGPT_OSS_20B
    assert TINY.context == TINY.rope_factor * TINY.original_context


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"name": "x"}', TINY.to_json().replace('"name"', '"nom"')])
def test_malformed_json_is_one_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="model spec is malformed"):
        ModelSpec.from_json(text)


@pytest.mark.parametrize(
    "change",
    [{"patch_size": 7}, {"num_kv_heads": 4}, {"experts_per_token": 9}, {"max_tokens": 100_000}, {"hidden_size": "96"},
     {"vision_feature_layer": -9}, {"image_token_id": 5000}, {"max_tiles": 0}, {"num_layers": True}],
)  # fmt: skip
def test_impossible_numbers_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="ModelSpec: "):
        replace(TINY, **change)


@pytest.mark.parametrize("change", [
    {"num_layers": 10**9}, {"vision_layers": 1001}, {"num_experts": 1025}, {"hidden_size": 1 << 21},
    {"vocab_size": 1 << 31}, {"num_heads": 10**6}, {"head_dim": 10**6}, {"image_size": 8 * 257}, {"max_tiles": 10**9}])
def test_a_model_beyond_any_that_exists_is_refused_before_its_outline(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"ModelSpec: .* must be at most"):
        replace(TINY, **change)


@pytest.mark.parametrize("text", ["[" * 10**5, '{"name": ' * 10**5])
def test_json_without_an_end_is_one_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="model spec is malformed"):
        ModelSpec.from_json(text)


def test_dropout_is_refused() -> None:
    with pytest.raises(ValueError, match="dropout"):
        LoraSpec(dropout=0.1)


def test_groups_hit_the_language_models_attention_and_experts_and_the_projector_only() -> None:
    names = [name for name, _ in build(TINY, seed=0).named_modules()]
    every = {name: group_of(name) for name in names if group_of(name)}
    assert {name for name, group in every.items() if group == "experts"} == {
        name for name in names if name.endswith("mlp.experts")
    }
    hit = {name: group for name, group in every.items() if group != "experts"}
    assert sum(group == "attention" for group in hit.values()) == 4 * TINY.num_layers
    assert sum(group == "projector" for group in hit.values()) == 2
    assert not any("vision" in name or "expert" in name or "router" in name for name in hit)
    assert any("vision_tower" in name and name.endswith("q_proj") for name in names)  # the trap exists
    assert set(hit.values()) == set(DEFAULT_GROUPS)
    assert all(re.fullmatch(target_regex(), name) for name in hit) and not re.fullmatch(target_regex(), "mlp.experts")


def test_what_came_later_is_not_in_the_text_of_a_spec_that_does_not_use_it() -> None:
    """Bases that exist keep their bytes, and so the hash that manifests name."""
    assert "adapted_layers" not in TINY.to_json() and "llama" not in TINY.to_json()
    some = replace(TINY, adapted_layers=1)
    assert ModelSpec.from_json(some.to_json()) == some and some.first_adapted_layer == 1 != TINY.first_adapted_layer


@pytest.mark.parametrize("change", [
    {"text": "bert"}, {"adapted_layers": 3}, {"adapted_layers": -1}, {"adapted_layers": 1.0}, {"text": "llama"}])
def test_impossible_text_models_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="ModelSpec: "):
        replace(TINY, **change)


def test_a_regex_names_its_layers_and_nothing_else_does() -> None:
    regex = target_regex(("attention", "projector"), (28, 29))
    assert layers_in(regex) == (28, 29) and re.fullmatch(regex, "x.language_model.layers.29.self_attn.q_proj")
    assert not re.fullmatch(regex, "x.language_model.layers.9.self_attn.q_proj")
    assert re.fullmatch(regex, "x.multi_modal_projector.linear_1")
    for other in (target_regex(("attention",)), "", None, [], r".*layers\.(?:1)\.mlp"):
        assert layers_in(other) == ()
