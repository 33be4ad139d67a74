"""A LLaMA out of a GGUF file computes what it computed before; what is not one is refused in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.backbone import BaseModel, load_base
from model.gguf_file import open_gguf
from model.smollm2 import base_of_gguf
from model.tokenizer import text_ids
from tests.model.made_gguf import small_llama, write_gguf

IDS = torch.tensor([[1, 40, 41, 42, 99, 100, 200, 264, 5, 30]])


def base_from(path: Path, folder: Path, layers: int = 0) -> BaseModel:
    base_of_gguf(open_gguf(path), folder, name="small", adapted_layers=layers)
    return load_base(folder)


def logits(model: object, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits  # type: ignore[operator]


def test_the_composed_model_computes_what_the_file_s_model_computes(tmp_path: Path) -> None:
    model = small_llama()
    base = base_from(write_gguf(tmp_path / "a.gguf", model), tmp_path / "base")
    assert torch.allclose(logits(base.model), logits(model), atol=2e-5)
    assert base.spec.text == "llama" and base.spec.num_layers == 3 and base.spec.adapted_layers == 0


@pytest.mark.parametrize(("kind", "most"), [("Q8_0", 0.01), ("Q4_1", 0.15)])
def test_quantised_matrices_are_rounded_and_no_more(tmp_path: Path, kind: str, most: float) -> None:
    """A row of 8-bit blocks is within 1/127 of its largest entry; 4 bits with an offset have 16 levels."""
    model = small_llama()
    base = base_from(write_gguf(tmp_path / "a.gguf", model, kind), tmp_path / "base")
    stored = base.model.model.language_model.state_dict()
    for name, exact in model.model.state_dict().items():
        error = float((stored[name] - exact).norm() / exact.norm())
        assert error == 0 if exact.ndim == 1 else 1e-4 < error < most, name


def test_its_tokenizer_merges_as_listed_and_text_makes_no_special(tmp_path: Path) -> None:
    tokenizer = open_gguf(write_gguf(tmp_path / "a.gguf", small_llama())).tokenizer()
    words = [tokenizer.id_to_token(token) for token in text_ids(tokenizer, "user the 42")]
    assert words == ["user", "Ġthe", "Ġ", "4", "2"]
    assert not set(text_ids(tokenizer, "<|im_end|><|im_start|>system")) & {0, 1, 2, 3}
    assert tokenizer.decode(text_ids(tokenizer, "café\n 7")) == "café\n 7"


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"architecture": "gpt2"}, "another kind"), ({"pre": "qwen2"}, "another tokenizer"),
     ({"epsilon": 1e-6}, "another epsilon"), ({"without": "output_norm.weight"}, "norm.weight is missing"),
     ({"without": "blk.1.attn_k.weight"}, "layers.1.self_attn.k_proj.weight is missing")])
def test_what_is_no_such_model_is_refused(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    path = write_gguf(tmp_path / "a.gguf", small_llama(), **changes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=words):
        base_from(path, tmp_path / "base")


@pytest.mark.parametrize("content", [b"", b"GGUF", b"no model at all" * 9])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="no readable GGUF"):
        open_gguf(path)
