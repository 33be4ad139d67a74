"""Per-patient gradients from Opacus' per-sample hooks, for comparison with `privacy.dp.engine`.

Opacus forms one gradient a row (text row or image tile); here rows are added up to patients before the clip, so the
unit stays the patient. It keeps a gradient for every row, where our engine keeps one for every patient.

*Guarantees.*
    * What `finish` returns is the sum of `privacy.dp.accumulator`, with the same clip and the same carry.
    * What Opacus cannot split by row is refused when attaching or before a micro-batch: expert adapters,
      non-reentrant gradient checkpointing, packed rows. A parameter without a gradient for every row is an error,
      and so is one whose rows do not add up to its ordinary gradient: it was used outside its module as well.
    * What couples patients is refused as in `privacy.dp.engine` (`privacy.dp.refusals`).

*Assumes.*
    * As `privacy.dp.engine`: axis 0 of a covered layer's input is the row, and losses are sums over patients of
      functions of one patient.
    * Opacus 1.6 is installed (the extra `opacus`); it is imported when an engine is made, not before.

*Does not cover.*
    * A second use that adds less to the gradient than the check's tolerance for rounding, or only entries that are
      not finite. Speed or memory: this engine is an oracle and a baseline. Noise, accounting.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from privacy.dp.accumulator import ClippedAccumulator
from privacy.dp.clipping import ClipBounds, ClippedSum
from privacy.dp.coverage import UncoveredParameterError
from privacy.dp.refusals import MissingGradientError, RouterGuard, refuse_couplings
from privacy.dp.shares import NoiseShare
from privacy.manifest import Clipping

__all__ = ["MissingGradientError", "OpacusGradients", "OpacusUnsupportedError"]

# Largest difference between the rows' sum and the ordinary gradient, relative to the sum of the rows' norms: a
# thousand roundings of the number format in which the rows were computed.
_ROUNDINGS = 1000
_ONE_USE = "use its weight through its module's forward alone"


class OpacusUnsupportedError(Exception):
    """Opacus cannot split this by row, or gave no gradient for it; nothing was released."""


class OpacusGradients:
    """The methods of `privacy.dp.engine.PatientGradients` over `opacus.GradSampleModule`.

    Args:
        model, parameters, clip_norm, num_lanes, lane_bound, image_modules, clipping, bit_weight, share: as there.

    Raises ImportError without Opacus, OpacusUnsupportedError for what it cannot do, UncoveredParameterError for a
    trainable parameter that is not listed, ValueError for bounds out of range and for what couples patients.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Sequence[tuple[str, nn.Parameter]],
        *,
        clip_norm: float,
        num_lanes: int = 0,
        lane_bound: float = 0.0,
        image_modules: str = "multi_modal_projector|vision_tower",
        clipping: Clipping = "flat",
        bit_weight: float = 0.0,
        share: NoiseShare | None = None,
    ) -> None:
        bounds = ClipBounds(clip_norm, lane_bound, clipping, bit_weight)
        self._model = model
        self._parameters = list(parameters)
        self._image = [re.search(image_modules, name) is not None for name, _ in parameters]
        self._layers = _layers_of(model, self._parameters)
        self._refuse_unsupported()
        refuse_couplings(model)
        self._hooks = _attach(model)
        self._router = RouterGuard(model)
        self._was_training = [layer.training for layer in self._layers]
        for layer in self._layers:
            layer.training = True  # Opacus records nothing of a layer in evaluation; a linear layer has no modes
        self._dimension = sum(parameter.numel() for _, parameter in self._parameters)
        self._device = self._parameters[0][1].device
        self._sum = ClippedAccumulator(self._dimension, num_lanes, bounds, self._device, share=share)
        self._maps: tuple[Tensor, Tensor, int] | None = None

    @property
    def dimension(self) -> int:
        """Number of gradient coordinates; the summed vector has the lanes, and a bit, after them."""
        return self._dimension

    @contextmanager
    def microbatch(
        self, *, num_patients: int, image_patients: Tensor, text_patients: Tensor | None = None,
        token_patients: Tensor | None = None,
    ) -> Iterator[None]:
        """Run one forward and `patient_losses.sum().backward()` inside, then call `collect`.

        Raises OpacusUnsupportedError for packed rows (`token_patients`), ValueError for a micro-batch that was
        not collected.
        """
        if token_patients is not None or text_patients is None:
            raise OpacusUnsupportedError(
                "Opacus takes a packed row for one sample: use padded rows, or the engine own")
        if self._maps is not None:
            raise ValueError("the last micro-batch was not collected: call collect() after backward")
        self._refuse_unsupported()
        self._router.require_off()
        self._clear()
        self._maps = text_patients.to(self._device), image_patients.to(self._device), num_patients
        yield

    def collect(self, lanes: Tensor | None = None, *, complete: Tensor | None = None) -> None:
        """Add the micro-batch's rows up to patients, clip each and add it to the step's sum.

        Raises OpacusUnsupportedError when a parameter has no gradient for every row, MissingGradientError when its
        rows are not all of its gradient, ValueError as `ClippedAccumulator.add`; then `discard` starts another step.
        """
        if self._maps is None:
            raise ValueError("there is no micro-batch to collect: run one first")
        (text, image, num_patients), self._maps = self._maps, None
        double = any(parameter.dtype == torch.float64 for _, parameter in self._parameters)
        rows = torch.zeros(
            num_patients, self._dimension, dtype=torch.float64 if double else torch.float32, device=self._device)
        start = 0
        for (name, parameter), is_image in zip(self._parameters, self._image, strict=True):
            patients = image if is_image else text
            columns = rows[:, start : start + parameter.numel()]
            start += parameter.numel()
            samples = getattr(parameter, "grad_sample", None)
            if samples is None and not len(patients):
                if parameter.grad is not None:
                    raise MissingGradientError(f"{name} has a gradient without rows: {_ONE_USE}")
                continue
            if not isinstance(samples, Tensor) or samples.shape[0] != len(patients):
                raise OpacusUnsupportedError(f"{name} has no gradient for every row: use the engine own")
            _require_whole(name, parameter, samples)
            columns.index_add_(0, patients, samples.detach().flatten(1).to(rows.dtype))
        self._clear()
        self._sum.add(rows, lanes, complete)

    def finish(self) -> ClippedSum:
        """The step's sum, zero when nothing was collected; ValueError while a micro-batch or a patient is open."""
        if self._maps is not None:
            raise ValueError("a micro-batch is still open: collect it before finish()")
        return self._sum.finish()

    def sum_of(self, vector: npt.NDArray[np.float64], num_patients: int, num_nonfinite: int) -> ClippedSum:
        """As `PatientGradients.sum_of`."""
        return self._sum.sum_of(vector, num_patients, num_nonfinite)

    def set_threshold(self, threshold: float) -> None:
        """The adaptive clip's threshold for the next step; ValueError inside a step."""
        self._sum.set_threshold(threshold)

    def discard(self) -> None:
        """Drop everything that was collected since the last `finish`, and any error."""
        self._maps = None
        self._sum.discard()
        self._clear()

    def detach(self) -> None:
        """Give the model back without hooks."""
        self._hooks.remove_hooks()
        self._router.remove()
        self._clear()
        for layer, training in zip(self._layers, self._was_training, strict=True):
            layer.training = training
        for _, parameter in self._parameters:
            for name in ("grad_sample", "_forward_counter"):
                if hasattr(parameter, name):
                    delattr(parameter, name)

    def _refuse_unsupported(self) -> None:
        listed = {id(parameter) for _, parameter in self._parameters}
        for name, parameter in self._model.named_parameters():
            if parameter.requires_grad and id(parameter) not in listed:
                raise UncoveredParameterError(
                    f"{name} is trainable but no per-patient gradient covers it: freeze it or list it")
        for name, module in self._model.named_modules():
            checkpoint = getattr(module, "_gradient_checkpointing_func", None)
            if getattr(module, "gradient_checkpointing", False) and not (
                getattr(checkpoint, "keywords", {}).get("use_reentrant", False)
            ):
                raise OpacusUnsupportedError(
                    f"Opacus counts a layer twice under non-reentrant gradient checkpointing ({name}): use "
                    "use_reentrant=True, or the engine own")

    def _clear(self) -> None:
        """No gradient and no recorded activation of an earlier micro-batch is left, also after an error."""
        for _, parameter in self._parameters:
            parameter.grad = None
            loose: Any = parameter
            loose.grad_sample, loose._forward_counter = None, 0
            if hasattr(parameter, "_current_grad_sample"):
                del loose._current_grad_sample
        for layer in self._layers:
            for name in ("activations", "max_batch_len"):
                if hasattr(layer, name):
                    delattr(layer, name)


def _require_whole(name: str, parameter: nn.Parameter, samples: Tensor) -> None:
    """Raise MissingGradientError unless the rows `samples` (B, out, in) add up to the ordinary gradient.

    Entries whose sum is not finite are not compared: such a patient contributes zero.
    """
    if parameter.grad is None:
        raise MissingGradientError(f"{name} has no ordinary gradient to check its rows with: do not clear it")
    coarsest = max(torch.finfo(tensor.dtype).eps for tensor in (samples, parameter.grad))
    total = torch.zeros(parameter.shape, dtype=torch.float64, device=samples.device)
    length = 0.0
    for row in samples.detach():  # one row at a time: all of them in float64 would double the memory
        wide = row.double()
        total += wide
        length += float(torch.linalg.vector_norm(torch.nan_to_num(wide, 0.0, 0.0, 0.0)))
    missing = torch.where(torch.isfinite(total), parameter.grad.detach().double() - total, 0.0)
    if not float(torch.linalg.vector_norm(missing)) <= _ROUNDINGS * coarsest * length:
        raise MissingGradientError(f"the rows of {name} are not all of its gradient: {_ONE_USE}")


def _layers_of(model: nn.Module, parameters: Sequence[tuple[str, nn.Parameter]]) -> list[nn.Linear]:
    """The plain linear layer of each parameter; refuses everything else, expert adapters by name."""
    if not parameters:
        raise ValueError("there is no parameter to train: select an adapter group and a factor")
    for name, module in model.named_modules():
        # PEFT's adapters of fused experts read their factors' weights and never call them: no hook would fire.
        if type(module).__name__ == "ParamWrapper" and any(p.requires_grad for p in module.parameters()):
            raise OpacusUnsupportedError(f"Opacus has no hook for the expert adapter {name}: use the engine own")
    owners = {id(module.weight): module for module in model.modules() if type(module) is nn.Linear}
    for name, parameter in parameters:
        if id(parameter) not in owners:
            raise OpacusUnsupportedError(f"{name} is not the weight of a plain nn.Linear: use the engine own")
    return [owners[id(parameter)] for _, parameter in parameters]


def _attach(model: nn.Module) -> Any:
    try:
        from opacus import GradSampleModule
    except ImportError:
        raise ImportError('the engine "opacus" needs Opacus: install federated-medgpt[opacus]') from None
    return GradSampleModule(model, strict=False, loss_reduction="sum")
