"""What an adapter's matrices are called and in which order their numbers stand, without torch: for who checks a file.

A matrix has one name in a model (`....lora_A.default.weight`) and a shorter one in PEFT's file (`....lora_A.weight`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.spec import GROUPS, group_of

__all__ = ["factor_of", "file_name", "module_of", "parts_in_words", "sort_key", "vector_of"]

_FACTOR_NAME = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<factor>[AB])(?:\.default)?\.weight")


def sort_key(name: str) -> tuple[int, tuple[tuple[int, str], ...], str]:
    """(group, path with numbers as numbers, factor): the order of the layout (`model.adapter`), of either kind of name.

    Raises ValueError for a name that is no LoRA matrix of a known group.
    """
    match = _FACTOR_NAME.fullmatch(name)
    group = group_of(match["module"]) if match else None
    if match is None or group is None:
        raise ValueError("AdapterLayout: the model adapts a module outside the known groups.")
    parts = re.split(r"(\d+)", match["module"])
    path = tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)
    return tuple(GROUPS).index(group), path, match["factor"]


def module_of(name: str) -> str:
    """Path of the module that holds the matrix, without PEFT's prefix. ValueError as `sort_key`."""
    sort_key(name)
    return _FACTOR_NAME.fullmatch(name)["module"]  # type: ignore[index]


def factor_of(name: str) -> str:
    """"A" or "B". ValueError as `sort_key`."""
    return sort_key(name)[2]


def file_name(name: str) -> str:
    """What PEFT's file calls the model's matrix `name`."""
    return name.replace(".default.weight", ".weight")


def parts_in_words(groups: set[str]) -> str:
    """The adapted parts, for people."""
    words = {
        "attention": "language model's attention q/k/v/o",
        "projector": "both projector layers",
        "experts": "experts' gate_up_proj and down_proj",
    }
    return ", ".join(text for group, text in words.items() if group in groups)


def vector_of(tensors: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """An adapter file's matrices as the one vector that is summed, hashed and attested: float64, in layout order.

    Raises ValueError for a name outside the known groups, and where there is none at all.
    """
    if not tensors:
        raise ValueError("The adapter file holds no matrix.")
    return np.concatenate([
        np.asarray(tensors[name], dtype=np.float64).ravel() for name in sorted(tensors, key=sort_key)])
