"""OpenAI's o200k_harmony as a `tokenizers.Tokenizer`, made offline from the published ranks, InternVL's tokens added.

The ranks (`o200k_base.tiktoken`: 199,998 byte strings, each with its rank) come from a file or from the package
bpe-openai (MIT), which is read as data and never imported. Their SHA-256 is the one that tiktoken 0.14.0 demands
(`tiktoken_ext/openai_public.py`, as are pattern and special tokens). InternVL's nine tokens take the ids that follow
OpenAI's named ones, as in InternVL's own training (internvl_chat_gpt_oss, `add_tokens` on the stock tokenizer): they
lie inside the 201,088 rows of the stock embeddings, so nothing is resized.

How many ids there are is the model's to say: InternVL's lineage cuts the embeddings to 200,028 rows, the stock model
keeps 201,088, and `build_tokenizer` takes the number.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import zlib
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

__all__ = ["INTERNVL_TOKENS", "VOCABULARY_SIZE", "build_tokenizer", "find_ranks", "read_ranks", "special_tokens"]

VOCABULARY_SIZE = 201_088
"""Ids of o200k_harmony, reserved ones included; rows of the stock GPT-oss embeddings."""

INTERNVL_TOKENS = (
    "<img>",
    "</img>",
    "<IMG_CONTEXT>",
    "<quad>",
    "</quad>",
    "<ref>",
    "</ref>",
    "<box>",
    "</box>",
)
"""In the order in which InternVL adds them to a tokenizer."""

_RANKS_SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
_RANKS_BYTES = 3_613_922
_RANKS = 199_998
_PACKAGE, _VERSION = "bpe-openai", "0.1.4"
_PACKAGED = "bpe_openai/data/o200k_base.tiktoken.gz"

_FIRST_INTERNVL = 200_019
_NAMED = {
    199_998: "<|startoftext|>",
    199_999: "<|endoftext|>",
    200_002: "<|return|>",
    200_003: "<|constrain|>",
    200_005: "<|channel|>",
    200_006: "<|start|>",
    200_007: "<|end|>",
    200_008: "<|message|>",
    200_012: "<|call|>",
    200_018: "<|endofprompt|>",  # tiktoken has the name <|reserved_200018|> for it as well
} | {_FIRST_INTERNVL + place: token for place, token in enumerate(INTERNVL_TOKENS)}

_PATTERN = "|".join(
    [
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
        r"""\p{N}{1,3}""",
        r""" ?[^\s\p{L}\p{N}]+[\r\n/]*""",
        r"""\s*[\r\n]+""",
        r"""\s+(?!\S)""",
        r"""\s+""",
    ]
)
"""How text is cut into pieces before byte pairs are merged inside each."""


def find_ranks() -> Path:
    """The ranks file that the installed package bpe-openai ships; nothing of the package is imported.

    Raises ValueError when it is not installed or lacks the file.
    """
    try:
        path = Path(str(metadata.distribution(_PACKAGE).locate_file(_PACKAGED)))
    except metadata.PackageNotFoundError:
        path = None
    if path is None or not path.is_file():
        raise ValueError(
            f"The ranks of o200k are not here: install {_PACKAGE}=={_VERSION} or name a file o200k_base.tiktoken."
        )
    return path


def read_ranks(path: Path) -> dict[bytes, int]:
    """Byte string -> rank, in rank order, of `o200k_base.tiktoken` or the same gzipped.

    At most one byte more than the real file is unpacked, and nothing is parsed before its SHA-256 was compared.
    Raises ValueError when the file is missing, damaged or another one.
    """
    if not path.is_file():
        raise ValueError(f"There is no ranks file {path}; name o200k_base.tiktoken, plain or gzipped.")
    content = _unpacked(path)
    found = hashlib.sha256(content).hexdigest()
    if found != _RANKS_SHA256:
        raise ValueError(f"{path} is not o200k_base.tiktoken: the SHA-256 of its content is not {_RANKS_SHA256}.")
    pairs = (line.split() for line in content.splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def _unpacked(path: Path) -> bytes:
    """The file's first bytes, one more than the ranks have; unpacked where it is gzip."""
    with path.open("rb") as stream:
        is_gzip = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        if not is_gzip:
            return stream.read(_RANKS_BYTES + 1)
        try:
            with gzip.GzipFile(fileobj=stream) as unpacking:
                return unpacking.read(_RANKS_BYTES + 1)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is damaged: it cannot be unpacked; get it again.") from error


def special_tokens(vocab_size: int = VOCABULARY_SIZE) -> tuple[str, ...]:
    """The special tokens in id order, from 199,998 to the end of the vocabulary or of o200k_harmony.

    Raises ValueError when InternVL's tokens do not fit below `vocab_size`.
    """
    least = 1 + max(_NAMED)
    if vocab_size < least:
        raise ValueError(f"The vocabulary must have at least {least} entries, which InternVL's image tokens need.")
    ids = range(_RANKS, min(vocab_size, VOCABULARY_SIZE))
    return tuple(_NAMED.get(token_id, f"<|reserved_{token_id}|>") for token_id in ids)


def build_tokenizer(ranks: Mapping[bytes, int], vocab_size: int = VOCABULARY_SIZE) -> Tokenizer:
    """o200k_harmony from `read_ranks`' ranks; the same ids as tiktoken's for every text. Takes seconds.

    vocab_size: the model's; reserved tokens beyond it are left out. Specials inside text are plain characters.
    Raises ValueError when InternVL's tokens do not fit below `vocab_size`.
    """
    specials = special_tokens(vocab_size)
    characters = _byte_characters()
    spelled = {token: "".join(characters[byte] for byte in token) for token in ranks}
    vocabulary = {spelled[token]: rank for token, rank in ranks.items()}
    merges = [(spelled[left], spelled[right]) for left, right in _merges(ranks)]
    # tiktoken takes a piece that is a token as it is, before any merging
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    tokenizer.encode_special_tokens = True  # as `model.tokenizer` has it: no text can make a special
    return tokenizer


def _merges(ranks: Mapping[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """Every pair of tokens that together are one, by rank of the whole, as BPE by ranks would join it.

    A token is reached by more than one pair: which parts meet depends on what stands beside them.
    """
    for token in sorted(ranks, key=ranks.__getitem__):
        pairs = ((token[:end], token[end:]) for end in range(1, len(token)))
        known = [(left, right) for left, right in pairs if left in ranks and right in ranks]
        yield from sorted(known, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))


def _byte_characters() -> list[str]:
    """The character that stands for each byte in a byte-level vocabulary, as GPT-2's encoder.py has it: itself where
    it can be printed, else the next one from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]
