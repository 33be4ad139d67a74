"""Whether vLLM's LoRA loader takes an adapter file: its naming rules, checked without vLLM.

Rules, as read in vLLM's sources (github.com/vllm-project/vllm, versions of 2025 and 2026; vLLM itself was not run):

* `lora/utils.py`, `parse_fine_tuned_lora_name`: a name is `base_model.model.` + path + `.lora_A.weight` or
  `.lora_B.weight` (embeddings aside); any other name raises "is unsupported LoRA weight". The path is mapped by the
  model class' `hf_to_vllm_mapper`; of `models/llava.py`: `model.language_model.` -> `language_model.model.`,
  `model.multi_modal_projector.` -> `multi_modal_projector.`.
* `lora/lora_model.py` (before: `lora/models.py`), `LoRAModel.from_local_checkpoint`, `check_unexpected_modules`: the
  last part of the path must be among the model's linear layers (`get_supported_lora_modules`), with q/k/v found through
  `packed_modules_mapping`; else "expected target modules in ... but received ...".
* `lora/peft_helper.py`, `PEFTHelper`: `r`, `lora_alpha` and `target_modules` are there; `modules_to_save` is None,
  `use_dora` is false, `bias` is "none", `r` is at most `--max-lora-rank` (`config/lora.py`: 8, 16, 32, 64, 128, 256,
  320 or 512; the default is 16). `rank_pattern` and `alpha_pattern` are not read: one rank and alpha for all.
* `lora/model_manager.py`: of a multimodal model only the language model is adapted; what belongs to the vision tower or
  to the connector (`get_mm_mapping`) is *ignored with a warning*, unless `enable_tower_connector_lora` is set and the
  class supports it. An adapted projector would therefore be dropped in silence, so it is refused here.
* Experts: PEFT's packed factors (`experts.base_layer` = gate_up_proj, `experts` = down_proj) are read by newer versions
  only (`FusedMoE3DWithLoRA`, `is_3d_moe_weight`), older ones refuse them. They are refused here.

Not known: whether `LlavaForConditionalGeneration` supports LoRA in the version that is installed somewhere (older
classes lack `SupportsLoRA`), and whether a LLaVA wrapper applies GPT-oss' own mapping (`.self_attn.` -> `.attn.`,
`models/gpt_oss.py`). A module that is not found is skipped in silence: compare answers with PEFT before relying on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from model.spec import group_of

__all__ = ["MAX_LORA_RANKS", "max_lora_rank", "parse_lora_name", "require_vllm_loads", "vllm_sentence"]

MAX_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM's `--max-lora-rank` takes in every version that was read."""

_PREFIX = "base_model.model."
_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj")
_MAPPED = {"model.language_model.": "language_model.model.", "model.multi_modal_projector.": "multi_modal_projector."}


def parse_lora_name(name: str) -> tuple[str, bool]:
    """(module path as vLLM's LLaVA class has it, whether it is factor A), as `parse_fine_tuned_lora_name` reads it.

    Raises ValueError for a name that vLLM does not read.
    """
    match = re.fullmatch(re.escape(_PREFIX) + r"(.+)\.lora_([AB])\.weight", name)
    if match is None:
        raise ValueError(f"vLLM does not read a LoRA weight of the name {name}")
    path = match[1]
    for old, new in _MAPPED.items():
        if path.startswith(old):
            path = new + path.removeprefix(old)
            break
    return path, match[2] == "A"


def max_lora_rank(rank: int) -> int:
    """The smallest `--max-lora-rank` that holds `rank`. Raises ValueError when there is none."""
    for allowed in MAX_LORA_RANKS:
        if rank <= allowed:
            return allowed
    raise ValueError(f"vLLM serves adapters up to rank {MAX_LORA_RANKS[-1]}, this one has {rank}")


def require_vllm_loads(names: Iterable[str], config: Mapping[str, Any]) -> None:
    """Raises ValueError, one sentence, when vLLM refuses the adapter or would leave out a part of it.

    Args:
        names: of the tensors in `adapter_model.safetensors`.
        config: `adapter_config.json`.
    """
    _require_config(config)
    factors: dict[str, set[bool]] = {}
    left_out: dict[str, None] = {}
    for name in names:
        path, is_a = parse_lora_name(name)
        factors.setdefault(path, set()).add(is_a)
        group = group_of(name.removeprefix(_PREFIX).rsplit(".", 2)[0])
        if group != "attention" or path.rsplit(".", 1)[-1] not in _LAYERS:
            left_out[group or path] = None
    if left_out:
        raise ValueError(f"vLLM applies the language model's attention adapters only and leaves out: "
                         f"{', '.join(left_out)}; export with --format merged for it")
    single = next((path for path, found in factors.items() if len(found) < 2), None)
    if single is not None or not factors:
        raise ValueError(f"vLLM needs both factors of every adapted layer, and {single or 'the file'} lacks them")


def vllm_sentence(names: Iterable[str], config: Mapping[str, Any]) -> str:
    """What a card says about vLLM: how to serve the adapter, or why it must not be."""
    try:
        require_vllm_loads(names, config)
    except ValueError as error:
        return f"not for this adapter: {error}"
    rank = max_lora_rank(config["r"])
    return (f"names accepted by its LoRA loader's rules (`--enable-lora --max-lora-rank {rank}`); not run here, so "
            "compare answers with PEFT before relying on it")


def _require_config(config: Mapping[str, Any]) -> None:
    rank = config.get("r")
    if type(rank) is not int or rank < 1:
        raise ValueError(f"vLLM needs a whole number as r, not {rank!r}")
    max_lora_rank(rank)
    allowed: dict[str, Any] = {"bias": "none", "modules_to_save": None, "use_dora": False}
    for name, value in allowed.items():
        if config.get(name, value) != value:
            raise ValueError(f"vLLM does not load an adapter with {name}={config[name]!r}")
    for name in ("rank_pattern", "alpha_pattern"):
        if config.get(name):
            raise ValueError(f"vLLM reads one r and one lora_alpha and would ignore {name}")
