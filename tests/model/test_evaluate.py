"""Forced choice in one forward and by scoring, greedy answers, the finiteness probe, intervals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.backbone import BaseModel
from model.evaluate import answer, evaluate, probe_is_finite, wilson_interval
from model.inputs import Encoded, Example, collate, encode_all
from model.loss import answer_logits, per_sample


def encoded(base: BaseModel, examples: list[Example]) -> list[Encoded]:
    return encode_all(examples, base.tokenizer, base.spec)


def prefer(base: BaseModel, word: str) -> None:
    """Make the model favour one token everywhere: the head's row for it becomes the mean direction, long."""
    token = base.tokenizer.encode(word).ids[0]
    with torch.no_grad():
        base.model.lm_head.weight.zero_()
        base.model.model.language_model.norm.weight.zero_()
        # with a zero norm every logit is 0; a hook on the head then adds what a bias would
    bias = torch.zeros(base.spec.vocab_size)
    bias[token] = 5.0
    base.model.lm_head.register_forward_hook(lambda _m, _i, output: output + bias)


@pytest.mark.parametrize(("word", "expected"), [("normal", [True, False]), ("abnormal", [False, True])])
def test_the_preferred_word_wins(base: BaseModel, examples: list[Example], word: str, expected: list[bool]) -> None:
    prefer(base, word)
    assert evaluate(base.model, encoded(base, examples[:2])).correct.tolist() == expected


def test_results_keep_their_order_and_do_not_depend_on_the_batch(base: BaseModel, examples: list[Example]) -> None:
    samples = encoded(base, examples)
    whole, small = evaluate(base.model, samples), evaluate(base.model, samples, batch=1)
    assert np.array_equal(whole.correct, small.correct)
    assert np.allclose(whole.losses, small.losses, atol=2e-5)
    batch = collate(samples[:1])
    first = per_sample(answer_logits(base.model, batch), batch.labels).loss[0].item()
    assert whole.losses[0] == pytest.approx(first, abs=2e-5)
    assert whole.loss == pytest.approx(whole.losses.mean())


def test_one_forward_agrees_with_scoring_every_choice(base: BaseModel, examples: list[Example]) -> None:
    samples = encoded(base, examples[:4])
    for sample, correct in zip(samples, evaluate(base.model, samples).correct, strict=True):
        batch = collate([sample])
        with torch.no_grad():
            logits = answer_logits(base.model, batch)[0, -3]  # predicts the answer, which precedes <|return|>
        best = max(range(2), key=lambda i: logits[sample.choices[i][0]].item())
        assert bool(correct) == (best == sample.answer)


def test_long_choices_are_scored_whole(base: BaseModel) -> None:
    question = Example("Q?", "no effusion", ("no effusion", "no"))
    prefer(base, "no")
    samples = encoded(base, [question])
    assert len(samples[0].choices[0]) > 1
    assert evaluate(base.model, samples).correct.tolist() == [False]
    assert evaluate(base.model, encoded(base, [Example("Q?", "no", question.choices)])).correct.tolist() == [True]


def test_greedy_answer_stops_and_uses_images(base: BaseModel, examples: list[Example]) -> None:
    text = answer(base.model, examples[2], base.tokenizer, base.spec, max_new_tokens=4)
    assert isinstance(text, str)
    prefer(base, "yes")
    assert answer(base.model, examples[2], base.tokenizer, base.spec, max_new_tokens=3) == "yesyesyes"


def test_greedy_answer_matches_a_loop_without_cache(base: BaseModel, examples: list[Example]) -> None:
    example = examples[3]
    sample = encoded(base, [example])[0]
    ids = sample.input_ids[: sample.prompt_length].tolist()
    for _ in range(20):  # longer than the sliding window
        with torch.no_grad():
            row = torch.tensor([ids])
            logits = base.model(
                input_ids=row, attention_mask=torch.ones_like(row), pixel_values=sample.pixel_values, use_cache=False
            ).logits
        ids.append(int(logits[0, -1].argmax()))
        if ids[-1] == base.spec.eos_token_id:
            ids.pop()
            break
    expected = base.tokenizer.decode(ids[sample.prompt_length :], skip_special_tokens=True).strip()
    assert answer(base.model, example, base.tokenizer, base.spec, max_new_tokens=20) == expected


def test_the_probe_finds_a_nan_wherever_it_is(base: BaseModel, examples: list[Example]) -> None:
    samples = encoded(base, examples)
    assert probe_is_finite(base.model, samples)
    weight = base.model.model.language_model.layers[0].mlp.experts.down_proj
    with torch.no_grad():
        kept = weight[2, 0, 0].clone()
        weight[2, 0, 0] = float("nan")
        assert not probe_is_finite(base.model, samples)
        weight[2, 0, 0] = kept
        assert probe_is_finite(base.model, samples)
        base.model.lm_head.weight.fill_(3e38)  # finite weights, infinite logits
    assert not probe_is_finite(base.model, samples)


def test_wilson_interval_known_values() -> None:
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson_interval(0, 10)[0] == 0.0
    with pytest.raises(ValueError, match="wilson_interval"):
        wilson_interval(3, 2)


def test_nothing_to_evaluate_is_refused(base: BaseModel) -> None:
    with pytest.raises(ValueError, match="at least one"):
        evaluate(base.model, [])
