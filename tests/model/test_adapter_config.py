"""Names and shapes of an adapter's file, compared with a language model's layers without the base."""

from __future__ import annotations

from dataclasses import replace

import pytest

from model.adapter import AdapterLayout, attach
from model.adapter_config import require_adapter_config, require_adapter_places
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


def some_layers(spec: ModelSpec) -> tuple[dict[str, tuple[int, ...]], dict[str, object]]:
    """Shapes and configuration of an adapter on the last two of four layers, as PEFT writes them."""
    hollow = attach(empty(replace(spec, num_layers=4, adapted_layers=2)), SOME, seed=0)
    held = {file_name(entry.name): entry.shape for entry in AdapterLayout(hollow).entries}
    config = {name: value for name, value in hollow.peft_config["default"].to_dict().items() if value is not None}
    return held, {**config, "peft_type": "LORA", "task_type": "CAUSAL_LM", "inference_mode": True,
                  "target_parameters": None}


SOME = LoraSpec(rank=4, groups=("attention",))


def test_an_adapter_on_the_last_layers_names_them_and_has_no_other(spec: ModelSpec) -> None:
    held, config = some_layers(spec)
    assert {name.split("layers.")[1][0] for name in held} == {"2", "3"}
    layers = require_adapter_config(config, SOME)
    assert layers == (2, 3)
    require_adapter_places(held, SOME, layers)
    with pytest.raises(ValueError, match="not numbered from 0"):
        require_adapter_places(held, SOME)
    moved = {name.replace("layers.2.", "layers.1."): shape for name, shape in held.items()}
    with pytest.raises(ValueError, match=r"not those that adapter_config\.json names"):
        require_adapter_places(moved, SOME, layers)
    with pytest.raises(ValueError, match="do not follow one another"):
        require_adapter_places(held, SOME, (1, 3))


@pytest.mark.parametrize("regex", [
    r"(?:.*language_model\.layers\.(?:2|3)\.self_attn\.[qk]_proj)", r".*language_model\.layers\.(?:2|3)\..*",
    r"(?:.*language_model\.layers\.(?:2|3|)\.self_attn\.[qkvo]_proj)"])
def test_other_targets_are_refused(spec: ModelSpec, regex: str) -> None:
    _, config = some_layers(spec)
    with pytest.raises(ValueError, match="target_modules"):
        require_adapter_config({**config, "target_modules": regex}, SOME)
