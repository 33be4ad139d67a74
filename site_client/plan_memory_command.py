"""`site-client plan-memory --gpu 24GB`: which rows and how many of them fit on this site's card. No GPU is needed.

Exit codes: 0 something fits, 1 nothing does, 2 bad input. Heavy imports: none, the plan is arithmetic.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

__all__ = ["add_plan_memory_command", "facts"]

_LENGTHS = (1024, 2048, 4096, 8192, 16384, 32768)
_MODELS = ("medgpt-oss-20b-mxfp4", "medgpt-oss-20b", "tiny")


def add_plan_memory_command(commands: Any) -> None:
    """Add `plan-memory` to the parser's `commands` (of `add_subparsers`)."""
    command = commands.add_parser(
        "plan-memory", help="which row lengths, image tiles and micro-batches fit on a card",
        description="Bytes of one training step, computed from the model's dimensions; no GPU and no weights are "
                    "needed. docs/performance.md compares with measured peaks. Exit code 1 when nothing fits.")
    command.add_argument("--gpu", required=True, metavar="MEMORY", help="the card's memory, such as 24GB or 22.5GiB")
    command.add_argument("--base", type=Path, metavar="DIR", help="folder of a base model; only its spec.json is read")
    command.add_argument("--model", choices=_MODELS, default=_MODELS[0], help="without --base (default: %(default)s)")
    command.add_argument("--rank", type=int, default=8, help="of the adapters (default 8)")
    command.add_argument("--groups", nargs="+", default=["attention", "projector"], metavar="GROUP",
                         help="what is adapted: attention, projector, experts")
    command.add_argument("--length", type=int, nargs="+", default=list(_LENGTHS), metavar="TOKENS",
                         help="tokens of a row, those of its images included")
    command.add_argument("--json", action="store_true", help="print JSON instead of text")
    command.set_defaults(command=_plan)


def _plan(arguments: argparse.Namespace) -> int:
    found = facts(arguments)
    print(json.dumps(found) if arguments.json else _text(found))
    return 0 if found["longest_row"] else 1


def facts(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything as JSON values; bytes and tokens."""
    from dataclasses import asdict

    from model.memory_plan import most_tokens, parse_bytes, plan, table
    from model.spec import LoraSpec

    spec, free = _spec(arguments), parse_bytes(arguments.gpu)
    lora = LoraSpec(rank=arguments.rank, alpha=2 * arguments.rank, groups=tuple(arguments.groups))
    if "experts" in lora.groups and spec.experts == "mxfp4":
        raise ValueError("plan-memory: packed experts carry no adapter; leave experts out of --groups")
    longest = most_tokens(spec, lora, free)
    return {
        "model": spec.name, "gpu_bytes": free, "rank": lora.rank, "groups": list(lora.groups),
        "tokens_per_tile": spec.tokens_per_tile, "longest_row": longest,
        "of_longest": asdict(plan(spec, lora, length=max(1, longest))),
        "rows": table(spec, lora, free, arguments.length)}


def _spec(arguments: argparse.Namespace) -> Any:
    from model.spec import MEDGPT_OSS_20B, MEDGPT_OSS_20B_PACKED, TINY, ModelSpec

    if arguments.base is None:
        return dict(zip(_MODELS, (MEDGPT_OSS_20B_PACKED, MEDGPT_OSS_20B, TINY), strict=True))[arguments.model]
    path = arguments.base / "spec.json"
    if not path.is_file():
        raise ValueError(f"plan-memory: {arguments.base} holds no spec.json; name the folder of a base model")
    return ModelSpec.read(path)


def _text(found: dict[str, Any]) -> str:
    gib = float(1 << 30)
    parts = found["of_longest"]
    fixed = sum(parts[name] for name in ("adapters", "gradients", "workspace", "context"))
    lines = [
        f"{found['model']} on a card of {found['gpu_bytes'] / gib:.2f} GiB, adapters of rank {found['rank']} on "
        + ", ".join(found["groups"]),
        f"weights {parts['weights'] / gib:.2f} GiB, fixed otherwise {fixed / gib:.2f} GiB; the rest grows with tokens",
        "",
        f"{'tokens of a row':>16}  {'tiles it can hold':>17}  {'one row needs':>13}  {'rows at once':>12}"]
    lines += [
        f"{row['length']:>16,}  {row['tiles']:>17}  {row['bytes'] / gib:>9.2f} GiB  "
        f"{row['rows'] if row['rows'] else 'none':>12}" for row in found["rows"]]
    if not found["longest_row"]:
        return "\n".join([*lines, "", "nothing fits: the weights alone need more; take a larger card or a packed base"])
    return "\n".join([
        *lines, "",
        f"longest row that fits: {found['longest_row']:,} tokens ({found['tokens_per_tile']} an image tile); "
        "`microbatch_tokens` in the site file is at most that (0: the site takes what its card has room for)"])
