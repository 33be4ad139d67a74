"""Evaluation by forced choice, greedy answers, and a probe that tells a broken adapter from a working one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from model.generation import prompt_of, stream_answer
from model.inputs import IGNORE, Encoded, Example, collate, length_buckets
from model.loss import answer_logits, per_sample
from model.spec import ModelSpec

__all__ = ["Evaluation", "answer", "evaluate", "probe_is_finite", "wilson_interval"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """correct: bool (n,) in the order given; loss: mean of the per-sample losses; losses: float64 (n,)."""

    correct: NDArray[np.bool_]
    loss: float
    losses: NDArray[np.float64]

    @property
    def accuracy(self) -> float:
        """Share of correct samples, 0..1."""
        return float(self.correct.mean())


def evaluate(model: Any, samples: Sequence[Encoded], batch: int = 64) -> Evaluation:
    """Which samples the model answers correctly, and its loss on the right answers.

    With choices: the likeliest choice must be the right one (first on a tie). Choices of one token each cost one
    forward, longer ones are scored by the log-likelihood of their tokens and the closing `<|return|>`. Without
    choices: every answer token must be the argmax. Raises ValueError for an empty list.
    """
    if not samples:
        raise ValueError("evaluate: there must be at least one sample.")
    correct = np.zeros(len(samples), dtype=np.bool_)
    losses = np.zeros(len(samples), dtype=np.float64)
    with torch.inference_mode():
        for indices in length_buckets(samples, batch):
            rows = [samples[i] for i in indices]
            collated = collate(rows).to(_device(model))
            logits = answer_logits(model, collated)
            result = per_sample(logits, collated.labels, collated.header)
            losses[indices] = result.loss.double().cpu().numpy()
            for row, index in enumerate(indices):
                correct[index] = _is_correct(rows[row], logits[row], bool(result.correct[row]))
        long = [i for i, sample in enumerate(samples) if _needs_scoring(sample)]
        for index, picked in zip(long, _score_choices(model, [samples[i] for i in long], batch), strict=True):
            correct[index] = picked == samples[index].answer
    return Evaluation(correct, float(losses.mean()), losses)


def wilson_interval(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a proportion (JASA 22, 1927); z = 1.96 is 95 %. Raises ValueError if out of range."""
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError("wilson_interval: needs 0 <= successes <= trials and at least one trial.")
    share, weight = successes / trials, z * z / trials
    centre = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / trials + weight / (4 * trials)) / (1 + weight)
    return max(0.0, centre - half), min(1.0, centre + half)


def answer(model: Any, example: Example, tokenizer: Tokenizer, spec: ModelSpec, *, max_new_tokens: int = 64) -> str:
    """The model's own answer to the question: greedy, from `<|channel|>final<|message|>` to `<|return|>`."""
    prompt = prompt_of(example, tokenizer, spec)
    pieces = stream_answer(model, prompt, tokenizer, spec, max_new_tokens=max_new_tokens)
    return "".join(piece.text for piece in pieces).strip()


def probe_is_finite(model: Any, samples: Sequence[Encoded], batch: int = 64) -> bool:
    """Whether every weight is finite and so is every logit on these (public) samples."""
    if not all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters()):
        return False
    with torch.inference_mode():
        for indices in length_buckets(samples, batch):
            collated = collate([samples[i] for i in indices]).to(_device(model))
            if not bool(torch.isfinite(answer_logits(model, collated)).all()):
                return False
    return True


def _device(model: Any) -> torch.device:
    device: torch.device = next(iter(model.parameters())).device
    return device


def _needs_scoring(sample: Encoded) -> bool:
    """Choices that one forward cannot tell apart: longer than a token."""
    return any(len(choice) != 1 for choice in sample.choices)


def _is_correct(sample: Encoded, logits: torch.Tensor, argmax_correct: bool) -> bool:
    """Correctness from one row's trailing logits (K, V); samples that need scoring are overwritten later."""
    if not sample.choices or _needs_scoring(sample):
        return argmax_correct
    after_prompt = len(sample) - sample.prompt_length  # tokens from the answer's first to the row's end
    scores = logits[-after_prompt - 1, [choice[0] for choice in sample.choices]]
    return int(scores.argmax()) == sample.answer


def _score_choices(model: Any, samples: Sequence[Encoded], batch: int) -> list[int]:
    """The index of the likeliest choice of each sample, every choice scored as its own row."""
    rows = [_with_choice(sample, choice) for sample in samples for choice in sample.choices]
    scores = np.zeros(len(rows))
    for indices in length_buckets(rows, batch):
        collated = collate([rows[i] for i in indices]).to(_device(model))
        result = per_sample(answer_logits(model, collated), collated.labels, collated.header)
        counts = (collated.labels != IGNORE).sum(dim=1)
        scores[indices] = (-result.loss * counts).double().cpu().numpy()
    ends = np.cumsum([len(sample.choices) for sample in samples])
    starts = [0, *ends[:-1]] if len(ends) else []
    return [int(scores[start:end].argmax()) for start, end in zip(starts, ends, strict=True)]


def _with_choice(sample: Encoded, choice: tuple[int, ...]) -> Encoded:
    """The same prompt answered by `choice`; the header stays labelled, it is common to all choices."""
    prompt = sample.input_ids[: sample.prompt_length]
    ids = torch.cat([prompt, torch.tensor(choice, dtype=torch.int64), sample.input_ids[-1:]])
    labels = ids.clone()
    labels[: sample.prompt_length - sample.header] = IGNORE
    return replace(sample, input_ids=ids, labels=labels, frozen=None)
