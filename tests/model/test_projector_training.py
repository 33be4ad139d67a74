"""Training a new projector: what changes, what stays, that it learns, and that it is repeatable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.backbone import BaseModel, build
from model.inputs import Example
from model.projector_training import ProjectorRecipe, new_projector, train_projector
from model.spec import ModelSpec

RECIPE = ProjectorRecipe(epochs=20, batch_size=8, learning_rate=1e-2)


@pytest.fixture
def shades() -> list[Example]:
    """Dark or bright, which only the image tells."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(16):
        image = rng.integers(0, 60, (32, 32, 3), dtype=np.uint8) + np.uint8(190 * (number % 2))
        found.append(Example("Is it bright?", ("no", "yes")[number % 2], ("no", "yes"), (image,)))
    return [*found, Example("No image here.", "no", ("no", "yes"))]


def trained(
    base: BaseModel, examples: list[Example], recipe: ProjectorRecipe = RECIPE
) -> tuple[dict[str, torch.Tensor], list[float]]:
    losses: list[float] = []
    tensors = train_projector(base.model, base.tokenizer, base.spec, examples, recipe=recipe,
                              progress=lambda done, total, loss: losses.append(loss))
    return tensors, losses


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_only_the_projector_learns(base: BaseModel, shades: list[Example], dtype: str) -> None:
    spec = replace(base.spec, dtype=dtype)
    base = BaseModel(build(spec, seed=3), base.tokenizer, spec, bytes(32))
    before = {name: one.clone() for name, one in base.model.state_dict().items()}
    tensors, losses = trained(base, shades)
    assert losses[-1] < 0.85 * losses[0]  # the language model is random and stays
    after = base.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"model.multi_modal_projector.{name}" for name in tensors}
    assert {name for name, one in base.model.named_parameters() if one.grad is not None} == changed
    for name, one in tensors.items():
        assert one.dtype == torch.float32
        assert torch.equal(after[f"model.multi_modal_projector.{name}"], one.to(getattr(torch, dtype)))


def test_the_same_seed_gives_the_same_projector(base: BaseModel, shades: list[Example]) -> None:
    results = []
    for seed in (0, 0, 1):
        fresh = BaseModel(build(base.spec, seed=3), base.tokenizer, base.spec, bytes(32))
        results.append(trained(fresh, shades, replace(RECIPE, epochs=2, seed=seed))[0]["linear_1.weight"])
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


def test_what_cannot_train_a_projector_is_refused(base: BaseModel, shades: list[Example]) -> None:
    with pytest.raises(ValueError, match="no example has an image"):
        trained(base, shades[-1:])
    with pytest.raises(ValueError, match="must be positive"):
        ProjectorRecipe(epochs=0)
    with torch.no_grad():
        base.model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        trained(base, shades)


def test_a_new_projector_fits_the_model_and_is_seeded(spec: ModelSpec) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    tensors = new_projector(spec, seed=1)
    assert torch.equal(torch.rand(3), expected)
    theirs = build(spec, seed=0).model.multi_modal_projector.state_dict()
    assert {name: one.shape for name, one in tensors.items()} == {name: one.shape for name, one in theirs.items()}
    assert not torch.equal(new_projector(spec, seed=2)["linear_1.weight"], tensors["linear_1.weight"])
    assert float(tensors["linear_2.weight"].abs().max()) <= spec.hidden_size**-0.5
