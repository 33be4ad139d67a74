"""ROUGE-L of a generated text: how much of it and of the reference is one common subsequence.

Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", ACL workshop Text Summarization Branches Out, 2004,
section 3.1, equations 2 to 4: for a reference of m tokens and a candidate of n tokens,

    R = LCS / m,   P = LCS / n,   F = (1 + beta^2) R P / (R + beta^2 P)

at sentence level, with the whole text as one sentence and beta = 1, as the `rouge-score` package computes `rougeL`;
without stemming. Tokens are runs of a-z and 0-9 of the lower-cased text; all other characters separate.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["longest_common_subsequence", "rouge_l", "rouge_tokens"]

_SEPARATORS = re.compile(r"[^a-z0-9]+")


def rouge_tokens(text: str) -> list[str]:
    """The tokens that ROUGE counts."""
    return _SEPARATORS.sub(" ", text.lower()).split()


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest sequence that is in both, in order, not necessarily without gaps; O(len * len) time."""
    row = [0] * (len(second) + 1)
    for token in first:
        diagonal = 0
        for column, other in enumerate(second, start=1):
            above = row[column]
            row[column] = diagonal + 1 if token == other else max(above, row[column - 1])
            diagonal = above
    return row[-1]


def rouge_l(reference: str, candidate: str) -> float:
    """F of ROUGE-L with beta = 1, 0..1; 0 when either has no token."""
    wanted, found = rouge_tokens(reference), rouge_tokens(candidate)
    common = longest_common_subsequence(wanted, found)
    return 2 * common / (len(wanted) + len(found)) if common else 0.0
