"""A base model and an adapter on it, asked the same questions: one model in memory, the adapter switched off and on."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.adapted import open_to_ask
from model.adapter_files import AdapterFiles
from model.backbone import BaseModel
from model.benchmarks.items import Item
from model.generation import Prompt, prompt_of, stream_answer
from model.inputs import Example

__all__ = ["Models", "adapter_hash", "open_models"]

_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


@dataclass(frozen=True, eq=False)
class Models:
    """base: with tokenizer and spec. model: what is called: the base, or the base with an adapter. device: where."""

    base: BaseModel
    model: Any
    adapted: bool
    device: str

    def ask(self, item: Item, max_new_tokens: int) -> dict[str, Any]:
        """Both answers to one question, greedy, as JSON values.

        `base` and, with an adapter, `adapted`: the answer's text. `cut`: which of them had not ended after
        `max_new_tokens`. `truncated`: the question's beginning did not fit. `too_long`: its pictures alone do not fit,
        and nothing was asked: both answers are empty. Raises ValueError for a picture that cannot be decoded.
        """
        names = ("base", "adapted") if self.adapted else ("base",)
        prompt = self._prompt(item)
        if prompt is None or len(prompt.ids) >= self.base.spec.context:
            return {**dict.fromkeys(names, ""), "cut": [], "truncated": False, "too_long": True}
        most = min(max_new_tokens, self.base.spec.context - len(prompt.ids))
        texts, cut = {}, []
        for name in names:
            texts[name], ended = self._answer(prompt, most, with_adapter=name == "adapted")
            cut += [] if ended else [name]
        return {**texts, "cut": cut, "truncated": prompt.truncated, "too_long": False}

    def _prompt(self, item: Item) -> Prompt | None:
        images = tuple(picture.pixels() for picture in item.pictures)
        with contextlib.suppress(ValueError):  # of pictures that alone are too long
            return prompt_of(Example(item.prompt, "", images=images), self.base.tokenizer, self.base.spec)
        return None

    def _answer(self, prompt: Prompt, most: int, *, with_adapter: bool) -> tuple[str, bool]:
        """The answer's text, and whether it ended by itself."""
        off = self.adapted and not with_adapter
        with self.model.disable_adapter() if off else contextlib.nullcontext():
            pieces = list(stream_answer(self.model, prompt, self.base.tokenizer, self.base.spec, max_new_tokens=most))
        ended = bool(pieces) and pieces[-1].token_id == self.base.spec.eos_token_id
        return "".join(piece.text for piece in pieces).strip(), ended


def open_models(directory: Path, files: AdapterFiles | None, device: str) -> Models:
    """The base model in `directory`, with the adapter of `files` on it if there is one; device: auto, cpu or cuda.

    Raises ValueError, one sentence, as `model.adapted.open_to_ask`.
    """
    base, model, device = open_to_ask(directory, files, device)
    return Models(base, model, files is not None, device)


def adapter_hash(files: AdapterFiles) -> str:
    """SHA-256 (hex) over the adapter's configuration and weights."""
    digest = hashlib.sha256(b"adapter/1|")
    for name in _ADAPTER_FILES:
        with (files.directory / name).open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
