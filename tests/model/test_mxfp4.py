"""Packed experts: the format against transformers' reader, the layer against transformers' dense experts."""

from __future__ import annotations

import pytest
import torch
from transformers import GptOssConfig
from transformers.integrations.mxfp4 import convert_moe_packed_tensors
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssExperts

from model.mxfp4 import FP4_VALUES, PackedExperts, dequantise, packed_shapes, quantise

EXPERTS, HIDDEN, INNER = 5, 64, 96


def _random_blocks(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 256, (*shape, 16), dtype=torch.uint8, generator=draw)
    return blocks, torch.randint(110, 135, shape, dtype=torch.uint8, generator=draw)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_unpacks_as_transformers_does(dtype: torch.dtype) -> None:
    blocks, scales = _random_blocks(3, 8, 4)
    theirs = convert_moe_packed_tensors(blocks, scales, dtype=dtype)
    assert torch.equal(dequantise(blocks, scales, dtype).mT, theirs)


def test_every_code_and_every_scale() -> None:
    codes = torch.arange(16, dtype=torch.uint8)
    blocks = (codes | (codes.flip(0) << 4)).repeat(255, 1)
    scales = torch.arange(255, dtype=torch.uint8)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        found = dequantise(blocks.view(255, 1, 16), scales.view(255, 1), dtype).double()
        values = torch.tensor(FP4_VALUES, dtype=torch.float64)
        expected = torch.stack([values, values.flip(0)], dim=1).reshape(-1) * 2.0 ** (scales.double()[:, None] - 127)
        largest = torch.finfo(dtype).max
        inside = expected.abs() <= largest
        assert torch.equal(found[inside], expected[inside])
        assert bool(torch.isinf(found[~inside]).all())


def test_scale_255_is_not_a_number() -> None:
    assert bool(torch.isnan(dequantise(torch.full((1, 16), 17, dtype=torch.uint8),
                                       torch.tensor([255], dtype=torch.uint8), torch.float32)).all())


def test_quantising_what_was_unpacked_changes_nothing() -> None:
    blocks, scales = _random_blocks(4, 6)
    blocks[..., 0] = 7  # a 6 in each block, so that the scale is the only one that fits
    weights = dequantise(blocks, scales, torch.float64)
    again = dequantise(*quantise(weights), torch.float64)
    assert torch.equal(again, weights)


def test_quantising_rounds_to_the_nearest_and_ties_to_even_codes() -> None:
    row = torch.zeros(32)
    row[:8] = torch.tensor([6.0, 5.0, 2.5, 3.5, 0.25, 0.75, -1.25, 0.26])
    expected = torch.tensor([6.0, 4.0, 2.0, 4.0, 0.0, 1.0, -1.0, 0.5])
    assert torch.equal(dequantise(*quantise(row), torch.float32)[:8], expected)


def test_a_block_of_zeros() -> None:
    assert torch.equal(dequantise(*quantise(torch.zeros(2, 64)), torch.float32), torch.zeros(2, 64))


@pytest.mark.parametrize("weights", [torch.zeros(4, 33), torch.full((1, 32), float("nan"))])
def test_refuses_what_has_no_packed_form(weights: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="MXFP4"):
        quantise(weights)


def test_shapes_are_those_of_the_published_checkpoint() -> None:
    shapes = packed_shapes(32, 2880, 2880)
    assert shapes["gate_up_proj_blocks"] == (32, 5760, 90, 16)
    assert shapes["gate_up_proj_scales"] == (32, 5760, 90)
    assert shapes["down_proj_blocks"] == (32, 2880, 90, 16)
    with pytest.raises(ValueError, match="multiples of 32"):
        packed_shapes(4, 90, 64)


def _layers(dtype: torch.dtype) -> tuple[PackedExperts, GptOssExperts]:
    torch.manual_seed(1)
    packed = PackedExperts(EXPERTS, HIDDEN, INNER).to(dtype)
    packed.fill(torch.Generator().manual_seed(2), std=0.1)
    packed.gate_up_proj_bias.normal_(std=0.1)
    packed.down_proj_bias.normal_(std=0.1)
    dense = GptOssExperts(GptOssConfig(
        hidden_size=HIDDEN, intermediate_size=INNER, num_local_experts=EXPERTS, num_experts_per_tok=2)).to(dtype)
    with torch.no_grad():
        for name in ("gate_up_proj", "down_proj"):
            getattr(dense, name).copy_(packed.dense(name, dtype))
            getattr(dense, f"{name}_bias").copy_(getattr(packed, f"{name}_bias"))
    dense.requires_grad_(False)
    dense.config._experts_implementation = "eager"
    return packed, dense


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_layer_and_its_gradients_are_those_of_dense_experts(dtype: torch.dtype, tolerance: float) -> None:
    packed, dense = _layers(dtype)
    states = torch.randn(17, HIDDEN, dtype=dtype)
    chosen = torch.stack([torch.randperm(EXPERTS - 1)[:2] for _ in range(17)])  # the last expert gets nothing
    shares = torch.rand(17, 2, dtype=dtype)
    results = []
    for layer in (packed, dense):
        x, w = states.clone().requires_grad_(), shares.clone().requires_grad_()
        out = layer(x, chosen, w)
        out.square().sum().backward()
        results.append((out.detach(), x.grad, w.grad))
    for ours, theirs in zip(*results, strict=True):
        assert ours is not None and theirs is not None
        assert float((ours - theirs).abs().max()) <= tolerance * max(1.0, float(theirs.abs().max()))


def test_nothing_is_kept_that_is_as_large_as_a_weight() -> None:
    packed, _ = _layers(torch.float32)
    kept: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    states = torch.randn(3, HIDDEN, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        packed(states, torch.tensor([[0, 1], [1, 2], [0, 2]]), torch.rand(3, 2))
    assert max(kept) <= 6 * 2 * INNER < HIDDEN * 2 * INNER


def _has_triton() -> bool:
    import importlib.util

    return importlib.util.find_spec("triton") is not None


@pytest.mark.skipif(not _has_triton(), reason="the kernel needs Triton, which comes with torch's CUDA builds")
def test_the_kernel_unpacks_as_torch_does() -> None:
    """On a GPU, or without one with TRITON_INTERPRET=1."""
    from model.mxfp4_gpu import unpack

    device = "cuda" if torch.cuda.is_available() else "cpu"
    blocks = torch.randint(0, 256, (3, 8, 70, 16), dtype=torch.uint8)
    scales = torch.randint(3, 256, (3, 8, 70), dtype=torch.uint8)
    ours = unpack(blocks.to(device), scales.to(device))
    assert ours is not None
    assert torch.equal(ours.cpu().view(torch.int16).where(~ours.cpu().isnan(), 0),
                       dequantise(blocks, scales, torch.bfloat16).view(torch.int16).where(~ours.cpu().isnan(), 0))
    assert torch.equal(ours.cpu().isnan(), (scales == 255).repeat_interleave(32, dim=-1))
