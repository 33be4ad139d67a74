"""The project's own base model: a tokenizer and the tiny model, pretrained on public examples, cached by content.

Stands in for MedGPT-oss where its weights cannot be had. Same data, spec and recipe give the same folder, which
is found in the cache the next time. All weights are trained; the adapters come later.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from model.backbone import build, save_base
from model.base_cache import kept_base
from model.example_file import kind_of
from model.inputs import Encoded, Example, arrays_of, collate, encode_all
from model.loss import answer_logits, per_sample
from model.spec import ModelSpec
from model.tokenizer import train_tokenizer

__all__ = ["Progress", "Recipe", "cache_key", "pretrain"]

Progress = Callable[[int, int, float], None]
"""Called after each step with (samples done, samples in all, running mean loss)."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the base is trained. epochs: passes over the examples of each kind (`model.example_file.kind_of`).

    learning_rate: peak of a linear warm-up and a cosine decay to a tenth of it; AdamW, no decay on vectors.
    """

    version: int = 1
    seed: int = 0
    epochs: Mapping[str, int] = field(default_factory=lambda: {"normal": 1, "impression": 2, "alike": 3, "free": 4})
    batch_size: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    max_gradient_norm: float = 1.0

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.learning_rate <= 0 or any(count < 0 for count in self.epochs.values()):
            raise ValueError("Recipe: batch_size and learning_rate must be positive, epochs not negative.")


def pretrain(
    examples: Sequence[Example],
    spec: ModelSpec,
    cache_dir: Path,
    *,
    recipe: Recipe | None = None,
    progress: Progress | None = None,
) -> Path:
    """The folder of the base model for these examples, trained now or found in `cache_dir`.

    A folder appears in the cache whole or not at all. Raises ValueError without examples to train on, or when the
    cached folder no longer holds what was written.
    """
    recipe = recipe or Recipe()
    if not any(recipe.epochs.get(kind_of(example), 0) for example in examples):
        raise ValueError("pretrain: no example is of a kind that the recipe trains on.")
    target = cache_dir / f"base-{cache_key(examples, spec, recipe)[:16]}"
    return kept_base(target, lambda folder: _train(examples, spec, recipe, folder, progress))


def cache_key(examples: Sequence[Example], spec: ModelSpec, recipe: Recipe) -> str:
    """SHA-256 (hex) of everything the result depends on: every example in order, the spec, the recipe."""
    total = hashlib.sha256(b"pretrain/1|")
    settings = asdict(recipe) | {"epochs": dict(sorted(recipe.epochs.items()))}
    for part in (spec.to_json(), json.dumps(settings, sort_keys=True)):
        total.update(hashlib.sha256(part.encode()).digest())
    for example in examples:
        images = arrays_of(example)
        text = json.dumps([example.question, example.answer, example.choices, [image.shape for image in images]])
        total.update(hashlib.sha256(text.encode()).digest())
        for image in images:
            total.update(hashlib.sha256(image.tobytes()).digest())
    return total.hexdigest()


def _train(
    examples: Sequence[Example], spec: ModelSpec, recipe: Recipe, directory: Path, progress: Progress | None
) -> None:
    """Tokenizer, model, optimisation, files."""
    texts = [text for example in examples for text in (example.question, example.answer)]
    tokenizer = train_tokenizer(texts, spec.vocab_size)
    model = build(spec, recipe.seed)
    model.train()
    encoded = encode_all(examples, tokenizer, spec)
    batches = list(_batches(encoded, [kind_of(example) for example in examples], recipe))
    total, done, running = sum(map(len, batches)), 0, 0.0
    optimizer = _optimizer(model, recipe)
    for step, indices in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(step / len(batches), recipe.warmup)
        batch = collate([encoded[i] for i in indices])
        loss = per_sample(answer_logits(model, batch), batch.labels).loss.mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_gradient_norm)
        optimizer.step()
        done += len(indices)
        value = float(loss.detach())
        running = value if step == 0 else 0.98 * running + 0.02 * value
        if progress is not None:
            progress(done, total, running)
    save_base(model, tokenizer, spec, directory)


def _optimizer(model: torch.nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), foreach=True)


def _schedule(position: float, warmup: float) -> float:
    """Share of the peak learning rate at `position` (0..1) of the run."""
    if position < warmup:
        return (position + 1e-3) / warmup
    decay = (position - warmup) / (1 - warmup)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * decay))


def _batches(encoded: Sequence[Encoded], kinds: Sequence[str], recipe: Recipe) -> Iterator[list[int]]:
    """Index lists: all passes of all kinds spread evenly over the run, similar lengths together, seeded."""
    generator = torch.Generator().manual_seed(recipe.seed)
    order = _interleaved(kinds, recipe, generator)
    window = recipe.batch_size * 16
    for start in range(0, len(order), window):
        part = sorted(order[start : start + window], key=lambda i: (encoded[i].num_tiles > 0, len(encoded[i])))
        chunks = [part[at : at + recipe.batch_size] for at in range(0, len(part), recipe.batch_size)]
        for chunk in torch.randperm(len(chunks), generator=generator).tolist():
            yield chunks[chunk]


def _interleaved(kinds: Sequence[str], recipe: Recipe, generator: torch.Generator) -> list[int]:
    """Every example as often as its kind's epochs say; pass e of E falls into the e-th of E equal spans of the run."""
    placed: list[tuple[float, int]] = []
    for kind in sorted(set(kinds)):
        members = [i for i, k in enumerate(kinds) if k == kind]
        epochs = recipe.epochs.get(kind, 0)
        for epoch in range(epochs):
            offsets = torch.rand(len(members), generator=generator).tolist()
            placed += [((epoch + offset) / epochs, i) for offset, i in zip(offsets, members, strict=True)]
    return [index for _, index in sorted(placed)]
