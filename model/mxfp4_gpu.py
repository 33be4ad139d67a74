"""The unpacking of `model.mxfp4` as one GPU kernel: read 4.25 bits a weight, write bfloat16, nothing in between.

torch's operators need six passes over memory for it: four times what the experts' products take for a row of 2,048
tokens (H100, profile). The kernel gives the same numbers (those below 2^-126 may become zero) and is used where Triton
runs: it comes with torch's CUDA builds and needs a C compiler. Elsewhere `model.mxfp4` goes its slower way.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["unpack"]

_log = logging.getLogger(__name__)
_BYTES = 1024  # of blocks that one program of the kernel unpacks


def unpack(blocks: Tensor, scales: Tensor) -> Tensor | None:
    """bfloat16 (..., G * 32) from contiguous uint8 blocks (..., G, 16) and scales (..., G), or None without Triton."""
    kernel = _kernel()
    if kernel is None:
        return None
    blocks, scales = blocks.contiguous(), scales.contiguous()
    words = torch.empty(blocks.shape, dtype=torch.int32, device=blocks.device)
    total = blocks.numel()
    kernel[(-(-total // _BYTES),)](blocks, scales, words, total, SIZE=_BYTES)
    return words.view(torch.bfloat16).view(*scales.shape[:-1], -1)


@lru_cache(maxsize=1)
def _kernel() -> Any:
    try:
        kernel = _built()
    except ImportError:
        return None
    try:  # small, so that a missing compiler is found here
        device = torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")
        words = torch.empty(16, dtype=torch.int32, device=device)
        kernel[(1,)](torch.full((16,), 0x22, dtype=torch.uint8, device=device),
                     torch.full((1,), 127, dtype=torch.uint8, device=device), words, 16, SIZE=_BYTES)
        right = bool((words.view(torch.bfloat16) == 1).all())
    except Exception as error:  # whatever Triton and its compiler raise
        _log.warning("no GPU kernel for packed experts, training is slower kind=%s", type(error).__name__)
        return None
    return kernel if right else None


def _built() -> Any:
    """The kernel; ImportError without Triton."""
    import triton
    import triton.language as tl

    @triton.jit  # type: ignore[untyped-decorator]
    def kernel(blocks, scales, words, total, SIZE: tl.constexpr):  # type: ignore[no-untyped-def]
        at = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
        inside = at < total
        pair = tl.load(blocks + at, mask=inside, other=0).to(tl.int32)
        scale = tl.load(scales + at // 16, mask=inside, other=0).to(tl.int32)
        # 2^(scale - 127) by its bits; code 0 is subnormal, 255 is no number.
        power = tl.where(scale == 0, 0x00400000, tl.where(scale == 255, 0x7FC00000, scale << 23))
        factor = power.to(tl.float32, bitcast=True)
        word = tl.zeros([SIZE], dtype=tl.int32)
        for half in tl.static_range(2):
            code = (pair >> (4 * half)) & 15
            small, rest = code & 1, (code >> 1) & 3
            # E2M1: exponent bits 0 mean 0 or 0.5, else 2^(e - 1) (1 + m / 2).
            bits = tl.where(rest == 0, small * 0x3F000000, ((rest + 126) << 23) | (small << 22))
            bits = bits | ((code >> 3) << 31)
            value = (bits.to(tl.float32, bitcast=True) * factor).to(tl.bfloat16)
            word = word | ((value.to(tl.int16, bitcast=True).to(tl.int32) & 0xFFFF) << (16 * half))
        tl.store(words + at, word, mask=inside)

    return kernel
