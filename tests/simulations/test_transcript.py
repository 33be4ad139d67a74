"""The page that walks through one round shows what the code does, and its arithmetic is right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from simulations.transcript import fill, record

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"


@pytest.fixture(scope="module")
def blocks() -> dict[str, str]:
    return record()


def _lists(text: str) -> list[list[float]]:
    return [[float(number) for number in found.split(", ")] for found in re.findall(r"\[([-\d., e]+)\]", text)]


def test_the_page_shows_the_bytes_of_the_code(blocks: dict[str, str]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert fill(page, blocks) == page, "run: python -m simulations.transcript --write docs/protocol.md"


def test_a_page_that_leaves_a_block_out_is_refused(blocks: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="ctx"):
        fill("```transcript roster\n```\n", blocks)


def test_masks_and_input_add_up_to_the_upload(blocks: dict[str, str]) -> None:
    quantized = _lists(blocks["vectors"].splitlines()[0])[1]
    signs = [1 if line.startswith("+") else -1 for line in blocks["masks"].splitlines()]
    masks = _lists(blocks["masks"])
    upload = _lists(blocks["r2-upload"])[0]
    for at in range(3):
        total = quantized[at] + sum(sign * mask[at] for sign, mask in zip(signs, masks, strict=True))
        assert int(total) % (1 << 24) == upload[at]


def test_the_sum_is_that_of_the_three_survivors(blocks: dict[str, str]) -> None:
    survivors = [_lists(line)[1] for line in blocks["vectors"].splitlines()[:3]]
    assert [sum(column) % (1 << 24) for column in zip(*survivors, strict=True)] == _lists(blocks["sum"])[0]
