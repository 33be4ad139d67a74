"""Memory that runs out as a sentence for the operator; needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["memory_named"]


@contextmanager
def memory_named(beside: str) -> Iterator[None]:
    """Memory that runs out is a sentence: the machine's, and the GPU's (torch.OutOfMemoryError).

    beside: what shares the memory with the model, such as "these images". Raises ValueError.
    """
    too_small = f"the memory of this machine is too small for this model and {beside}"
    try:
        yield
    except MemoryError:
        raise ValueError(too_small) from None
    except RuntimeError as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise ValueError("the GPU's memory is too small for this model; use --device cpu") from None
        if "can't allocate memory" not in str(error):  # as torch says it of the machine's memory
            raise
        raise ValueError(too_small) from None
