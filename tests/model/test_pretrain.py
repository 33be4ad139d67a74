"""Pretraining: learns, is deterministic, is cached by content, and trusts no damaged cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.backbone import hash_model, load_base
from model.evaluate import evaluate
from model.inputs import Example, encode_all
from model.pretrain import Recipe, cache_key, pretrain
from model.spec import ModelSpec

RECIPE = Recipe(epochs={"normal": 4, "alike": 2}, batch_size=8, learning_rate=5e-3)


@pytest.fixture(scope="module")
def public() -> list[Example]:
    """Clear lungs are normal, dark pairs are alike: learnable in seconds."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(40):
        clear = bool(rng.integers(2))
        text = f"Findings: lungs {'clear' if clear else 'opaque'} in view {number}. Is this study normal?"
        made.append(Example(text, "normal" if clear else "abnormal", ("normal", "abnormal")))
    for _ in range(8):
        images = tuple(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(2))
        made.append(Example("Are the two patches alike?", "no", ("yes", "no"), images))
    return made


def test_trains_once_then_comes_from_the_cache(public: list[Example], spec: ModelSpec, tmp_path: Path) -> None:
    calls: list[tuple[int, int, float]] = []
    folder = pretrain(public, spec, tmp_path, recipe=RECIPE, progress=lambda *call: calls.append(call))
    assert calls[-1][0] == calls[-1][1] == 40 * 4 + 8 * 2
    assert [done for done, _, _ in calls] == sorted(done for done, _, _ in calls)
    assert calls[-1][2] < calls[0][2]
    base = load_base(folder)
    assert evaluate(base.model, encode_all(public[:40], base.tokenizer, spec)).accuracy > 0.9
    calls.clear()
    assert pretrain(public, spec, tmp_path, recipe=RECIPE, progress=lambda *call: calls.append(call)) == folder
    assert not calls
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_same_inputs_same_bytes(public: list[Example], spec: ModelSpec, tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs={"normal": 1, "alike": 1})
    one, two = (pretrain(public, spec, tmp_path / name, recipe=recipe) for name in "ab")
    assert one.name == two.name and hash_model(one) == hash_model(two)
    other = pretrain(public, spec, tmp_path / "a", recipe=replace(recipe, seed=1))
    assert other.name != one.name and hash_model(other) != hash_model(one)


def test_the_key_covers_data_spec_and_recipe(public: list[Example], spec: ModelSpec) -> None:
    image = public[-1].images[0].copy()
    image[0, 0, 0] ^= 1
    keys = {
        cache_key(public, spec, RECIPE),
        cache_key(public[1:], spec, RECIPE),
        cache_key([*public[:-1], replace(public[-1], images=(image, public[-1].images[1]))], spec, RECIPE),
        cache_key([*public[:-1], replace(public[-1], answer="yes")], spec, RECIPE),
        cache_key(public, replace(spec, sliding_window=8), RECIPE),
        cache_key(public, spec, replace(RECIPE, learning_rate=1e-3)),
        cache_key(public, spec, replace(RECIPE, epochs={"normal": 4, "alike": 3})),
    }
    assert len(keys) == 7
    assert cache_key(public, spec, RECIPE) == cache_key(list(public), spec, replace(RECIPE))


def test_a_damaged_cache_is_refused(public: list[Example], spec: ModelSpec, tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs={"alike": 1})
    folder = pretrain(public, spec, tmp_path, recipe=recipe)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="changed after it was written"):
        pretrain(public, spec, tmp_path, recipe=recipe)


def test_an_interrupted_run_leaves_nothing(public: list[Example], spec: ModelSpec, tmp_path: Path) -> None:
    def stop(done: int, total: int, loss: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(public, spec, tmp_path, recipe=RECIPE, progress=stop)
    assert not list(tmp_path.iterdir())


def test_nothing_to_train_on_is_refused(public: list[Example], spec: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no example is of a kind"):
        pretrain(public, spec, tmp_path, recipe=replace(RECIPE, epochs={"free": 3}))
    with pytest.raises(ValueError, match="Recipe"):
        replace(RECIPE, batch_size=0)
