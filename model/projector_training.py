"""A new projector between a frozen vision tower and a frozen language model, trained in full on PUBLIC examples.

The first stage of LLaVA (arXiv 2304.08485, section 4.2) and of InternVL's recipe for GPT-oss (OpenGVLab/InternVL,
shell/internvl3_5_gpt_oss, mlp_warmup: learning rate 1e-3, cosine, AdamW with 0.9 and 0.999). No privacy is spent here,
so no patient's data may come here: the result becomes part of the base model that everybody holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from model.inputs import Batch, Example, collate, encode_all
from model.loss import answer_logits, per_sample
from model.spec import ModelSpec

__all__ = ["Progress", "ProjectorRecipe", "new_projector", "train_projector"]

Progress = Callable[[int, int, float], None]
"""Called after each step with (samples done, samples in all, running mean loss)."""


@dataclass(frozen=True, kw_only=True)
class ProjectorRecipe:
    """epochs: passes over the examples. learning_rate: peak after a linear warm-up, then a cosine to zero."""

    seed: int = 0
    epochs: int = 1
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    warmup: float = 0.03
    max_gradient_norm: float = 1.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or self.learning_rate <= 0:
            raise ValueError("ProjectorRecipe: epochs, batch_size and learning_rate must be positive.")


def new_projector(spec: ModelSpec, seed: int) -> dict[str, Tensor]:
    """A fresh projector of Llava's kind, float32, weights and biases uniform in +-1/sqrt(inputs) as torch's layers.

    Seeded, and torch's global random state is left as it was.
    """
    draw = torch.Generator().manual_seed(seed)
    found = {}
    for name, width in (("linear_1", spec.vision_hidden_size), ("linear_2", spec.hidden_size)):
        for part, shape in (("weight", (spec.hidden_size, width)), ("bias", (spec.hidden_size,))):
            found[f"{name}.{part}"] = (2 * torch.rand(shape, generator=draw) - 1) / math.sqrt(width)
    return found


def train_projector(
    model: nn.Module,
    tokenizer: Tokenizer,
    spec: ModelSpec,
    examples: Sequence[Example],
    *,
    recipe: ProjectorRecipe | None = None,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """Train the model's projector where the model is, all else frozen; its parameters by name, float32, on the CPU.

    Examples without an image are passed over. Weights are updated in float32 and used in the model's type (mixed
    precision, arXiv 1710.03740, section 3.1). Seeded: the same arguments give the same projector on one machine.
    Raises ValueError when no example has an image, or when the loss is no longer finite.
    """
    recipe = recipe or ProjectorRecipe()
    seen = [example for example in examples if example.images]
    if not seen:
        raise ValueError("train_projector: no example has an image; a projector is trained on questions about images.")
    projector: nn.Module = model.get_submodule("model.multi_modal_projector")
    model.requires_grad_(False)
    projector.requires_grad_(True)
    used = dict(projector.named_parameters())
    masters = {name: one.detach().float().clone().requires_grad_() for name, one in used.items()}
    optimizer = torch.optim.AdamW(masters.values(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    batches = list(_batches(len(seen), recipe))
    total, done, running = sum(map(len, batches)), 0, 0.0
    for step, indices in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(step / len(batches), recipe.warmup)
        value = _step(model, used, masters, optimizer, _collated(seen, indices, tokenizer, spec), recipe)
        done += len(indices)
        running = value if step == 0 else 0.9 * running + 0.1 * value
        if progress is not None:
            progress(done, total, running)
    return {name: master.detach().cpu() for name, master in masters.items()}


def _collated(examples: Sequence[Example], indices: list[int], tokenizer: Tokenizer, spec: ModelSpec) -> Batch:
    return collate(encode_all([examples[index] for index in indices], tokenizer, spec))


def _step(
    model: nn.Module, used: dict[str, nn.Parameter], masters: dict[str, Tensor], optimizer: torch.optim.Optimizer,
    batch: Batch, recipe: ProjectorRecipe,
) -> float:
    """One update of the masters, copied to the parameters in use; the mean loss before it."""
    batch = batch.to(next(iter(used.values())).device)
    loss = per_sample(answer_logits(model, batch), batch.labels).loss.mean()
    if not bool(torch.isfinite(loss)):
        raise ValueError("train_projector: the loss is not finite; lower the learning rate.")
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    for name, master in masters.items():
        gradient = used[name].grad
        master.grad = None if gradient is None else gradient.float()
    torch.nn.utils.clip_grad_norm_(masters.values(), recipe.max_gradient_norm)
    optimizer.step()
    with torch.no_grad():
        for name, master in masters.items():
            used[name].copy_(master)
    return float(loss.detach())


def _schedule(position: float, warmup: float) -> float:
    """Share of the peak learning rate at `position` (0..1) of the run."""
    if position < warmup:
        return (position + 1e-3) / warmup
    return 0.5 * (1 + math.cos(math.pi * (position - warmup) / (1 - warmup)))


def _batches(count: int, recipe: ProjectorRecipe) -> Iterator[list[int]]:
    """Every index once an epoch, in a seeded order."""
    draw = torch.Generator().manual_seed(recipe.seed)
    for _ in range(recipe.epochs):
        order = torch.randperm(count, generator=draw).tolist()
        yield from (order[at : at + recipe.batch_size] for at in range(0, count, recipe.batch_size))
