"""Several seeds of a simulation on impressions (`configs/simulations/smollm2.yaml`) as one table and one plot.

All seeds share hospitals and test patients; a seed is another draw of patients and noise. The result is one JSON of
numbers by test patient, numbered from 0: no text of a report and none that a model wrote. Table and plot are made from
it alone, so the committed one can be checked:

    python -m simulations.studies.impressions --out runs/smollm2 --seeds 1 2 3
    python -m simulations.studies.impressions --result docs/results/smollm2.json --page docs/results.md

The first command goes on where it stopped. The second writes the table between two marks of the page, and the plot.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from configs.load import load_config
from configs.schema import SimulationConfig
from model.intervals import Interval, ratio_difference, ratio_interval
from simulations.impression_report import MEASURES, Terms, joined, terms_of
from simulations.run import run_simulation

__all__ = ["gathered", "main", "plot", "table"]

_MARKS = ("<!-- smollm2: made by simulations.studies.impressions -->", "<!-- end of smollm2 -->")
_INKS = {"base": "#7a8794", "federated": "#0b6e99", "federated-dp": "#c8553d", "pooled": "#b08900"}
# Two-sided 95% quantiles of Student's t for 1 to 9 degrees of freedom.
_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing or read a result, print the table, write plot and page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/smollm2"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--config", default="configs/simulations/smollm2.yaml")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the file to change")
    parser.add_argument("--result", type=Path, help="a result to show instead of running anything")
    parser.add_argument("--page", type=Path, help="Markdown page to write the table into; the plot goes to images/")
    arguments = parser.parse_args(argv)
    if arguments.result is None:
        result = gathered(_run(arguments))
        (arguments.out / "smollm2.json").write_text(json.dumps(result) + "\n", encoding="utf-8")
    else:
        result = json.loads(arguments.result.read_text(encoding="utf-8"))
    text, picture = table(result), plot(result)
    if arguments.page is not None:
        _insert(arguments.page, text)
        (arguments.page.parent / "images" / "smollm2.png").write_bytes(picture)
    elif arguments.result is None:
        (arguments.out / "smollm2.png").write_bytes(picture)
    print(text)
    return 0


def _run(arguments: argparse.Namespace) -> dict[int, list[dict[str, Any]]]:
    """seed -> its rows (arm.json), trained now or found."""
    found = {}
    for seed in arguments.seeds:
        config = load_config(SimulationConfig, arguments.config, [*arguments.set, f"seed={seed}"])
        if found:  # the base is the same in every seed
            names = [name for name in config.arms.names if name != "base"]
            config = replace(config, arms=replace(config.arms, names=names))
        folder = arguments.out / f"seed-{seed}"
        run_simulation(config, folder, "in-process", Console())
        found[seed] = [json.loads((folder / "arms" / name / "arm.json").read_text(encoding="utf-8"))
                       for name in ("base", "pooled", "federated", "federated-dp")
                       if (folder / "arms" / name / "arm.json").is_file()]
    return found


def gathered(seeds: Mapping[int, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """The result: row -> seed -> numbers by test patient, with what the row cost. The base is the same in every seed.
    """
    rows: dict[str, dict[str, Any]] = {}
    for seed, arms in seeds.items():
        for arm in arms:
            if arm["name"] != "base" or "base" not in rows:
                rows.setdefault(arm["name"], {})[str(seed)] = _numbers(arm)
    return {"rows": rows}


def _numbers(arm: Mapping[str, Any]) -> dict[str, Any]:
    spent = [site["epsilon"] for site in arm.get("privacy", {}).values()]
    answers = {name: pairs for name, pairs in arm["answers"].items() if name in MEASURES}
    manifest = arm.get("manifest") or {}
    return {
        "patients": list(range(len(arm["patients"]))), "tokens": arm["tokens"],
        "loss": [round(value, 4) for value in arm["loss"]],
        "answers": {name: [[round(part, 4) for part in pair] for pair in pairs] for name, pairs in answers.items()},
        "epsilon": max(spent, default=None), "seconds": round(arm["seconds"]),
        "cpu_seconds": round(arm["cpu_seconds"]), "stages": manifest.get("stages", []),
        "declared_patients": manifest.get("declared_patients", {}), "clip_norm": manifest.get("clip_norm"),
    }


def table(result: Mapping[str, Any]) -> str:
    """Markdown: values over all seeds with intervals over patients, each seed's loss, and differences to the base."""
    rows = result["rows"]
    lines = [f"| row | {' | '.join(MEASURES)} | epsilon | CPU s a seed |", "|---" * (len(MEASURES) + 3) + "|"]
    for name, seeds in rows.items():
        cells = [_shown(ratio_interval(*joined(list(seeds.values()), measure))) for measure in MEASURES]
        spent = [one["epsilon"] for one in seeds.values() if one["epsilon"] is not None]
        cost = statistics.mean(one["cpu_seconds"] for one in seeds.values())
        shown = f"{max(spent):.2f}" if spent else "-" if name == "base" else "none"
        lines.append(f"| {name} | {' | '.join(cells)} | {shown} | {cost:.0f} |")
    lines += ["", f"| minus base | {' | '.join(MEASURES)} | loss, each seed | mean ± 95% over seeds |",
              "|---" * (len(MEASURES) + 3) + "|"]
    base = next(iter(rows["base"].values()))
    for name, seeds in rows.items():
        if name == "base":
            continue
        cells = [_shown(_minus(seeds, base, measure), "+") for measure in MEASURES]
        each = [_minus({"": one}, base, MEASURES[0])[0] for one in seeds.values()]
        spread = f"{statistics.mean(each):+.3f} ± {_half(each):.3f}" if len(each) > 1 else "one seed"
        lines.append(f"| {name} | {' | '.join(cells)} | {', '.join(f'{value:+.3f}' for value in each)} | {spread} |")
    return "\n".join(lines) + "\n"


def _minus(seeds: Mapping[str, Any], base: Mapping[str, Any], measure: str) -> Interval:
    """The mean over seeds minus the base on the same patients, resampled with all their values."""
    ours: Terms = joined(list(seeds.values()), measure)
    theirs: Terms = joined([base] * len(seeds), measure)
    return ratio_difference(ours[:2], theirs[:2], ours[2])


def _half(values: Sequence[float]) -> float:
    return _T[min(len(values) - 2, 8)] * statistics.stdev(values) / math.sqrt(len(values))


def _shown(interval: Interval, sign: str = "") -> str:
    estimate, low, high = interval
    return f"{estimate:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def plot(result: Mapping[str, Any]) -> bytes:
    """Every measure of every row with its interval over patients, one point a seed beside it; PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.8), layout="constrained")
    for axes, measure in zip(figure.subplots(1, len(MEASURES)), MEASURES, strict=True):
        for place, (name, seeds) in enumerate(result["rows"].items()):
            value, low, high = ratio_interval(*joined(list(seeds.values()), measure))
            ink = _INKS.get(name, "#333333")
            axes.errorbar([place], [value], yerr=[[value - low], [high - value]], fmt="o", color=ink, capsize=3)
            for one in seeds.values():
                parts = terms_of(one, measure)
                axes.plot([place + 0.25], [sum(parts[0]) / sum(parts[1])], "_", color=ink, markersize=8)
        axes.set_xticks(range(len(result["rows"])), list(result["rows"]), rotation=30, ha="right", fontsize=8)
        axes.set_title(measure, fontsize=9)
        axes.margins(x=0.3)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120, metadata={"Software": None})
    return stream.getvalue()


def _insert(page: Path, text: str) -> None:
    """Put the table between the page's two marks; ValueError where it has none."""
    content = page.read_text(encoding="utf-8")
    before, first, rest = content.partition(_MARKS[0])
    _, second, after = rest.partition(_MARKS[1])
    if not first or not second:
        raise ValueError(f"{page} lacks the marks {_MARKS[0]} and {_MARKS[1]}")
    page.write_text(f"{before}{first}\n{text}{second}{after}", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
