"""`coordinator make-tokenizer`: a full model's tokenizer.json from OpenAI's published ranks, without a network."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from pathlib import Path
from typing import Any

__all__ = ["add_tokenizer_command"]

EXIT_OK = 0
_PUBLIC = 0o644  # it holds nothing of ours


def add_tokenizer_command(commands: Any) -> None:
    """Add `make-tokenizer` to the parser's `commands` (of `add_subparsers`)."""
    maker = commands.add_parser(
        "make-tokenizer", help="the tokenizer.json of a GPT-oss base model, made offline",
        description="Write o200k_harmony with InternVL's image tokens from OpenAI's ranks, whose SHA-256 is checked. "
                    "Takes some ten seconds; nothing is fetched.")
    maker.add_argument("out", type=Path, metavar="OUT.json", help="the new file, tokenizer.json of a base model folder")
    maker.add_argument("--ranks", type=Path, metavar="FILE",
                       help="o200k_base.tiktoken, plain or gzipped (default: the one in the package bpe-openai)")
    maker.add_argument("--vocab-size", type=int, metavar="N",
                       help="the model's number of embeddings, vocab_size of its config.json (default: stock GPT-oss')")
    maker.add_argument("--json", action="store_true", help="print JSON instead of text")
    maker.set_defaults(command=_make)


def _make(arguments: argparse.Namespace) -> int:
    from model.harmony_vocabulary import VOCABULARY_SIZE, build_tokenizer, find_ranks, read_ranks, special_tokens
    from privacy.durable import write_whole

    out: Path = arguments.out
    if os.path.lexists(out):
        raise ValueError(f"{out} exists and is never replaced; choose another name")
    if not out.parent.is_dir():
        raise ValueError(f"{out.parent} does not exist; make it first")
    size = VOCABULARY_SIZE if arguments.vocab_size is None else arguments.vocab_size
    special_tokens(size)  # refuses before the long part
    tokenizer = build_tokenizer(read_ranks(arguments.ranks or find_ranks()), size)
    content = tokenizer.to_str(pretty=True).encode()  # the bytes that `save_base` writes for it
    write_whole(out, content)
    out.chmod(_PUBLIC)
    tokens, digest = tokenizer.get_vocab_size(), hashlib.sha256(content).hexdigest()
    print(json.dumps({"file": str(out), "tokens": tokens, "sha256": digest}) if arguments.json
          else f"{out}: {tokens} tokens, SHA-256 {digest}")
    return EXIT_OK
