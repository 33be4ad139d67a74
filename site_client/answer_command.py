"""`site-client answer`: what the base model and an adapter on it answer to one question, side by side.

Nothing is sent and nothing is written: question, images and answers are in this process and on this screen only.
Exit codes: 0 answered, 2 bad input, 130 interrupted (what there was has been printed). Heavy imports happen inside.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.memory_errors import memory_named
from site_client.answer_columns import Column, printable, run_silently, show_live, show_plain

if TYPE_CHECKING:
    from model.adapter_files import AdapterFiles
    from model.backbone import BaseModel
    from model.generation import AnswerPiece, Prompt
    from site_client.sources.picture import Picture

__all__ = ["add_answer_command"]

EXIT_OK, EXIT_INTERRUPTED = 0, 130
NOTE = "research use only, not for clinical decisions"
DEFAULT_TOKENS = 256


def add_answer_command(commands: Any) -> None:
    """Add `answer` to the parser's `commands` (of `add_subparsers`)."""
    answer = commands.add_parser(
        "answer", help="what the base model and an adapter answer to a question about images",
        usage="site-client answer [SITE_FILE] [--base DIR] [--adapter DIR] [--image FILE ...] --question TEXT\n"
              "                          [--max-new-tokens N] [--device auto|cpu|cuda] [--json] [-h]",
        description=f"Ask one question and read both answers side by side as they are made. {NOTE.capitalize()}. "
                    "Nothing is sent anywhere, and nothing about images, question or answers is written to a file or "
                    "a log; they stay on this screen. A shell keeps the commands that it was given: write "
                    "`--question -` and type the question, or put it in a file, where it must not. Needs no site file "
                    "when --base names the base model.")
    answer.add_argument("site_file", metavar="SITE_FILE", nargs="?",
                        help="this hospital's YAML file, for its base model")
    answer.add_argument("--adapter", type=Path, metavar="DIR", help="adapter in PEFT layout; left out: base model only")
    answer.add_argument("--base", type=Path, metavar="DIR", help="base model folder (default: the site file's)")
    answer.add_argument("--image", type=Path, metavar="FILE", nargs="+", action="extend", default=[],
                        help="PNG, JPEG or uncompressed DICOM, in the order in which the question means them")
    answer.add_argument("--question", required=True, metavar="TEXT",
                        help="the question, or - to read it from standard input; <image> in it says where each image "
                             "goes, without it images come first")
    answer.add_argument("--max-new-tokens", type=int, metavar="N",
                        help=f"most tokens of an answer (default: {DEFAULT_TOKENS}, or what the context has room for)")
    answer.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto",
                        help="where to compute (default: auto, a GPU if there is one)")
    answer.add_argument("--json", action="store_true", help="print one JSON object at the end instead of text")
    answer.set_defaults(command=_answer)


def _answer(arguments: argparse.Namespace) -> int:
    """What is quick to refuse is refused before the model is loaded, and before torch is imported."""
    question = _question(arguments)
    directory = _base_directory(arguments)
    files, pictures = _read_inputs(arguments)
    with memory_named("these images"), _waiting("loading the model"):
        from model.adapted import open_to_ask

        base, model, device = open_to_ask(directory, files, arguments.device)
        prompt = _prompt(question, pictures, base)
    most = _most_tokens(arguments.max_new_tokens, prompt, base)
    columns = _columns(base, model, prompt, most, files)
    facts = _facts(base, files, device, len(prompt.ids))
    with memory_named("these images"):
        if arguments.json:
            whole = run_silently(columns)
        else:
            print(_heading(facts, arguments.image, pictures), flush=True)
            whole = _show(columns)
    if arguments.json:
        print(json.dumps(_with_answers(facts, columns, not whole)))
    return EXIT_OK if whole else EXIT_INTERRUPTED


def _question(arguments: argparse.Namespace) -> str:
    """The question's text; ValueError when it is empty or too long, or does not go with the images."""
    from model.harmony import IMAGE_PLACEHOLDER
    from site_client.sources.table_rows import MAX_IMAGES, MAX_TEXT_CHARS

    question = str(sys.stdin.read(MAX_TEXT_CHARS + 1) if arguments.question == "-" else arguments.question).strip()
    if not question:
        raise ValueError("the question is empty; write it after --question")
    if len(question) > MAX_TEXT_CHARS:
        raise ValueError(f"the question is longer than {MAX_TEXT_CHARS} characters; shorten it")
    if len(arguments.image) > MAX_IMAGES:
        raise ValueError(f"{len(arguments.image)} images are too many for one question; name at most {MAX_IMAGES}")
    places = question.count(IMAGE_PLACEHOLDER)
    if places not in (0, len(arguments.image)):
        raise ValueError(f"the question holds {places} times {IMAGE_PLACEHOLDER} and there are {len(arguments.image)} "
                         "images; write it once for each image, or not at all")
    if arguments.max_new_tokens is not None and arguments.max_new_tokens < 1:
        raise ValueError("--max-new-tokens must be at least 1")
    return question


def _base_directory(arguments: argparse.Namespace) -> Path:
    if arguments.base is not None:
        return Path(arguments.base)
    if arguments.site_file is None:
        raise ValueError("no base model is named; give --base DIR, or the SITE_FILE that names one")
    from configs.load import load_config
    from configs.schema import SiteConfig

    return Path(load_config(SiteConfig, arguments.site_file).base_model)


def _read_inputs(arguments: argparse.Namespace) -> tuple[AdapterFiles | None, list[Picture]]:
    from model.adapter_files import read_adapter

    files = None if arguments.adapter is None else read_adapter(arguments.adapter)
    if not arguments.image:
        return files, []
    from site_client.sources.picture import read_picture

    with memory_named("these images"):
        return files, [read_picture(path) for path in arguments.image]


def _prompt(question: str, pictures: Sequence[Picture], base: BaseModel) -> Prompt:
    from model.generation import prompt_of
    from model.inputs import Example

    example = Example(question, "", images=tuple(picture.pixels for picture in pictures))
    with contextlib.suppress(ValueError):  # the images alone are too long
        prompt = prompt_of(example, base.tokenizer, base.spec)
        if not prompt.truncated:
            return prompt
    raise ValueError(f"question and images are longer than this model's {base.spec.max_tokens} tokens; shorten the "
                     "question, or use fewer or squarer images")


def _most_tokens(asked: int | None, prompt: Prompt, base: BaseModel) -> int:
    room = base.spec.context - len(prompt.ids)
    if asked is not None and asked > room:
        raise ValueError(f"--max-new-tokens {asked} and the {len(prompt.ids)} tokens of the question exceed this "
                         f"model's context of {base.spec.context} tokens; ask for at most {room}")
    return min(DEFAULT_TOKENS, room) if asked is None else asked


def _columns(base: BaseModel, model: Any, prompt: Prompt, most: int, files: AdapterFiles | None) -> list[Column]:
    from model.generation import stream_answer

    def stream() -> Iterator[AnswerPiece]:
        return stream_answer(model, prompt, base.tokenizer, base.spec, max_new_tokens=most)

    end = base.spec.eos_token_id
    if files is None:
        return [Column("base", stream(), end)]
    return [Column("base", _without_adapter(model, stream()), end), Column("with adapter", stream(), end)]


def _without_adapter(model: Any, stream: Iterator[AnswerPiece]) -> Iterator[AnswerPiece]:
    """The stream with the adapter off while a token is made, and on between two of them."""
    while True:
        with model.disable_adapter():
            piece = next(stream, None)
        if piece is None:
            return
        yield piece


def _show(columns: Sequence[Column]) -> bool:
    if not sys.stdout.isatty():
        return show_plain(columns)
    from rich.console import Console

    return show_live(columns, Console())


def _facts(base: BaseModel, files: AdapterFiles | None, device: str, prompt_tokens: int) -> dict[str, Any]:
    """What is known before the first token, as JSON values."""
    adapter = None if files is None else {
        "folder": str(files.directory), "description": files.description, "rank": files.lora.rank,
        "alpha": files.lora.alpha, "groups": list(files.lora.groups), "names_base": files.base_hash is not None}
    return {"note": NOTE, "device": device, "prompt_tokens": prompt_tokens,
            "base_model": {"name": base.spec.name, "content_hash": base.content_hash.hex()}, "adapter": adapter}


def _with_answers(facts: dict[str, Any], columns: Sequence[Column], interrupted: bool) -> dict[str, Any]:
    answers = [{"text": column.text, "tokens": column.tokens, "seconds": round(column.seconds, 3),
                "finished": column.finished} for column in columns]
    return {**facts, "interrupted": interrupted, "base": answers[0], "adapted": answers[1] if answers[1:] else None}


def _heading(facts: dict[str, Any], paths: Sequence[Path], pictures: Sequence[Picture]) -> str:
    base, adapter = facts["base_model"], facts["adapter"]
    lines = [NOTE.upper(), f"base      {base['name']}, content hash {base['content_hash']}, on {facts['device']}"]
    if adapter is None:
        lines.append("adapter   none")
    else:
        named = "names this base model" if adapter["names_base"] else "does not name its base model; its shapes fit"
        lines.append(f"adapter   {adapter['description'] or 'no description'}")
        lines.append(f"          rank {adapter['rank']}, alpha {adapter['alpha']}, {', '.join(adapter['groups'])}")
        lines.append(f"          {named}")
    for number, (path, picture) in enumerate(zip(paths, pictures, strict=True), start=1):
        height, width = picture.pixels.shape[:2]
        lines.append(f"image {number}   {path.name}, {width} x {height}" + (f", {picture.how}" if picture.how else ""))
    return printable("\n".join(lines))


@contextlib.contextmanager
def _waiting(text: str) -> Iterator[None]:
    """A moving sign on stderr while something takes its time; nothing when stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield
