"""How many bytes of a GPU one training step takes, from the model's dimensions alone: no torch, no GPU.

The step is the one of `site_client.mechanism`: packed or dense base in bfloat16, adapters in float32, every layer
recomputed in backward, losses without logits. At its peak the card holds

    weights + adapters + per-patient gradients + one input of every layer + one layer at work + what unpacks or scores

and the last two are counted tensor by tensor below, as `model.sink_attention`, `model.mxfp4`, `model.loss`, PEFT's
linear layers and transformers' GPT-oss leave them to autograd. `benchmarks.full_size` compares with measured peaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from model.adapter_size import adapter_numbers
from model.spec import LoraSpec, ModelSpec

__all__ = ["GIB", "MemoryPlan", "most_tokens", "parse_bytes", "plan", "weight_bytes"]

GIB = 1 << 30
_CONTEXT = int(0.6 * GIB)        # CUDA context and kernels, not in torch's allocator
# What the allocator holds and cannot use: a fixed part, and a share of what is not weights (fitted to measured peaks).
_IDLE, _FRAGMENTS = int(0.12 * GIB), 0.085
_CHUNK_WEIGHTS = 1 << 28         # model.mxfp4: unpacked at a time
_CHUNK_LOGITS = 1 << 26          # model.loss: logits at a time
_UNITS = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 1 << 10, "mib": 1 << 20, "gib": GIB}


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes of one step, by what takes them; `total` is what the card must have free.

    weights: the frozen base. adapters: factors, their optimiser's copy is on the host. gradients: per patient, float32,
    and the step's float64 sum. inputs: of each layer, kept for its recomputation. layer: one layer's tensors in
    backward. workspace: unpacked experts, or the logits of one chunk. context: CUDA's own.
    """

    weights: int
    adapters: int
    gradients: int
    inputs: int
    layer: int
    workspace: int
    context: int

    @property
    def allocated(self) -> int:
        """Bytes that torch's allocator hands out at the peak."""
        return self.weights + self.adapters + self.gradients + self.inputs + self.layer + self.workspace

    @property
    def held(self) -> int:
        """Bytes that torch's allocator takes from the card: `allocated`, and what lies idle between its blocks."""
        return self.allocated + _IDLE + int(_FRAGMENTS * (self.allocated - self.weights))

    @property
    def total(self) -> int:
        """`held` and CUDA's context."""
        return self.held + self.context


def plan(
    spec: ModelSpec, lora: LoraSpec, *, length: int, rows: int = 1, patients: int = 1, answers: int = 0
) -> MemoryPlan:
    """The plan of one micro-batch: `rows` padded rows of `length` tokens (image tokens included) of `patients`.

    answers: tokens with loss in it, 0 for an eighth. Raises ValueError for numbers below 1 and a row beyond the
    model's context.
    """
    if min(length, rows, patients) < 1 or answers < 0:
        raise ValueError("plan-memory: tokens, rows and patients must be at least 1.")
    if length > spec.context:
        raise ValueError(f"plan-memory: a row has at most {spec.context} tokens, the model's context.")
    coordinates = adapter_numbers(spec, lora.rank, lora.groups)
    tokens, size = rows * length, _size(spec)
    scored = answers or max(1, tokens // 8)
    return MemoryPlan(
        weights=weight_bytes(spec),
        adapters=4 * coordinates,
        gradients=4 * patients * coordinates + 8 * coordinates,
        inputs=tokens * spec.hidden_size * size * spec.num_layers,
        layer=tokens * _layer_bytes(spec, lora),
        workspace=max(_unpacked_bytes(spec), _scored_bytes(spec, scored)),
        context=_CONTEXT,
    )


def most_tokens(spec: ModelSpec, lora: LoraSpec, free: int, *, rows: int = 1) -> int:
    """Tokens of the longest row (or of each of `rows` rows) that fits into `free` bytes of a card; 0 when none does."""
    low, high = 0, spec.context
    while low < high:
        middle = (low + high + 1) // 2
        if plan(spec, lora, length=middle, rows=rows, patients=rows).total <= free:
            low = middle
        else:
            high = middle - 1
    return low


def weight_bytes(spec: ModelSpec) -> int:
    """Bytes of the stored model on the card."""
    width, layers = spec.hidden_size, spec.num_layers
    queries, keys = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    attention = (width + 1) * (queries + 2 * keys) + (queries + 1) * width + spec.num_heads
    router = (width + 1) * spec.num_experts
    biases = spec.num_experts * (2 * spec.expert_size + width)
    plain = layers * (attention + router + biases + 2 * width) + 2 * spec.vocab_size * width + width
    plain += _vision_weights(spec) + _projector_weights(spec)
    matrices = layers * 3 * spec.num_experts * width * spec.expert_size
    packed = matrices * 17 // 32 if spec.experts == "mxfp4" else matrices * _size(spec)
    return plain * _size(spec) + packed


def parse_bytes(text: str) -> int:
    """`24GB`, `22.5GiB`, `80 GB` in bytes. Raises ValueError for anything else."""
    cleaned = text.strip().lower().replace(" ", "")
    number = cleaned.rstrip("bkmgti")
    unit = cleaned[len(number):]
    try:
        value = float(number) * _UNITS[unit]
    except (ValueError, KeyError):
        value = 0.0
    if not 0 < value < 1e16:
        raise ValueError(f"plan-memory: {text!r} is no amount of memory; write 24GB or 22.5GiB.")
    return int(value)


def _size(spec: ModelSpec) -> int:
    return 2 if spec.dtype == "bfloat16" else 4


def _layer_bytes(spec: ModelSpec, lora: LoraSpec) -> int:
    """Bytes a token of one layer whose backward is in its experts, where a layer is largest."""
    width, inner, chosen, size = spec.hidden_size, spec.expert_size, spec.experts_per_token, _size(spec)
    queries, keys = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    wide = spec.num_heads * (spec.head_dim + 8)  # attention's extra features
    norms = 2 * 2 * 4 * width                    # float32 input and result of both norms
    adapted = 4 * (3 * width + queries) if "attention" in lora.groups else 0  # PEFT's float32 copies of its inputs
    attention = size * (queries + 2 * keys + 2 * wide + queries)              # q, k, v; with features; output
    residual = size * 3 * width
    share = min(1.0, _CHUNK_WEIGHTS / (2 * spec.num_experts * width * inner)) if spec.experts == "mxfp4" else 1.0
    kept = size * chosen * 2 * inner             # gate and up of every chosen expert
    rows = size * chosen * width                 # gradients of the sorted rows
    at_work = size * chosen * share * (2 * width + 9 * inner)  # a chunk: incoming, back, gate's own tensors, result
    return int(norms + adapted + attention + residual + kept + rows + at_work)


def _unpacked_bytes(spec: ModelSpec) -> int:
    if spec.experts != "mxfp4":
        return 0
    matrix = 2 * spec.hidden_size * spec.expert_size
    return max(1, min(spec.num_experts, _CHUNK_WEIGHTS // matrix)) * matrix * _size(spec)


def _scored_bytes(spec: ModelSpec, scored: int) -> int:
    """One chunk of logits: in the model's type, in float32, and their chances in the model's type again."""
    return min(scored * spec.vocab_size, _CHUNK_LOGITS) * (4 + 2 * _size(spec))


def _vision_weights(spec: ModelSpec) -> int:
    width, inner = spec.vision_hidden_size, spec.vision_mlp_size
    patches = (spec.image_size // spec.patch_size) ** 2 + 1
    layer = 4 * (width + 1) * width + (width + 1) * inner + (inner + 1) * width + 4 * width
    return int(spec.vision_layers * layer + width * (3 * spec.patch_size**2 + 1 + patches) + 4 * width)


def _projector_weights(spec: ModelSpec) -> int:
    width, image = spec.hidden_size, spec.vision_hidden_size * (4 if spec.projector == "internvl" else 1)
    norm = 2 * image if spec.projector == "internvl" else 0
    return norm + (image + 1) * width + (width + 1) * width


def table(spec: ModelSpec, lora: LoraSpec, free: int, lengths: Sequence[int]) -> list[dict[str, int]]:
    """For each row length: bytes of one row, how many rows fit at once, how many image tiles the row has room for."""
    lines = []
    for length in lengths:
        rows = 0
        while rows < 256 and plan(spec, lora, length=length, rows=rows + 1, patients=rows + 1).total <= free:
            rows += 1
        tiles = min(spec.max_tiles + 1, max(0, length - 64) // spec.tokens_per_tile)
        lines.append({"length": length, "bytes": plan(spec, lora, length=length).total, "rows": rows, "tiles": tiles})
    return lines
