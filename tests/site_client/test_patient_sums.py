"""How a step's patients are cut into micro-batches: in parts, alone, and after a batch has failed."""

from __future__ import annotations

import copy
import weakref
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from model.adapted import AdaptedModel
from model.adapter import Selection
from model.inputs import collate
from site_client import mechanism
from site_client.training import EncodedPatient
from tests.site_client.test_training import (
    CLIP,
    SHARE,
    STAGE,
    Seeded,
    adapted,
    patients,
    same,
    selection,
    task,
    train,
)

__all__ = ["adapted", "patients", "selection"]


@pytest.mark.parametrize("clip", [CLIP, 1e3])
def test_a_patient_with_more_tokens_than_fit_is_computed_in_parts_and_clipped_once(
    adapted: AdaptedModel, selection: Selection, patients: list[EncodedPatient], clip: float
) -> None:
    """Text-only parts and parts with images of one patient: gradient and statistics are those of the whole."""
    roomy = replace(task(), clip_norm=clip, lane_bound=SHARE * clip)
    whole = train(adapted, selection, patients, roomy)
    parts: list[int] = []
    for limit in (1, 80, 200):
        seen: list[int] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("site_client.mechanism.collate", lambda samples, seen=seen: seen.append(len(samples))
                          or collate(samples))
            update = train(adapted, selection, patients, replace(roomy, max_tokens=limit))
        parts.append(len(seen))
        assert np.allclose(update.delta, whole.delta, rtol=0, atol=1e-6 * clip)
        assert np.allclose(update.lanes, whole.lanes, rtol=0, atol=1e-6 * clip)
    chosen = sum(min(len(samples), share.max_samples) for patient in patients for share in STAGE.sources
                 for samples in [patient.get(share.source, ())])
    assert parts[0] == chosen > parts[-1]


def test_a_patient_who_fails_in_parts_contributes_zero_and_no_more(
    adapted: AdaptedModel, selection: Selection, patients: list[EncodedPatient]
) -> None:
    broken = replace(patients[2]["patches"][0], input_ids=torch.full((30,), 10**6), labels=torch.full((30,), 10**6))
    bad: EncodedPatient = {"reports": patients[2]["reports"], "patches": [broken]}
    without = train(adapted, selection, patients[:2], replace(task(), max_tokens=60))
    assert same(train(adapted, selection, [*patients[:2], bad], replace(task(), max_tokens=60)), without)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_under_privacy_each_patient_is_computed_alone(
    adapted: AdaptedModel, selection: Selection, patients: list[EncodedPatient], dtype: torch.dtype
) -> None:
    """Then no batch-mate can change what is clipped, however a model blows rounding up."""
    blown = copy.deepcopy(adapted.model).to(dtype)
    with torch.no_grad():
        for name, parameter in blown.named_parameters():
            if "lora_B" in name:
                parameter.copy_(1e3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    model = AdaptedModel(adapted.base, blown, adapted.layout, adapted.initial)
    step = mechanism.PatientMechanism(model, selection, task(private=True), Seeded())
    chosen = [[sample for samples in patient.values() for sample in samples] for patient in patients]
    together = step.clipped_sum(chosen).vector
    alone = sum(step.clipped_sum([samples]).vector for samples in chosen)
    step.close()
    assert np.abs(together - alone).max() < 1e-12 < np.abs(together).max()


def test_a_batch_that_failed_holds_no_memory_while_its_patients_are_done_alone(
    adapted: AdaptedModel, selection: Selection, patients: list[EncodedPatient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a patient that fits alone could run out of memory because of another, and count as zero."""
    step = mechanism.PatientMechanism(adapted, selection, task(), Seeded())
    kept: list[weakref.ref[torch.Tensor]] = []
    alive: list[bool] = []
    losses = mechanism.answer_losses
    chosen = [[sample for samples in patient.values() for sample in samples] for patient in patients]

    def watched(model: Any, rows: Any) -> Any:
        outcome = losses(model, rows)
        if len(rows.labels) == sum(map(len, chosen)):  # all of them at once
            kept.append(weakref.ref(outcome.loss))
            raise torch.OutOfMemoryError("too large a batch")
        alive.append(kept[0]() is not None)
        return outcome

    monkeypatch.setattr(mechanism, "answer_losses", watched)
    total = step.clipped_sum(chosen)
    assert alive == [False] * 3 and total.num_nonfinite_local == 0
    assert all(buffer.shape[0] <= 1 for buffer in step._engine._buffers)  # type: ignore[union-attr]
    step.close()


def test_a_card_that_is_full_is_not_lost(adapted: AdaptedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    device = SimpleNamespace(type="cuda")
    full = SimpleNamespace(model=SimpleNamespace(parameters=lambda: [SimpleNamespace(device=_Key(device))]))

    def zeros(*_: object, **__: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("not even one number")

    monkeypatch.setattr(mechanism.torch, "zeros", zeros)
    mechanism.require_devices(full)  # type: ignore[arg-type]
    monkeypatch.setattr(mechanism.torch, "zeros", lambda *_, **__: 1 / 0)
    with pytest.raises(mechanism.DeviceLostError):
        mechanism.require_devices(full)  # type: ignore[arg-type]


class _Key:
    """A device that can stand in a set."""

    def __init__(self, device: SimpleNamespace) -> None:
        self.type = device.type
