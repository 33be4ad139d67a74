"""Base model folders: bit-exact round trip, identity by content, refusals; and the fast attention against the eager."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.backbone import BASE_FILES, BaseModel, build, hash_model, load_base, save_base
from model.inputs import Example, collate, encode_all
from model.loss import answer_logits, per_sample
from model.spec import ModelSpec


def test_round_trip_is_bit_exact_and_keeps_the_hash(base: BaseModel, tmp_path: Path, examples: list[Example]) -> None:
    save_base(base.model, base.tokenizer, base.spec, tmp_path / "one")
    loaded = load_base(tmp_path / "one", expected_hash=hash_model(tmp_path / "one"))
    state = base.model.state_dict()
    assert loaded.model.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.model.state_dict().items())
    assert loaded.spec == base.spec
    batch = collate(encode_all(examples, loaded.tokenizer, loaded.spec))
    assert torch.equal(answer_logits(base.model, batch), answer_logits(loaded.model, batch))
    save_base(loaded.model, loaded.tokenizer, loaded.spec, tmp_path / "two")
    assert hash_model(tmp_path / "two") == loaded.content_hash


def test_transformers_loads_the_folder_too(base: BaseModel, tmp_path: Path, examples: list[Example]) -> None:
    save_base(base.model, base.tokenizer, base.spec, tmp_path)
    theirs = type(base.model).from_pretrained(tmp_path)
    batch = collate(encode_all(examples, base.tokenizer, base.spec))
    assert torch.allclose(answer_logits(base.model, batch), answer_logits(theirs, batch), atol=1e-5)


@pytest.mark.parametrize("name", BASE_FILES)
def test_tampering_changes_the_hash_and_is_refused(base: BaseModel, tmp_path: Path, name: str) -> None:
    save_base(base.model, base.tokenizer, base.spec, tmp_path)
    before = hash_model(tmp_path)
    data = bytearray((tmp_path / name).read_bytes())
    data[-2] ^= 1
    (tmp_path / name).write_bytes(data)
    assert hash_model(tmp_path) != before
    with pytest.raises(ValueError, match="content hash differs"):
        load_base(tmp_path, expected_hash=before)


def test_missing_and_malformed_files_are_one_sentence(base: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the file config\.json is missing"):
        load_base(tmp_path)
    save_base(base.model, base.tokenizer, base.spec, tmp_path)
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[:500])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        load_base(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(weights)
    (tmp_path / "spec.json").write_text(base.spec.to_json().replace('"num_layers": 2', '"num_layers": 3'))
    with pytest.raises(ValueError, match=r"does not fit its spec\.json"):
        load_base(tmp_path)
    (tmp_path / "spec.json").write_bytes(b"\xff\x00")
    with pytest.raises(ValueError, match="model spec is malformed"):
        load_base(tmp_path)


def test_a_tokenizer_of_another_model_is_refused(base: BaseModel, tmp_path: Path) -> None:
    from dataclasses import replace

    with pytest.raises(ValueError, match="another id"):
        save_base(base.model, base.tokenizer, replace(base.spec, image_token_id=8), tmp_path)
    with pytest.raises(ValueError, match="larger than"):
        save_base(base.model, base.tokenizer, replace(base.spec, vocab_size=350), tmp_path)


def test_building_is_seeded_and_leaves_the_global_generator_alone(spec: ModelSpec) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, two, other = build(spec, seed=1), build(spec, seed=1), build(spec, seed=2)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)


@pytest.mark.parametrize("frozen_sinks", [True, False])
def test_fast_attention_equals_eager(base: BaseModel, examples: list[Example], frozen_sinks: bool) -> None:
    """Logits and every gradient, in float64, with padding, window and images; sinks frozen and trained."""
    batch = collate(encode_all(examples, base.tokenizer, base.spec))
    assert batch.pixel_values is not None
    object.__setattr__(batch, "pixel_values", batch.pixel_values.double())
    results = []
    for attention in ("fused_sinks", "eager"):
        model = build(base.spec, seed=3, attention=attention, experts="eager").double()
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not (frozen_sinks and name.endswith("sinks")))
        logits = answer_logits(model, batch)
        logits.logsumexp(-1).sum().backward()
        results.append((logits.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    (fast, fast_gradients), (slow, slow_gradients) = results
    assert torch.allclose(fast, slow, atol=1e-12)
    assert fast_gradients.keys() == slow_gradients.keys()
    assert all(torch.allclose(fast_gradients[n], slow_gradients[n], atol=1e-10) for n in slow_gradients)
    assert frozen_sinks != any(name.endswith("sinks") for name in slow_gradients)


def test_no_router_loss(base: BaseModel, examples: list[Example]) -> None:
    assert base.model.config.text_config.output_router_logits is False
    batch = collate(encode_all(examples[:2], base.tokenizer, base.spec))
    assert per_sample(answer_logits(base.model, batch), batch.labels).loss.shape == (2,)
