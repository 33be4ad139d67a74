"""The per-sample loss depends on its own sample only."""

from __future__ import annotations

import pytest
import torch

from model.backbone import BaseModel
from model.inputs import IGNORE, Example, collate, encode_all
from model.loss import answer_logits, per_sample


def test_batch_equals_single_and_full_logits(base: BaseModel, examples: list[Example]) -> None:
    """Six rows of different lengths, text and images mixed: each row's loss is what it is alone, unpadded."""
    samples = encode_all(examples, base.tokenizer, base.spec)
    together = collate(samples)
    batched = per_sample(answer_logits(base.model, together), together.labels)
    for row, sample in enumerate(samples):
        alone = collate([sample])
        single = per_sample(answer_logits(base.model, alone), alone.labels)
        assert torch.allclose(batched.loss[row], single.loss[0], atol=2e-5)
        assert batched.correct[row] == single.correct[0]
    full = base.model(input_ids=together.input_ids, attention_mask=together.attention_mask,
                      pixel_values=together.pixel_values).logits  # fmt: skip
    assert torch.allclose(per_sample(full, together.labels).loss, batched.loss, atol=1e-6)


def test_another_sample_in_the_batch_changes_nobodys_gradient(base: BaseModel, examples: list[Example]) -> None:
    """The long free-text answer must not rescale the short one (a batch-token mean would)."""
    samples = encode_all(examples, base.tokenizer, base.spec)
    gradients = []
    for chosen in ([samples[0]], [samples[0], samples[4]]):
        batch = collate(chosen)
        base.model.zero_grad()
        per_sample(answer_logits(base.model, batch), batch.labels).loss[0].backward()
        gradients.append(base.model.model.language_model.layers[0].self_attn.q_proj.weight.grad.clone())
    assert torch.allclose(*gradients, atol=1e-5)


def test_values_against_a_hand_computation() -> None:
    logits = torch.zeros(2, 4, 3)
    logits[0, 2, 1] = 2.0
    labels = torch.tensor([[IGNORE, IGNORE, IGNORE, IGNORE, 0, 1], [IGNORE, IGNORE, IGNORE, IGNORE, IGNORE, 2]])
    result = per_sample(logits, labels)
    log3, wrong = torch.tensor(3.0).log(), torch.tensor([0.0, 2.0, 0.0]).logsumexp(0)
    # row 0's labels 0 and 1 stand at positions 4 and 5, predicted by kept positions 1 and 2
    expected = torch.stack([(log3 + wrong - 2.0) / 2, log3])
    assert torch.allclose(result.loss, expected)


def test_correct_ignores_the_channel_header() -> None:
    labels = torch.tensor([[IGNORE, 5, 6, 7, 1, 2]] * 3)
    logits = torch.zeros(3, 6, 8)
    for position, token in ((3, 1), (4, 2)):
        logits[:, position, token] = 1.0  # header positions (0, 1, 2) stay wrong: argmax 0
    logits[1, 3, 4] = 2.0  # wrong answer token
    logits[2, 4, 4] = 2.0  # wrong closing token
    assert per_sample(logits, labels).correct.tolist() == [True, False, False]


def test_labels_out_of_reach_or_missing_are_refused() -> None:
    labels = torch.tensor([[IGNORE, 1, 1, 1]])
    with pytest.raises(ValueError, match="do not reach back"):
        per_sample(torch.zeros(1, 3, 4), labels)
    with pytest.raises(ValueError, match="at least one answer token"):
        per_sample(torch.zeros(1, 4, 4), torch.full((1, 4), IGNORE))
