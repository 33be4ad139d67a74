"""`coordinator evaluate`: a benchmark's questions to a base model and to an adapter on it, side by side.

Nothing is sent and nothing is downloaded. Answers are kept as they come, so that the same command goes on after it was
stopped. Exit codes: 0 done, 2 bad input, 130 interrupted. Heavy imports happen inside.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.memory_errors import memory_named

if TYPE_CHECKING:
    from configs.evaluation import BenchmarkConfig
    from coordinator.evaluate_answers import AnswerFile
    from coordinator.evaluate_models import Models
    from model.adapter_files import AdapterFiles
    from model.benchmarks.items import Item

__all__ = ["add_evaluate_command"]

EXIT_OK, EXIT_INTERRUPTED = 0, 130


def add_evaluate_command(commands: Any) -> None:
    """Add `evaluate` to the parser's `commands` (of `add_subparsers`)."""
    parser = commands.add_parser(
        "evaluate", help="measure a base model and an adapter on a benchmark, side by side",
        description="Ask the questions of a local copy of a benchmark, greedily and one by one, and compare answers "
                    "with its references; with 95 % intervals and paired differences. Research use only. The same "
                    "command again goes on where it stopped. Formats and measures: docs/evaluation.md.")
    parser.add_argument("config", metavar="CONFIG", help="YAML file, such as evaluation/slake.yaml")
    parser.add_argument("--base", type=Path, required=True, metavar="DIR", help="base model folder")
    parser.add_argument("--adapter", type=Path, metavar="DIR", help="adapter in PEFT layout; left out: base model only")
    parser.add_argument("--data", metavar="DIR", help="the benchmark's local copy (default: the file's `data`)")
    parser.add_argument("--limit", type=_count, metavar="N", help="ask N questions only, always the same ones")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE",
                        help="change a setting of the file; may be given several times")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto",
                        help="where to compute (default: auto, a GPU if there is one)")
    parser.add_argument("--out", type=Path, metavar="FILE",
                        help="the result, JSON; answers are kept beside it (default: runs/evaluation/NAME.json)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON instead of a table")
    parser.set_defaults(command=_evaluate)


def _count(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of questions; give a whole number from 1 up")
    return value


def _evaluate(arguments: argparse.Namespace) -> int:
    """What is quick to refuse is refused before the model is loaded, and before torch is imported."""
    config = _config(arguments)
    out = _out(arguments.out, config)
    answers_path = out.with_name(out.name + ".answers.jsonl")
    from model.adapter_files import read_adapter

    files = None if arguments.adapter is None else read_adapter(arguments.adapter)
    every = _items(config)
    from model.benchmarks.items import fingerprint, selected

    chosen = selected(every, config.limit, config.seed)
    known = {"format": "evaluation-answers/1", "benchmark": _facts_of(config), "questions": fingerprint(every)}
    _refuse_early(answers_path, known)
    for item in chosen:
        for picture in item.pictures:
            picture.check()
    with memory_named("these pictures"):
        models, identity = _opened(arguments, files, known)
        from coordinator.evaluate_answers import open_answers

        with open_answers(answers_path, identity) as answers:
            if not _ask(models, answers, chosen, config.max_new_tokens):
                print(f"interrupted; {answers_path} holds the answers; the same command goes on", file=sys.stderr)
                return EXIT_INTERRUPTED
            facts = _result(config, models, files, answers, every, chosen)
    _write(out, facts)
    from coordinator.evaluate_report import table_of

    print(json.dumps(facts) if arguments.json else f"{table_of(facts)}\nresult: {out}")
    return EXIT_OK


def _config(arguments: argparse.Namespace) -> BenchmarkConfig:
    from configs.evaluation import BenchmarkConfig
    from configs.load import load_config

    settings = list(arguments.settings)
    settings += [] if arguments.limit is None else [f"limit={arguments.limit}"]
    config = load_config(BenchmarkConfig, arguments.config, settings)
    if arguments.data is None:
        return config
    from dataclasses import replace

    return replace(config, data=arguments.data)


def _out(asked: Path | None, config: BenchmarkConfig) -> Path:
    out = Path("runs") / "evaluation" / f"{config.name}.json" if asked is None else asked
    if asked is None:
        out.parent.mkdir(parents=True, exist_ok=True)
    if not out.parent.is_dir():
        raise ValueError(f"{out.parent} does not exist; make it first")
    if out.is_dir():
        raise ValueError(f"--out {out} is a folder; name a file in it, such as {out / (config.name + '.json')}")
    return out


def _items(config: BenchmarkConfig) -> list[Item]:
    from model.benchmarks.formats import read_items

    folder = Path(config.data) if config.data else None
    return read_items(config.format, folder, split=config.split, language=config.language,
                      subjects=tuple(config.subjects), fold=config.fold, seed=config.seed)


def _facts_of(config: BenchmarkConfig) -> dict[str, Any]:
    """What makes an answer: not where the copy lies, nor how many questions are asked."""
    return {name: value for name, value in asdict(config).items() if name not in ("data", "limit")}


def _refuse_early(path: Path, known: dict[str, Any]) -> None:
    """ValueError before a model is loaded, when the file there is already known to be of another evaluation."""
    from coordinator.evaluate_answers import first_line, require_same

    if (found := first_line(path)) is not None:
        require_same(found, known, path)


def _opened(
    arguments: argparse.Namespace, files: AdapterFiles | None, known: dict[str, Any]
) -> tuple[Models, dict[str, Any]]:
    from coordinator.evaluate_models import adapter_hash, open_models

    print("loading the model", file=sys.stderr, flush=True)
    models = open_models(arguments.base, files, arguments.device)
    adapter = None if files is None else adapter_hash(files)
    return models, {**known, "base_model": models.base.content_hash.hex(), "adapter": adapter}


def _ask(models: Models, answers: AnswerFile, chosen: Sequence[Item], max_new_tokens: int) -> bool:
    """Ask what has no answer yet; False when interrupted."""
    from coordinator.work_bar import shown

    left = [item for item in chosen if item.key not in answers.answers]
    if len(left) < len(chosen):
        print(f"{len(chosen) - len(left)} of {len(chosen)} questions are answered already", file=sys.stderr)
    begin = time.monotonic()
    try:
        with shown("asking") as show:
            _show_from(show, len(chosen) - len(left), len(chosen))
            for number, item in enumerate(left, start=1):
                answers.add(item.key, models.ask(item, max_new_tokens))
                note = _time_left((time.monotonic() - begin) / number * (len(left) - number))
                show(len(chosen) - len(left) + number, len(chosen), note)
    except KeyboardInterrupt:
        return False
    return True


def _show_from(show: Callable[..., None], done: int, total: int) -> None:
    if done < total:
        show(done, total)


def _time_left(seconds: float) -> str:
    """For plain lines; a terminal's bar has its own."""
    if sys.stderr.isatty() or seconds <= 0:
        return ""
    return f"about {seconds:.0f} s left" if seconds < 120 else f"about {seconds / 60:.0f} min left"


def _result(
    config: BenchmarkConfig, models: Models, files: AdapterFiles | None, answers: AnswerFile, every: Sequence[Item],
    chosen: Sequence[Item],
) -> dict[str, Any]:
    from importlib.metadata import version

    from coordinator.evaluate_models import adapter_hash
    from coordinator.evaluate_report import NOTE, measures_of
    from model.benchmarks.items import fingerprint

    records = [answers.answers[item.key] for item in chosen]
    sides = ("base", "adapted") if models.adapted else ("base",)
    adapter = None if files is None else {
        "folder": str(files.directory), "hash": adapter_hash(files), "description": files.description}
    return {
        "note": NOTE, "benchmark": config.name, "config": asdict(config), "questions_hash": fingerprint(every),
        "available": len(every), "asked": len(chosen), "groups": len({item.group for item in chosen}),
        "base_model": {"name": models.base.spec.name, "content_hash": models.base.content_hash.hex()},
        "adapter": adapter, "device": models.device, "torch": version("torch"), "transformers": version("transformers"),
        "cut_answers": {side: sum(side in record["cut"] for record in records) for side in sides},
        "truncated_questions": sum(bool(record["truncated"]) for record in records),
        "too_long_questions": sum(bool(record["too_long"]) for record in records),
        "measures": measures_of(chosen, answers.answers, models.adapted),
    }


def _write(out: Path, facts: dict[str, Any]) -> None:
    from privacy.durable import write_whole

    write_whole(out, json.dumps(facts, indent=1).encode() + b"\n")
