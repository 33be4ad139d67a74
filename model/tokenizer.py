"""Byte-level BPE with the Harmony special tokens: trained small for the tiny model, loaded for the full one.

The special strings are those of OpenAI's Harmony format plus InternVL's image tokens, so rendering code is the
same for a 1k and for a 201k vocabulary. Text of patients can never produce a special token: specials that occur
inside text are tokenised as plain characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

__all__ = [
    "CHATML_TOKENS",
    "SPECIAL_TOKENS",
    "WHOLE_WORDS",
    "train_tokenizer",
    "save_tokenizer",
    "load_tokenizer",
    "text_ids",
    "special_id",
]

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|startoftext|>",
    "<|return|>",
    "<|start|>",
    "<|message|>",
    "<|channel|>",
    "<|end|>",
    "<img>",
    "</img>",
    "<IMG_CONTEXT>",
)
"""In id order for a trained tokenizer (ids 0..9); ModelSpec's token ids refer to these."""

CHATML_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<empty_output>")
"""What a ChatML tokenizer (SmolLM2's) must have: padding, start and end of a turn, and one that stands for an image."""

WHOLE_WORDS = ("system", "user", "assistant", "final", "normal", "abnormal", "yes", "no", "A", "B")
"""Kept as single tokens: the headers of Harmony, and the short answers, so that a forced choice is one forward."""

_MINIMUM_VOCABULARY = len(SPECIAL_TOKENS) + 256 + 64


def train_tokenizer(texts: Iterable[str], vocab_size: int, words: Sequence[str] = WHOLE_WORDS) -> Tokenizer:
    """A byte-level BPE tokenizer of at most `vocab_size` entries (fewer when the texts hold fewer words), every one of
    `words` a single token. Deterministic in its arguments.

    Raises ValueError when vocab_size is too small to hold bytes, specials and words.
    """
    if vocab_size < _MINIMUM_VOCABULARY:
        raise ValueError(f"train_tokenizer: vocab_size must be at least {_MINIMUM_VOCABULARY}.")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_weighted(list(texts), words), trainer)
    tokenizer = _harden(tokenizer)
    for word in words:
        if len(text_ids(tokenizer, word)) != 1:
            raise ValueError("train_tokenizer: vocab_size is too small to keep the answer words whole.")
    return tokenizer


def _weighted(texts: list[str], words: Sequence[str]) -> Iterator[str]:
    """The texts, then each whole word more often than any pair in them occurs, so that BPE merges it first."""
    yield from texts
    count = 1 + sum(map(len, texts))
    block = 1000  # one long line of words is far cheaper to hand over than many short ones
    for word in words:
        for _ in range(1 + count // block):
            yield "\n".join([word] * block)


def save_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    """Write one `tokenizer.json`."""
    tokenizer.save(str(path))


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a `tokenizer.json` that has every Harmony special, or every ChatML one (`model.chatml`).

    Raises ValueError when missing, malformed or without.
    """
    if not path.is_file():
        raise ValueError(f"No tokenizer at {path}; a base model folder holds a tokenizer.json.")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise ValueError(f"The tokenizer at {path} is not a readable tokenizer.json.") from error
    chatml = tokenizer.token_to_id("<|im_start|>") is not None and tokenizer.token_to_id("<|channel|>") is None
    for token in CHATML_TOKENS if chatml else SPECIAL_TOKENS:
        special_id(tokenizer, token)
    return _harden(tokenizer)


def special_id(tokenizer: Tokenizer, token: str) -> int:
    """Id of one special. Raises ValueError when the tokenizer lacks it."""
    found = tokenizer.token_to_id(token)
    if found is None:
        raise ValueError(f"The tokenizer has no {token} token; it is not a Harmony tokenizer (nor ChatML's).")
    return int(found)


def text_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of plain text; never a special token, whatever the text holds."""
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def _harden(tokenizer: Tokenizer) -> Tokenizer:
    # A report that contains "<|end|>" must not be able to close its own turn.
    tokenizer.encode_special_tokens = True
    return tokenizer
