"""Trained layers on several devices: one norm and one clip a patient, wherever its layers lie.

A processor is one device, so most tests here only pretend: layers are grouped as if they lay apart. That shows that
buffers, norms, carries and the layout are right for any grouping, not that tensors move between devices. The last test
has two real devices and is skipped without a GPU.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from privacy.dp.accumulator import ClippedAccumulator, ColumnBlock
from privacy.dp.clipping import SLACK, ClipBounds
from privacy.dp.coverage import CoveredLinear
from privacy.dp.engine import PatientGradients

CPU = torch.device("cpu")
IMAGES = [[1], [0, 2], [0], [3, 0, 1]]


class Scattered(PatientGradients):
    """As if every third layer lay on a device of its own kind, so that each block has gaps in the layout."""

    def _block_of(self, layer: CoveredLinear) -> object:
        return sum(map(ord, layer.name)) % 3


class ByLayer(PatientGradients):
    """As a pipeline splits: the image part with the first decoder layer, the rest apart."""

    def _block_of(self, layer: CoveredLinear) -> object:
        found = re.search(r"language_model\.layers\.(\d)", layer.name)
        return found[1] if found else "0"


SPLITS = [Scattered, ByLayer]


@pytest.mark.parametrize("kind", SPLITS)
def test_the_clipped_sum_is_that_of_one_device(tiny: Any, kind: type[PatientGradients]) -> None:
    model, cohort = tiny.build_llava(), tiny.make_cohort(IMAGES, [5, 9, 12])
    gradients = tiny.loop_gradients(model, cohort)
    bound = float(gradients.norm(dim=1).median())  # clips some and not others
    expected = tiny.clip(gradients, bound * (1 - SLACK)).sum(0).numpy()
    engine = kind(model, tiny.trainable(model), clip_norm=bound)
    assert len(engine._blocks) > 1 and engine.dimension == gradients.shape[1]
    tiny.run_microbatch(model, engine, cohort.samples)
    engine.collect()
    total = engine.finish()
    engine.detach()
    assert np.abs(total.vector - expected).max() <= 1e-12 * np.abs(expected).max()


@pytest.mark.parametrize("kind", SPLITS)
def test_a_patient_in_several_micro_batches_is_clipped_once(tiny: Any, kind: type[PatientGradients]) -> None:
    model, cohort = tiny.build_llava(), tiny.make_cohort(IMAGES, [5, 9, 12])
    gradients = tiny.loop_gradients(model, cohort)
    bound = float(gradients.norm(dim=1).max()) / 2
    engine = kind(model, tiny.trainable(model), clip_norm=bound)
    (last,) = {sample.patient for sample in cohort.samples[-3:]}
    first, second = cohort.samples[:-2], cohort.samples[-2:]
    order = tiny.run_microbatch(model, engine, first)
    engine.collect(complete=torch.tensor([patient != last for patient in order]))
    tiny.run_microbatch(model, engine, second)
    engine.collect()
    total = engine.finish()
    engine.detach()
    # The loop's truth sums a patient's rows, as both micro-batches do.
    expected = tiny.clip(gradients, bound * (1 - SLACK)).sum(0).numpy()
    assert total.num_patients_local == len(IMAGES)
    assert np.abs(total.vector - expected).max() <= 1e-12 * np.abs(expected).max()


@pytest.mark.parametrize("block", [0, 1])
def test_a_number_that_is_not_finite_on_one_device_zeroes_the_patient_on_all(block: int) -> None:
    blocks = [ColumnBlock(CPU, (slice(0, 2), slice(5, 6))), ColumnBlock(CPU, (slice(2, 5),))]
    total = ClippedAccumulator(6, 0, ClipBounds(1.0, 0.0), CPU, blocks)
    rows = [torch.ones(2, 3), torch.ones(2, 3)]
    rows[block][0, 1] = float("inf")
    total.add(rows, None)
    clipped = total.finish()
    assert clipped.num_nonfinite_local == 1
    assert np.allclose(clipped.vector, (1 - SLACK) / np.sqrt(6), rtol=1e-12)  # the other one, over all six columns


def test_columns_come_back_in_the_order_of_the_layout() -> None:
    blocks = [ColumnBlock(CPU, (slice(4, 6), slice(0, 1))), ColumnBlock(CPU, (slice(1, 4),))]
    total = ClippedAccumulator(6, 1, ClipBounds(100.0, 1.0), CPU, blocks)
    total.add([torch.tensor([[4.0, 5.0, 0.0]]), torch.tensor([[1.0, 2.0, 3.0]])], torch.tensor([[0.5]]))
    assert np.array_equal(total.finish().vector, [0, 1, 2, 3, 4, 5, 0.5])


@pytest.mark.parametrize("columns", [
    [(0, 3), (4, 6)], [(0, 3), (2, 6)], [(0, 5)], [(1, 6)], [(0, 6), (0, 6)]], ids=str)
def test_a_column_in_no_block_or_in_two_is_refused(columns: list[tuple[int, int]]) -> None:
    blocks = [ColumnBlock(CPU, (slice(*part),)) for part in columns]
    with pytest.raises(ValueError, match="exactly once"):
        ClippedAccumulator(6, 0, ClipBounds(1.0, 0.0), CPU, blocks)


def test_rows_of_another_shape_than_the_blocks_are_refused() -> None:
    blocks = [ColumnBlock(CPU, (slice(0, 2),)), ColumnBlock(CPU, (slice(2, 6),))]
    total = ClippedAccumulator(6, 0, ClipBounds(1.0, 0.0), CPU, blocks)
    for rows in ([torch.ones(1, 6)], [torch.ones(1, 4), torch.ones(1, 2)], [torch.ones(1, 2), torch.ones(2, 4)]):
        with pytest.raises(ValueError, match="a block each"):
            total.add(rows, None)


def test_a_layer_without_a_gradient_is_missed_on_every_device(tiny: Any) -> None:
    from privacy.dp.refusals import MissingGradientError

    model, cohort = tiny.build_llava(), tiny.make_cohort(IMAGES[:1], [5])
    engine = ByLayer(model, tiny.trainable(model), clip_norm=1.0)
    engine._batch = engine._open(torch.tensor([0]), None, torch.zeros(1, dtype=torch.int64), 1)
    with pytest.raises(MissingGradientError):
        engine.collect()
    assert cohort.samples
    engine.detach()


def test_the_factors_of_one_layers_experts_may_not_lie_apart(tiny: Any) -> None:
    class Apart(PatientGradients):
        def _block_of(self, layer: CoveredLinear) -> object:
            return "lora_B" in layer.name

    model = tiny.build_llava(targets=[], experts=tiny.EXPERTS)
    with pytest.raises(ValueError, match="several devices"):
        Apart(model, tiny.trainable(model), clip_norm=1.0)


@pytest.mark.parametrize("packed", [False, True])
def test_experts_and_packed_rows_are_summed_over_blocks_too(tiny: Any, packed: bool) -> None:
    model, cohort = tiny.build_llava(experts=tiny.EXPERTS), tiny.make_cohort(IMAGES, [5, 9, 12])
    if packed:
        model.get_base_model().set_attn_implementation("eager")
    vectors = []
    for kind in (PatientGradients, ByLayer):
        engine = kind(model, tiny.trainable(model), clip_norm=0.5)
        (tiny.run_packed if packed else tiny.run_microbatch)(model, engine, cohort.samples)
        engine.collect()
        vectors.append(engine.finish().vector)
        engine.detach()
    assert np.abs(vectors[0] - vectors[1]).max() <= 1e-12 * np.abs(vectors[0]).max()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="two real devices: the processor and a GPU")
def test_layers_on_the_processor_and_on_a_gpu_make_one_sum(tiny: Any) -> None:
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    model, cohort = tiny.build_llava(), tiny.make_cohort(IMAGES, [5, 9, 12])
    expected = tiny.exact_sum(model, cohort, 0.05)
    layers = model.get_base_model().model.language_model.layers
    layers[1].to("cuda")
    add_hook_to_module(layers[1], AlignDevicesHook("cuda", io_same_device=True))
    engine = PatientGradients(model, tiny.trainable(model), clip_norm=0.05)
    assert {block.device.type for block in engine._blocks} == {"cpu", "cuda"}
    tiny.run_microbatch(model, engine, cohort.samples)
    engine.collect()
    total = engine.finish()
    engine.detach()
    # Rotary cosines are float32 in a float64 model too, and a GPU rounds them another way (measured: 1.7e-7).
    assert np.abs(total.vector - expected).max() <= 1e-6 * np.abs(expected).max()
