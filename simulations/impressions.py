"""What a model makes of held-out patients' FINDINGS: the loss of the true IMPRESSION, and the impression it writes.

Nothing that it writes is kept, and no text of a report: only numbers, by hashed patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from configs.schema import EvaluationConfig
from model.adapted import AdaptedModel
from model.answer_metrics import PER_OBSERVATION, score
from model.benchmarks.items import Item, with_pictures
from model.evaluate import answer
from model.frozen_prefix import FrozenPrefix
from model.inputs import IGNORE, Encoded, Example, collate, length_buckets
from model.loss import answer_losses

__all__ = ["impression_scores", "losses_of"]


def impression_scores(
    adapted: AdaptedModel, questions: Sequence[Example], settings: EvaluationConfig, activations: Path | None
) -> dict[str, Any]:
    """JSON values of one trained model.

    patients: a label of each. tokens: answer tokens with loss, those of the closing token included. loss: their summed
    loss in nats. answers: of the first `settings.answers` patients, measure -> [numerator, denominator] of each
    (`model.answer_metrics`).
    activations: where outputs of frozen layers are kept, None to compute all layers.
    """
    samples = adapted.encode(questions)
    if activations is not None:
        samples = FrozenPrefix(adapted.model, adapted.base.content_hash, activations).attach(samples)
    tokens = [int((sample.labels != IGNORE).sum()) for sample in samples]
    losses = [mean * count for mean, count in zip(losses_of(adapted, samples), tokens, strict=True)]
    scores = [_answered(adapted, question, settings.answer_tokens) for question in questions[: settings.answers]]
    measures = [name for name in (scores[0] if scores else {}) if not name.startswith(PER_OBSERVATION)]
    return {"patients": [question.key for question in questions], "tokens": tokens, "loss": losses,
            "answers": {name: [list(map(float, one[name])) for one in scores] for name in measures}}


def losses_of(adapted: AdaptedModel, samples: Sequence[Encoded], batch: int = 16) -> list[float]:
    """The mean loss of each sample's answer tokens, in nats, in the order given."""
    found = [0.0] * len(samples)
    with torch.inference_mode():
        for indices in length_buckets(samples, batch):
            rows = collate([samples[index] for index in indices]).to(adapted.device)
            for index, loss in zip(indices, answer_losses(adapted.model, rows).loss.tolist(), strict=True):
                found[index] = loss
    return found


def _answered(adapted: AdaptedModel, question: Example, most: int) -> dict[str, tuple[float, float]]:
    text = answer(adapted.model, question, adapted.base.tokenizer, adapted.base.spec, max_new_tokens=most)
    item = Item(question.key, question.key, "impression", with_pictures(question.question, 0), question.answer)
    return dict(score(item, text))
