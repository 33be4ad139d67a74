"""Attention that goes sample by sample is attention under the row's mask, and is what the whole model runs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward

import model.sink_attention
from model.adapter import attach
from model.backbone import BaseModel
from model.inputs import Example, encode_all
from model.packing import pack, packed_logits, per_packed_sample, segment_masks
from model.sink_attention import sink_attention
from model.spec import LoraSpec

LENGTHS = (40, 3, 70, 1, 20, 20, 20, 90)
"""Short neighbours that share a block, long ones alone, and samples longer than the window."""
WINDOW, HEADS, KV_HEADS, WIDTH = 16, 4, 2, 8


@pytest.fixture
def attention() -> SimpleNamespace:
    """What the functions read from a GptOssAttention."""
    torch.manual_seed(0)
    sinks = torch.randn(HEADS, dtype=torch.float64)
    return SimpleNamespace(num_key_value_groups=HEADS // KV_HEADS, sinks=sinks, training=False)


def states(batch: int = 1, length: int = sum(LENGTHS)) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [
        torch.randn(batch, heads, length, WIDTH, dtype=torch.float64, requires_grad=True)
        for heads in (HEADS, KV_HEADS, KV_HEADS)
    ]


def masks() -> dict[str, torch.Tensor]:
    owners = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    return segment_masks(owners, WINDOW, dtype=torch.float64)


@pytest.mark.parametrize("layer", ["full_attention", "sliding_attention"])
def test_by_samples_equals_the_dense_row_with_gradients(attention: SimpleNamespace, layer: str) -> None:
    """Against the fused dense form and transformers' eager code; values and gradients of q, k and v."""
    mask = masks()[layer]
    upstream = torch.randn(1, sum(LENGTHS), HEADS, WIDTH, dtype=torch.float64)
    found = []
    for run, more in (
        (sink_attention, {"packed_lengths": LENGTHS}), (sink_attention, {}), (eager_attention_forward, {}),
    ):  # fmt: skip
        inputs = states()
        output, _ = run(attention, *inputs, mask, scaling=0.3, **more)
        found.append((output.detach(), *torch.autograd.grad(output, inputs, upstream)))
    for other in found[1:]:
        assert max(float((a - b).abs().max()) for a, b in zip(found[0], other, strict=True)) < 1e-12


def test_the_window_holds_inside_a_sample_longer_than_it(attention: SimpleNamespace) -> None:
    """The last token of the last sample sees its window and nothing before, of the sample or of the row."""
    inputs = states()
    output, _ = sink_attention(
        attention, *inputs, masks()["sliding_attention"], scaling=0.3, packed_lengths=LENGTHS
    )  # fmt: skip
    _, key, _ = torch.autograd.grad(output[:, -1].sum(), inputs)
    reached = (key.abs().sum(dim=(0, 1, 3)) > 0).nonzero()[:, 0]
    assert reached.tolist() == list(range(sum(LENGTHS) - WINDOW, sum(LENGTHS)))


def test_wrong_lengths_show_no_token_that_the_mask_hides(attention: SimpleNamespace) -> None:
    """The mask is what the privacy engine checks: one length for the whole row must not undo it."""
    row = (sum(LENGTHS),)
    mask = masks()["full_attention"]
    inputs = states()
    right, _ = sink_attention(attention, *inputs, mask, scaling=0.3, packed_lengths=LENGTHS)
    whole, _ = sink_attention(attention, *inputs, mask, scaling=0.3, packed_lengths=row)
    assert float((right - whole).detach().abs().max()) < 1e-12


@pytest.mark.parametrize("lengths", [(), (0, sum(LENGTHS)), (sum(LENGTHS) - 1,), (*LENGTHS, 1)])
def test_lengths_that_are_not_the_row_are_refused(attention: SimpleNamespace, lengths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="packed_lengths"):
        sink_attention(attention, *states(), masks()["full_attention"], scaling=0.3, packed_lengths=lengths)


def test_two_rows_with_lengths_are_refused(attention: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="one packed row"):
        sink_attention(attention, *states(2), masks()["full_attention"], scaling=0.3, packed_lengths=LENGTHS)


def test_padded_rows_equal_the_eager_code(attention: SimpleNamespace) -> None:
    inputs = states(3, 30)
    mask = torch.full((3, 1, 30, 30), torch.finfo(torch.float64).min, dtype=torch.float64).triu(1)
    mask[1, :, :, :7] = torch.finfo(torch.float64).min
    mask.diagonal(dim1=-2, dim2=-1).zero_()
    ours, _ = sink_attention(attention, *inputs, mask, scaling=0.3)
    theirs, _ = eager_attention_forward(attention, *inputs, mask, scaling=0.3)
    assert float((ours - theirs).detach().abs().max()) < 1e-12


@pytest.mark.parametrize("checkpointing", ["none", "reentrant", "non-reentrant"])
def test_lengths_reach_every_layer_of_the_model(
    base: BaseModel, examples: list[Example], monkeypatch: pytest.MonkeyPatch, checkpointing: str
) -> None:
    """Through LLaVA, PEFT and both kinds of checkpointing: each call has a block's tokens, never the row's."""
    adapted = attach(base.model, LoraSpec(rank=2), seed=0).train()
    if checkpointing != "none":
        reentrant = {"use_reentrant": checkpointing == "reentrant"}
        adapted.gradient_checkpointing_enable(gradient_checkpointing_kwargs=reentrant)
        adapted.enable_input_require_grads()
    packed = pack(encode_all(examples, base.tokenizer, base.spec), base.spec.sliding_window)
    attended: list[int] = []
    plain = model.sink_attention._attend

    def watched(module: object, query: torch.Tensor, *rest: object) -> torch.Tensor:
        attended.append(query.shape[2])
        return plain(module, query, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(model.sink_attention, "_attend", watched)
    per_packed_sample(packed_logits(adapted, packed), packed).loss.sum().backward()
    passes = 1 if checkpointing == "none" else 2
    assert sum(attended) == passes * base.spec.num_layers * sum(packed.lengths)
    assert max(attended) <= max(64, *packed.lengths) < sum(packed.lengths)
    assert any(float(p.grad.abs().max()) > 0 for p in adapted.parameters() if p.grad is not None)


def test_a_fused_kernel_takes_it(attention: SimpleNamespace) -> None:
    """Without torch's slow general path, which keeps all weights of a row."""
    arguments = (attention, *states(), masks()["full_attention"])
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        fused, _ = sink_attention(*arguments, scaling=0.3, packed_lengths=LENGTHS)
    with sdpa_kernel(SDPBackend.MATH):
        general, _ = sink_attention(*arguments, scaling=0.3, packed_lengths=LENGTHS)
    assert torch.allclose(fused, general, rtol=0, atol=1e-5)
