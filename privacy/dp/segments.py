"""Packed rows are refused unless every attention module of the text really keeps the patients apart.

*Guarantees.*
    * In a packed micro-batch every attention module that sees text rows runs with an additive mask (or a boolean
      one where torch's own attention reads it) that blocks every pair of tokens of two patients, or
      `UnsegmentedPackingError` is raised; a module that did not run, or that the search did not find, is refused
      too. Nothing is taken on the caller's word.
    * Such a module runs an attention implementation that is known to apply its mask (`eager`, `sdpa`, `fused_sinks`);
      others are refused by name. Lengths that it is given to go sample by sample cut wherever the patient changes.
    * Positions that a module is given restart with each patient, so that nobody's depend on who stands before.
    * A packed row of several patients that is not finite is refused whole: masks do not stop 0 * NaN.

*Assumes.*
    * Attention modules have "Attention" in their class name, call the implementation that their configuration names
      with the `attention_mask` and `packed_lengths` that they are given, and nobody registers another under its name.
      transformers' do; stock GptOssModel drops `position_ids` when it builds masks, so a packed row with positions
      alone attends across patients (transformers 5.23), which is what this module is for.

*Does not cover.*
    * Token mixing by other means than attention, recurrence and 1-d convolution; padded rows, whose rows are apart.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["AttentionWatch", "PackedNonFiniteError", "SegmentCheck", "UnsegmentedPackingError", "refuse_nonfinite"]

_FIX = "pass a block-diagonal attention_mask and restarting position_ids, as model.packing.pack makes them"
# Implementations that add the whole mask to the scores. Flash and paged attention read no such mask.
_READ_THE_MASK = ("eager", "sdpa", "fused_sinks")


class UnsegmentedPackingError(Exception):
    """Packed rows of several patients without masks that keep them apart; nothing was attributed or released."""


class PackedNonFiniteError(Exception):
    """A packed row of several patients went non-finite: a mask hides a token from a sum, not 0 * NaN from it."""


def refuse_nonfinite(gradients: Tensor, lanes: Tensor | None) -> None:
    """Raise PackedNonFiniteError when a row of `gradients` (P, D) or `lanes` (P, n), P > 1, is not finite.

    A single patient has no neighbour to harm: the clip makes its contribution zero.
    """
    if gradients.shape[0] < 2:
        return
    # The largest entry: NaN passes through it, and unlike a sum it cannot overflow.
    largest = torch.linalg.vector_norm(gradients, ord=float("inf"), dim=1)
    if not bool(torch.isfinite(largest).all()) or (lanes is not None and not bool(torch.isfinite(lanes).all())):
        raise PackedNonFiniteError(
            "a packed row is not finite and nothing of it was added: redo its patients alone, or as padded rows"
        )


class SegmentCheck:
    """What the attention modules of one packed micro-batch were given.

    `patients` int64[T] is the patient of each token, on the model's device; `names` are the modules that must run.
    """

    def __init__(self, patients: Tensor, names: frozenset[str]) -> None:
        self._patients = patients
        self._names = names
        self._seen: set[str] = set()
        # The objects are kept, so that an id cannot be taken over by another one.
        self._good: dict[tuple[int, int], Tensor] = {}
        self._good_lengths: tuple[int, ...] | None = None

    def see(
        self, name: str, mask: object, positions: object, implementation: object, lengths: object = None
    ) -> None:
        """What reached module `name`: mask, positions, its attention implementation, the samples' lengths or None."""
        if implementation not in _READ_THE_MASK:
            raise UnsegmentedPackingError(
                f"{name} runs the attention {implementation!r}, which may ignore a mask: set one of "
                + ", ".join(_READ_THE_MASK)
            )
        if not isinstance(mask, Tensor):
            raise UnsegmentedPackingError(f"{name} got no mask that keeps packed patients apart: {_FIX}")
        # Only torch's own attention reads a boolean mask as such; the others would add it.
        self._once(mask, lambda: self._check_mask(name, mask, implementation == "sdpa"))
        if isinstance(positions, Tensor):
            self._once(positions, lambda: self._check_positions(name, positions))
        if lengths is not None:
            self._check_lengths(name, lengths)
        self._seen.add(name)

    def require_all(self) -> None:
        """Raise UnsegmentedPackingError unless every attention module ran, and there is one."""
        if not self._names:
            raise UnsegmentedPackingError("no attention module was found to check: pad rows instead of packing them")
        if self._names - self._seen:
            name = min(self._names - self._seen)
            raise UnsegmentedPackingError(f"{name} did not run, so its mask was not seen: pad rows instead")

    def _once(self, tensor: Tensor, check: Callable[[], None]) -> None:
        key = (id(tensor), tensor._version)
        if key not in self._good:
            check()
            self._good[key] = tensor

    def _check_mask(self, name: str, mask: Tensor, boolean: bool) -> None:
        length = self._patients.numel()
        if mask.dtype == torch.bool and mask.shape[2:] == (1, length) and length > 1:  # fused_sinks: causal order alone
            raise UnsegmentedPackingError(f"{name} lets tokens of one patient attend to another's: {_FIX}")
        if mask.dim() != 4 or mask.shape[0] != 1 or mask.shape[2:] != (length, length):
            raise UnsegmentedPackingError(f"{name} got a mask of another shape than (1, 1, T, T): {_FIX}")
        if mask.dtype == torch.bool and boolean:
            blocked, sees_itself = ~mask, mask.diagonal(dim1=-2, dim2=-1)
        elif mask.is_floating_point():
            # Half of the lowest number: added to any score, its exponential is zero. NaN does not count as blocked.
            blocked = mask <= torch.finfo(mask.dtype).min / 2
            sees_itself = mask.diagonal(dim1=-2, dim2=-1) == 0
        else:
            raise UnsegmentedPackingError(f"{name} would add its boolean or integer mask: pass an additive one")
        patients = self._patients.to(mask.device)  # of a model over several devices each has a mask of its own
        others = patients[:, None] != patients[None, :]
        if bool((others & ~blocked).any()) or not bool(sees_itself.all()):
            raise UnsegmentedPackingError(f"{name} lets tokens of one patient attend to another's: {_FIX}")

    def _check_positions(self, name: str, positions: Tensor) -> None:
        steps = positions.reshape(-1)
        if steps.shape != self._patients.shape:
            raise UnsegmentedPackingError(f"{name} got positions of another shape than (1, T): {_FIX}")
        starts = torch.ones_like(steps, dtype=torch.bool)
        starts[1:] = (self._patients[1:] != self._patients[:-1]).to(starts.device)
        follows = torch.ones_like(starts)
        follows[1:] = steps[1:] == steps[:-1] + 1
        if not bool(torch.where(starts, steps == 0, follows | (steps == 0)).all()):
            raise UnsegmentedPackingError(f"{name} got positions that do not restart with each patient: {_FIX}")

    def _check_lengths(self, name: str, lengths: object) -> None:
        """The lengths are a tuple, so that they stay as they are, and cut wherever the patient changes."""
        if not isinstance(lengths, tuple) or not all(isinstance(n, int) and n > 0 for n in lengths):
            raise UnsegmentedPackingError(f"{name} got packed_lengths that are no tuple of numbers above 0: {_FIX}")
        if lengths == self._good_lengths:
            return
        changes = (self._patients[1:] != self._patients[:-1]).nonzero()[:, 0] + 1
        if sum(lengths) != self._patients.numel() or not set(changes.tolist()) <= set(accumulate(lengths)):
            raise UnsegmentedPackingError(f"{name} got packed_lengths that join tokens of two patients: {_FIX}")
        self._good_lengths = lengths


class AttentionWatch:
    """Hooks on a model's text attention modules that hand what they are given to the open `SegmentCheck`.

    `image_modules` is searched in a module's name: a match sees tiles, one a row, and is left alone. `current`
    returns the check of the micro-batch that is open, None outside one and for padded rows.
    """

    def __init__(
        self, model: nn.Module, image_modules: str, current: Callable[[], SegmentCheck | None]
    ) -> None:
        text = [(n, m) for n, m in model.named_modules() if not re.search(image_modules, n)]
        watched = [(name, module) for name, module in text if "Attention" in type(module).__name__]
        self._names = frozenset(name for name, _ in watched)
        self._mixer = next((n for n, m in text if isinstance(m, nn.RNNBase | nn.Conv1d)), None)
        self._handles = [
            module.register_forward_pre_hook(_hook(name, current), with_kwargs=True) for name, module in watched
        ]

    def check(self, patients: Tensor) -> SegmentCheck:
        """A check for a packed micro-batch; raises UnsegmentedPackingError when the model mixes tokens otherwise."""
        if self._mixer is not None:
            raise UnsegmentedPackingError(f"{self._mixer} mixes neighbouring tokens: pad rows instead of packing")
        return SegmentCheck(patients, self._names)

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles = []


def _hook(name: str, current: Callable[[], SegmentCheck | None]) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        check = current()
        if check is None:
            return
        given = dict(zip(_parameters(type(module).forward), args, strict=False)) | kwargs
        implementation = getattr(getattr(module, "config", None), "_attn_implementation", None)
        positions, lengths = given.get("position_ids"), given.get("packed_lengths")
        check.see(name, given.get("attention_mask"), positions, implementation, lengths)

    return hook


@lru_cache(maxsize=64)
def _parameters(forward: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the positional arguments of a module class's `forward`."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(forward).parameters.values()
    return tuple(p.name for p in parameters if p.kind in kinds)[1:]
