"""`coordinator make-base`: published checkpoints become one base model folder, with a hash to agree on."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordinator.work_bar import shown

if TYPE_CHECKING:
    from model.checkpoint import Source

__all__ = ["add_make_base_command"]

EXIT_OK = 0
LAYOUTS = {"medgpt-oss": 2, "gpt-oss+clip": 3}  # paths, OUT included


def add_make_base_command(commands: Any) -> None:
    """Add `make-base` to the parser's `commands` (of `add_subparsers`)."""
    parser = commands.add_parser(
        "make-base", help="make a base model folder of published weights",
        usage="coordinator make-base --from medgpt-oss [options] PATH OUT\n"
              "       coordinator make-base --from gpt-oss+clip [options] PATH CLIP_PATH OUT",
        description="Read a local checkpoint in safetensors, check all of it, and write this project's own form. "
                    "Nothing is downloaded and no code of a checkpoint is run.")
    parser.add_argument("--from", dest="layout", required=True, choices=sorted(LAYOUTS),
                        help="MedGPT-oss as published, or stock GPT-oss and stock CLIP with a projector of your own")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH",
                        help="the checkpoint's folders, and last the new one")
    parser.add_argument("--tokenizer", type=Path, metavar="FILE", help="a tokenizer.json (default: the one in PATH)")
    parser.add_argument("--experts", choices=("dense", "mxfp4"),
                        help="how experts are stored (default: as in PATH); mxfp4 of dense ones rounds them to 4 bits")
    parser.add_argument("--shard-gib", type=_gib, default=4.0, metavar="GIB", help="size of one file (default: 4)")
    projector = parser.add_mutually_exclusive_group()
    projector.add_argument("--projector", type=Path, metavar="FILE", help="a trained projector in safetensors")
    projector.add_argument("--train-projector", type=Path, metavar="EXAMPLES.npz",
                           help="train one on PUBLIC examples; it becomes part of what everybody holds")
    parser.add_argument("--epochs", type=_count, default=1, help="passes over the examples (default: 1)")
    parser.add_argument("--batch-size", type=_count, default=16, help="of the projector's training (default: 16)")
    parser.add_argument("--seed", type=int, default=0, help="of a new projector and its training (default: 0)")
    parser.add_argument("--device", default="cpu", help="where the projector is trained, such as cuda (default: cpu)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(command=_make_base)


def _count(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number; give a whole number from 1 up")
    return value


def _gib(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1024:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; give GiB, more than 0")
    return value


def _make_base(arguments: argparse.Namespace) -> int:
    *folders, out = arguments.paths
    if len(arguments.paths) != LAYOUTS[arguments.layout]:
        wanted = "PATH OUT" if arguments.layout == "medgpt-oss" else "PATH CLIP_PATH OUT"
        raise ValueError(f"make-base --from {arguments.layout} takes {wanted}, after all options")
    from privacy.durable import new_folder, sync

    with new_folder(out.absolute()) as partial:
        source = _opened(arguments, folders)
        from model.backbone import hash_model
        from model.conversion import convert

        with shown("writing") as show:
            convert(source, partial, shard_bytes=int(arguments.shard_gib * (1 << 30)), progress=show)
        partial.chmod(0o755)
        for path in partial.iterdir():
            path.chmod(0o644)
            sync(path)
        content_hash = hash_model(partial).hex()
    if arguments.json:
        print(json.dumps({"folder": str(out), "name": source.spec.name, "experts": source.spec.experts,
                          "dtype": source.spec.dtype, "hash": content_hash}))
        return EXIT_OK
    print(f"{out} is a base model: {source.spec.name}, experts {source.spec.experts}, {source.spec.dtype}\n"
          f"{content_hash}")
    if arguments.layout == "medgpt-oss":
        print("MedGPT-oss weights are CC BY-NC 4.0, and so is what is made of them: research only, no clinical use")
    return EXIT_OK


def _opened(arguments: argparse.Namespace, folders: list[Path]) -> Source:
    """The checkpoint, with the experts and the projector that were asked for."""
    from model.checkpoint import open_composed, open_upstream, read_projector

    if arguments.layout == "medgpt-oss":
        if arguments.projector or arguments.train_projector:
            raise ValueError("MedGPT-oss has its own projector; leave --projector and --train-projector out")
        source = open_upstream(folders[0], arguments.tokenizer)
    else:
        source = open_composed(folders[0], folders[1], arguments.tokenizer)
        if arguments.projector:
            source = source.with_projector(read_projector(arguments.projector))
        else:
            source = _with_new_projector(source, arguments)
    return source.with_experts(arguments.experts or source.spec.experts)


def _with_new_projector(source: Source, arguments: argparse.Namespace) -> Source:
    """The source with a fresh projector, trained if examples are given."""
    from model.projector_training import new_projector

    source = source.with_projector(new_projector(source.spec, arguments.seed))
    if arguments.train_projector is None:
        print("the projector is new and not trained: images mean nothing to this model before a stage trains it",
              file=sys.stderr)
        return source
    from model.backbone import load_source
    from model.example_file import load_examples
    from model.projector_training import ProjectorRecipe, train_projector

    _require_device(arguments.device)
    examples = load_examples(arguments.train_projector)
    recipe = ProjectorRecipe(seed=arguments.seed, epochs=arguments.epochs, batch_size=arguments.batch_size)
    model = load_source(source).to(arguments.device)
    with shown("training the projector") as show:
        tensors = train_projector(
            model, source.tokenizer, source.spec, examples, recipe=recipe,
            progress=lambda done, total, loss: show(done, total, f"loss {loss:.3f}"))
    return source.with_projector(tensors)


def _require_device(name: str) -> None:
    """ValueError unless torch can put a number there: known before a model is loaded."""
    import torch

    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError):  # torch raises either
        raise ValueError(f"--device {name} is not there; give cpu, or a device that torch finds") from None
