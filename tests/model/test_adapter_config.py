"""Names and shapes of an adapter's file, compared with a language model's layers without the base."""

from __future__ import annotations

import pytest

from model.adapter import AdapterLayout, attach
from model.adapter_config import require_adapter_places
from model.adapter_names import file_name
from model.backbone import empty
from model.spec import GROUPS, LoraSpec, ModelSpec

LORA = LoraSpec(rank=4, groups=tuple(GROUPS))


@pytest.fixture(scope="module")
def shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    return {file_name(entry.name): entry.shape for entry in AdapterLayout(attach(empty(spec), LORA, seed=0)).entries}


@pytest.mark.parametrize("groups", [tuple(GROUPS), ("attention",), ("projector",), ("experts",)])
def test_the_layers_of_a_model_are_taken(spec: ModelSpec, groups: tuple[str, ...]) -> None:
    lora = LoraSpec(rank=4, groups=groups)
    entries = AdapterLayout(attach(empty(spec), lora, seed=0)).entries
    require_adapter_places({file_name(entry.name): entry.shape for entry in entries}, lora)


@pytest.mark.parametrize(("old", "new"), [
    ("layers.0.", "layers.6."), ("layers.1.", "layers.2."), ("layers.1.", "layers.01."), ("lora_A", "lora_A.default"),
    ("language_model.layers", "language_model.more.layers"), ("linear_2", "linear_1.linear_2")])
def test_other_places_are_refused(shapes: dict[str, tuple[int, ...]], old: str, new: str) -> None:
    renamed = {name.replace(old, new): shape for name, shape in shapes.items()}
    with pytest.raises(ValueError, match=r"not numbered from 0 without a gap"):
        require_adapter_places(renamed, LORA)


def test_a_layer_that_lacks_a_matrix_or_has_another_shape_is_refused(shapes: dict[str, tuple[int, ...]]) -> None:
    name = "base_model.model.model.language_model.layers.1.self_attn.q_proj.lora_A.weight"
    with pytest.raises(ValueError, match="not numbered"):
        require_adapter_places({one: shape for one, shape in shapes.items() if one != name}, LORA)
    with pytest.raises(ValueError, match="not of one shape"):
        require_adapter_places({**shapes, name: (4, 7)}, LORA)
