"""The per-sample loss depends on its own sample only."""

from __future__ import annotations

import pytest
import torch

from model.backbone import BaseModel
from model.inputs import IGNORE, Example, collate, encode_all
from model.loss import answer_logits, answer_losses, per_sample, token_losses


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


def _frozen(base: BaseModel) -> BaseModel:
    base.model.requires_grad_(False)
    base.model.model.language_model.layers[0].self_attn.q_proj.weight.requires_grad_(True)
    return base


@pytest.mark.parametrize("chunk", [1, 3 * 420, 1 << 26])
def test_losses_without_logits_are_those_with_them(
    base: BaseModel, examples: list[Example], monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    """Values, correctness and gradients, whatever the chunk, weighted differently by row."""
    monkeypatch.setattr("model.loss._CHUNK", chunk)
    model = _frozen(base).model
    batch = collate(encode_all(examples, base.tokenizer, base.spec))
    weights = torch.linspace(0.5, 2.0, len(examples))
    outcomes, gradients = [], []
    for outcome in (answer_losses(model, batch), per_sample(answer_logits(model, batch), batch.labels)):
        model.zero_grad()
        (outcome.loss * weights).sum().backward()
        outcomes.append(outcome)
        gradients.append(model.model.language_model.layers[0].self_attn.q_proj.weight.grad.clone())
    assert torch.equal(outcomes[0].correct, outcomes[1].correct)
    assert float((outcomes[0].loss - outcomes[1].loss).abs().max()) < 1e-5
    assert float((gradients[0] - gradients[1]).abs().max()) < 1e-6 * max(1.0, float(gradients[1].abs().max()))


def test_no_tensor_of_all_tokens_by_all_words(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.loss._CHUNK", 4 * 420)
    sizes: list[int] = []
    linear = torch.nn.functional.linear

    def watched(states: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
        sizes.append(len(states))
        return linear(states, head)

    monkeypatch.setattr("model.loss.F.linear", watched)
    head = base.model.lm_head.weight.detach()
    token_losses(torch.randn(19, 32, requires_grad=True), head, torch.randint(0, 420, (19,)))
    assert sizes == [4, 4, 4, 4, 3]


def test_a_trained_head_and_a_row_without_answer_are_refused(base: BaseModel, examples: list[Example]) -> None:
    batch = collate(encode_all(examples[:2], base.tokenizer, base.spec))
    with pytest.raises(ValueError, match="head is frozen"):
        answer_losses(base.model, batch)
    batch.labels[1] = IGNORE
    with pytest.raises(ValueError, match="at least one answer token"):
        answer_losses(_frozen(base).model, batch)
