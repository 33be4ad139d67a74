"""Public examples as one file: `.npz` with a JSON text and the images as uint8 arrays. No pickle is read or written."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from model.inputs import Example, arrays_of

__all__ = ["KINDS", "by_kind", "kind_of", "load_examples", "save_examples"]

#: Question kinds of the demonstration data, told apart by their choices.
KINDS: dict[tuple[str, ...], str] = {
    ("abnormal", "normal"): "normal",
    ("A", "B"): "impression",
    ("no", "yes"): "alike",
}


def kind_of(example: Example) -> str:
    """`normal`, `impression` or `alike`; `free` for a question without known choices."""
    return KINDS.get(tuple(sorted(example.choices)), "free")


def by_kind(examples: Iterable[Example]) -> dict[str, list[Example]]:
    """Examples grouped by :func:`kind_of`, in their order; free text is left out."""
    groups: dict[str, list[Example]] = {}
    for example in examples:
        if (kind := kind_of(example)) != "free":
            groups.setdefault(kind, []).append(example)
    return groups


def save_examples(path: Path, examples: Sequence[Example]) -> None:
    """Write `examples` to `path`, replacing it whole."""
    rows = [[e.question, e.answer, list(e.choices), e.key, len(e.images)] for e in examples]
    images = [image for example in examples for image in arrays_of(example)]
    arrays = {f"image{number:06d}": image for number, image in enumerate(images)}
    buffer = io.BytesIO()
    arrays["rows"] = np.frombuffer(json.dumps(rows).encode(), dtype=np.uint8)
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    partial = path.with_suffix(".partial")
    partial.write_bytes(buffer.getvalue())
    partial.replace(path)


def load_examples(path: Path) -> list[Example]:
    """The examples in `path`.

    Raises:
        ValueError: missing or damaged file; the text names it.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            rows = json.loads(archive["rows"].tobytes().decode())
            images = iter([archive[name] for name in sorted(archive.files) if name.startswith("image")])
    except Exception as error:
        raise ValueError(f"example file {path} cannot be read ({error.__class__.__name__}); make it again") from None
    return [
        Example(question=question, answer=answer, choices=tuple(choices), key=key,
                images=tuple(next(images) for _ in range(count)))
        for question, answer, choices, key, count in rows
    ]
