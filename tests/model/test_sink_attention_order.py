"""Causal order without a T x T mask: the fused form against transformers' eager code, full and windowed layers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers.masking_utils import causal_mask_function, eager_mask, sliding_window_causal_mask_function
from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward

import model.sink_attention
from model.backbone import build
from model.sink_attention import sink_attention, sink_mask
from model.spec import TINY

HEADS, KV_HEADS, WIDTH, WINDOW = 4, 2, 8, 16


def _module(window: int | None) -> SimpleNamespace:
    torch.manual_seed(0)
    return SimpleNamespace(
        num_key_value_groups=HEADS // KV_HEADS, sinks=torch.randn(HEADS, dtype=torch.float64), training=False,
        sliding_window=window)


def _states(batch: int, length: int) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.randn(batch, heads, length, WIDTH, dtype=torch.float64, requires_grad=True)
            for heads in (HEADS, KV_HEADS, KV_HEADS)]


def _masks(tokens: torch.Tensor, window: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Ours and transformers' for rows whose padding is where `tokens` (B, T) is False."""
    batch, length = tokens.shape
    function = causal_mask_function if window is None else sliding_window_causal_mask_function(window)
    given = {"batch_size": batch, "q_length": length, "kv_length": length, "mask_function": function,
             "attention_mask": tokens, "dtype": torch.float64}
    return sink_mask(**given, allow_is_causal_skip=True), eager_mask(**given)


@pytest.mark.parametrize("window", [None, WINDOW])
@pytest.mark.parametrize("length", [1, 15, 16, 17, 32, 61])
def test_equals_eager_attention_with_gradients(window: int | None, length: int) -> None:
    module = _module(window)
    tokens = torch.ones(3, length, dtype=torch.bool)
    tokens[1, : length // 3], tokens[2, : length // 2] = False, False  # padded on the left, as the batches are
    ours, theirs = _masks(tokens, window)
    assert ours.shape == (3, 1, 1, length)
    upstream = torch.randn(3, length, HEADS, WIDTH, dtype=torch.float64) * tokens[:, :, None, None]
    found = []
    for run, mask in ((sink_attention, ours), (eager_attention_forward, theirs)):
        inputs = _states(3, length)
        output, _ = run(module, *inputs, mask, scaling=0.3)  # type: ignore[operator]
        found.append((output.detach() * tokens[:, :, None, None], *torch.autograd.grad(output, inputs, upstream)))
    assert max(float((a - b).abs().max()) for a, b in zip(*found, strict=True)) < 1e-12


@pytest.mark.parametrize("window", [None, WINDOW])
def test_padding_decides_nothing(window: int | None) -> None:
    """What stands under the padding, as large as it may be, infinite too, changes no token's output."""
    module, (query, key, value) = _module(window), _states(1, 40)
    tokens = torch.ones(1, 40, dtype=torch.bool)
    tokens[0, :9] = False
    mask, _ = _masks(tokens, window)
    with torch.no_grad():
        before, _ = sink_attention(module, query, key, value, mask, scaling=0.3)
        query *= 40  # so that a padded key could outweigh any finite penalty
        before, _ = sink_attention(module, query, key, value, mask, scaling=0.3)
        for factor in (1e3, 1e6, float("inf")):
            for part in (query, key, value):
                part[:, :, :9] = part[:, :, :9].abs() * factor
            query[:, :, :9] = query[:, :, :9].clamp(max=1e300)
            after, _ = sink_attention(module, query, key, value, mask, scaling=0.3)
            assert torch.equal(before[:, 9:], after[:, 9:])


def test_a_bool_mask_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="for each key"):
        sink_attention(_module(None), *_states(1, 8), torch.ones(1, 1, 8, 8, dtype=torch.bool), scaling=0.3)


def test_windowed_layers_allocate_nothing_of_the_size_of_a_square(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of 4,096 tokens in a window of 16: the largest tensor of the forward stays far under T x T."""
    sizes: list[int] = []
    whole = torch.nn.functional.scaled_dot_product_attention

    def watched(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **more: object) -> torch.Tensor:
        sizes.append(query[..., 0].numel() * key.shape[2])
        mask = more["attn_mask"]
        assert isinstance(mask, torch.Tensor)
        sizes.append(mask.untyped_storage().nbytes() // mask.element_size())
        return whole(query, key, value, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(model.sink_attention.F, "scaled_dot_product_attention", watched)
    states = [torch.randn(1, heads, 4096, WIDTH) for heads in (HEADS, KV_HEADS, KV_HEADS)]
    module = _module(WINDOW)
    module.sinks = module.sinks.float()
    sink_attention(module, *states, torch.ones(1, 1, 1, 4096, dtype=torch.bool), scaling=0.3)
    assert max(sizes) < HEADS * 4096 * 4096 / 50


def test_the_whole_model_runs_without_a_square_mask() -> None:
    """Prefill and padded batches get a bool a key; a step of generation gets the mask of its one row."""
    seen: list[torch.Tensor] = []
    tiny = build(TINY, 0)
    for layer in tiny.model.language_model.layers:
        layer.self_attn.register_forward_pre_hook(
            lambda _, __, kwargs: seen.append(kwargs["attention_mask"]), with_kwargs=True)
    eager = build(TINY, 0, attention="eager")
    ids = torch.randint(20, 1000, (2, 150))
    kept = torch.ones_like(ids)
    kept[1, :40] = 0
    with torch.no_grad():
        ours = tiny(input_ids=ids, attention_mask=kept, use_cache=True)
        theirs = eager(input_ids=ids, attention_mask=kept, use_cache=True)
        assert all(mask.dtype == torch.bool and mask.shape == (2, 1, 1, 150) for mask in seen)
        real = kept.bool()
        assert float((ours.logits - theirs.logits)[real].abs().max()) < 1e-5
        more = {"input_ids": ids[:, :1], "attention_mask": torch.cat([kept, kept[:, -1:]], dim=1)}
        one = tiny(**more, past_key_values=ours.past_key_values).logits
        two = eager(**more, past_key_values=theirs.past_key_values).logits
    assert float((one - two).abs().max()) < 1e-5
