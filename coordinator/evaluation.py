"""The coordinator's own measurements: on public questions only, after each round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.adapted import AdaptedModel, open_adapted
from model.evaluate import evaluate
from model.example_file import by_kind, load_examples
from model.inputs import Encoded
from model.spec import LoraSpec
from privacy.messages import RunManifest

__all__ = ["PublicEvaluation"]


class PublicEvaluation:
    """The run's adapted model, and encoded public questions by kind."""

    def __init__(self, adapted: AdaptedModel, questions: dict[str, list[Encoded]]) -> None:
        self.adapted = adapted
        self._questions = questions

    @staticmethod
    def open(base_model: Path, manifest: RunManifest, public_examples: Path) -> PublicEvaluation:
        """Load the base model that `manifest` names and the public questions.

        Raises:
            ValueError: another base model, or an unreadable file.
        """
        lora = LoraSpec(rank=manifest.lora_rank, alpha=manifest.lora_alpha, groups=manifest.lora_groups)
        adapted = open_adapted(str(base_model), lora)
        if adapted.base.content_hash != manifest.base_model_hash:
            raise ValueError(f"base model {base_model} is not the one that the manifest names; make the manifest again")
        groups = by_kind(load_examples(public_examples))
        return PublicEvaluation(adapted, {kind: adapted.encode(group) for kind, group in groups.items()})

    def measure(self, adapter: npt.NDArray[np.float64]) -> dict[str, float]:
        """Accuracy (share, 0 to 1) and loss (nats) on the public questions of each kind, for `adapter`."""
        self.adapted.write(adapter)
        metrics: dict[str, float] = {}
        for kind, questions in self._questions.items():
            outcome = evaluate(self.adapted.model, questions)
            metrics[f"accuracy_{kind}"] = outcome.accuracy
            metrics[f"loss_{kind}"] = outcome.loss
        return metrics
