"""Canary patients, and what one of them adds at a given model, computed apart from the audited run.

A canary is a patient of random tokens (and random image patches) with as many samples as the stage takes of anybody.
Its gradient is far above the clip norm, so that a missing or wrong clip shows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from model.adapted import AdaptedModel
from model.adapter import Selection
from model.inputs import IGNORE, Encoded, collate
from model.loss import answer_logits, per_sample
from model.spec import ModelSpec
from privacy.entropy import Entropy
from privacy.messages import StageSpec
from site_client.mechanism import EncodedPatient, LocalTask, PatientMechanism

__all__ = ["ReferenceGradients", "autograd_error", "make_canaries", "samples_in_order"]

Vector = npt.NDArray[np.float64]
_TOKENS = 12
_SUPERVISED = 6
_CONTRAST = 2.0  # standard deviation of a canary's pixels, in units of the normalised image


def make_canaries(number: int, stage: StageSpec, spec: ModelSpec, entropy: Entropy) -> list[EncodedPatient]:
    """`number` patients for `stage`. Where only the projector trains each sample has an image; elsewhere the first
    sample of every second canary has one."""
    everywhere = "attention" not in stage.groups
    return [
        {share.source: [
            _sample(spec, entropy, image=everywhere or (canary % 2 == 0 and place == 0 and first))
            for place in range(share.max_samples)]
         for first, share in ((share is stage.sources[0], share) for share in stage.sources)}
        for canary in range(number)]


def _sample(spec: ModelSpec, entropy: Entropy, *, image: bool) -> Encoded:
    ordinary = _ordinary_tokens(spec)
    ids = torch.from_numpy((entropy.uniform64(_TOKENS) % np.uint64(len(ordinary))).astype(np.int64) + ordinary.start)
    pixels = None
    if image:
        side = spec.image_size
        ids = torch.cat([torch.full((spec.tokens_per_tile,), spec.image_token_id), ids])
        values = _CONTRAST * entropy.gaussian(3 * side * side)
        pixels = torch.from_numpy(values.reshape(1, 3, side, side)).float()
    labels = ids.clone()
    labels[:-_SUPERVISED] = IGNORE
    return Encoded(ids, labels, pixels, prompt_length=len(ids) - _SUPERVISED)


def _ordinary_tokens(spec: ModelSpec) -> range:
    """The ids on the longer side of the special tokens, which stand first in a small vocabulary and last in o200k."""
    special = (spec.bos_token_id, spec.eos_token_id, spec.pad_token_id, spec.image_token_id)
    below, above = range(min(special)), range(1 + max(special), spec.vocab_size)
    return max(below, above, key=len)


def samples_in_order(patient: EncodedPatient, stage: StageSpec) -> list[Encoded]:
    """The samples that the mechanism takes of a patient who has no more than the stage's number of each source."""
    return [sample for share in stage.sources for sample in patient.get(share.source, ())]


class _Rows:
    """Stands where the engine keeps its clipped sum, and keeps each patient's unclipped row instead."""

    is_open = False

    def __init__(self) -> None:
        self.parts: list[tuple[Vector, Vector]] = []

    def add(self, rows: torch.Tensor, lanes: torch.Tensor, complete: torch.Tensor | None = None) -> None:
        self.parts.append((rows.double().numpy().copy(), lanes.double().numpy().copy()))

    def discard(self) -> None:
        self.parts = []


class ReferenceGradients:
    """Per-patient gradients of one selection at whatever adapter the model holds; `close` it to free the model.

    The site's own forward and engine make the rows; `autograd_error` compares some with plain autograd.
    """

    def __init__(self, adapted: AdaptedModel, selection: Selection, task: LocalTask, entropy: Entropy) -> None:
        self._mechanism = PatientMechanism(adapted, selection, task, entropy)
        self._rows = _Rows()
        self._mechanism._engine._sum = self._rows  # type: ignore[assignment]
        self._dimension, self._max_rows = selection.size, task.max_rows

    def of(self, patients: Sequence[list[Encoded]]) -> tuple[Vector, Vector]:
        """Gradients float64[P, d] and lanes float64[P, 3]; zero rows for a patient without samples or not finite."""
        gradients, lanes = np.zeros((len(patients), self._dimension)), np.zeros((len(patients), 3))
        for numbers in _batches(patients, self._max_rows):
            self._rows.discard()
            self._mechanism.accumulate([patients[number] for number in numbers])
            rows, values = self._rows.parts[0]
            finite = np.isfinite(rows).all(axis=1) & np.isfinite(values).all(axis=1)
            gradients[numbers] = np.where(finite[:, None], rows, 0)
            lanes[numbers] = np.where(finite[:, None], values, 0)
        return gradients, lanes

    def close(self) -> None:
        """Give the model back."""
        self._mechanism.close()


def _batches(patients: Sequence[list[Encoded]], max_rows: int) -> list[list[int]]:
    """Numbers of patients with samples, similar lengths together, at most `max_rows` samples a batch."""
    order = sorted((n for n, samples in enumerate(patients) if samples),
                   key=lambda n: max(len(sample) for sample in patients[n]))
    batches: list[list[int]] = []
    rows = max_rows
    for number in order:
        if not batches or rows + len(patients[number]) > max_rows:
            batches.append([])
            rows = 0
        batches[-1].append(number)
        rows += len(patients[number])
    return batches


def autograd_error(
    adapted: AdaptedModel, selection: Selection, patients: Sequence[list[Encoded]], gradients: Vector
) -> float:
    """Largest relative difference between `gradients` (P, d) and plain autograd, one patient at a time."""
    parameters = [parameter for _, parameter in adapted.set_trainable(selection)]
    worst = 0.0
    for samples, gradient in zip(patients, gradients, strict=True):
        rows = collate(samples)
        loss = per_sample(answer_logits(adapted.model, rows), rows.labels).loss.mean()
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        plain = torch.cat([
            (torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(parameters, found, strict=True)])
        worst = max(worst, float(np.linalg.norm(plain.double().numpy() - gradient) / np.linalg.norm(gradient)))
    return worst
