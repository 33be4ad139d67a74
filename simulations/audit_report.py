"""What an audit leaves: `audit.json`, a picture of scores and tests, a text, and the table of planted faults."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from privacy.dp.audit import one_run_p_value

__all__ = ["as_expected", "fault_table", "text_of", "write_audits"]

Audit = Mapping[str, Any]
_GROUPS = {
    "one-run bound": ("one-run bound",),
    "contribution z": ("canary contribution",),
    "noise variance z": ("noise variance",),
    "noise repeated z": ("noise repeated",),
    "sampler z": ("draws in all", "spread of patients' counts", "spread of draw sizes",
                  "patients in consecutive steps"),
}


def as_expected(audits: Sequence[Audit]) -> bool:
    """The real mechanism passes and every planted fault is found; a lone fault that is found counts as refuted."""
    if len(audits) == 1:
        return bool(audits[0]["passed"])
    return all(audit["passed"] == (audit["fault"] is None) for audit in audits)


def write_audits(out: Path, audits: Sequence[Audit]) -> Path:
    """One folder: `audit.json` and `audit.png` of the real mechanism, `fault-NAME.*` of the others; returns it."""
    out.mkdir(parents=True, exist_ok=True)
    for audit in audits:
        stem = "audit" if audit["fault"] is None else f"fault-{audit['fault']}"
        partial = out / f"{stem}.partial"
        partial.write_text(json.dumps(audit, indent=1), encoding="utf-8")
        partial.replace(out / f"{stem}.json")
        _plot(audit, out / f"{stem}.png")
    if len(audits) > 1:
        (out / "faults.md").write_text(fault_table(audits) + "\n", encoding="utf-8")
    return out


def text_of(audits: Sequence[Audit], out: Path) -> str:
    """What the command prints: one audit in full, or the table of several."""
    body = _text(audits[0]) if len(audits) == 1 else fault_table(audits)
    return f"{body}\nresult: {out}"


def _text(audit: Audit) -> str:
    name = audit["fault"] or "the site's own mechanism"
    lines = [f"{audit['name']}, {name}: {'PASS' if audit['passed'] else 'REFUTED'} in {audit['seconds']:.0f} s",
             audit["meaning"], f"each of {len(audit['tests'])} tests rejects below p = {audit['level']:.2g}"]
    if audit["simulated_entropy"]:
        lines.append("repeatable randomness: this is no audit, and no export may name it")
    for stage in audit["stages"]:
        lines.append(
            f"{stage['stage']}: {stage['steps']} steps, rate {stage['sampling_rate']:g}, noise "
            f"{stage['noise_multiplier']:.3f}; one-run audit over the first {stage['bound_steps']}, claimed epsilon "
            f"{stage['bound_claimed_epsilon']:.2f}, {stage['correct']} of {stage['guesses']} guesses right, "
            f"{_power(audit, stage)}")
    for test in audit["tests"]:
        lines.append(f"  {'REJECT' if test['rejects'] else 'ok':<7}{test['stage']:<14}{test['name']:<31}"
                     f"{test['value']:>10.3f} {test['unit']:<17} p = {test['p_value']:.2g}")
    return "\n".join(lines)


def _power(audit: Audit, stage: Audit) -> str:
    """Whether the one-run bound could refute this claim at all."""
    best = one_run_p_value(stage["canaries"], stage["guesses"], stage["guesses"], stage["bound_claimed_epsilon"],
                           audit["delta"])
    return "which could refute the claim" if best < audit["level"] else "too few to refute this claim in any case"


def fault_table(audits: Sequence[Audit]) -> str:
    """Markdown: a line an audit; each cell the stage with the smallest p-value, bold where it rejects."""
    lines = ["| mechanism | verdict | " + " | ".join(_GROUPS) + " | seconds |",
             "|---|---|" + "---|" * (len(_GROUPS) + 1)]
    for audit in audits:
        cells = [_cell(audit, names) for names in _GROUPS.values()]
        verdict = "pass" if audit["passed"] else "REFUTED"
        lines.append(f"| {audit['fault'] or 'correct'} | {verdict} | " + " | ".join(cells)
                     + f" | {audit['seconds']:.0f} |")
    return "\n".join(lines)


def _cell(audit: Audit, names: Sequence[str]) -> str:
    tests = [test for test in audit["tests"] if test["name"] in names]
    worst = max(tests, key=lambda test: (test["rejects"], -test["p_value"], abs(test["value"])))
    text = f"{worst['value']:.2f}" if worst["unit"] != "z" else f"{worst['value']:+.1f}"
    return f"**{text}**" if worst["rejects"] else text


def _plot(audit: Audit, path: Path) -> None:
    """Canary scores in and out by stage, and every test's p-value against the level."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    stages = audit["stages"]
    figure, axes = pyplot.subplots(1, len(stages) + 1, figsize=(4 * len(stages) + 5, 4.6), constrained_layout=True)
    for axis, stage in zip(axes, stages, strict=False):
        both = [stage["scores_out"], stage["scores_in"]]
        axis.hist(both, bins=30, color=["#9aa5b1", "#0b6e99"], label=["left out", "in the data"], log=True)
        axis.set_title(f"{stage['stage']}: canary scores", fontsize=10)
        axis.set_xlabel("log-likelihood ratio")
        axis.set_ylabel("canaries")
        axis.legend(frameon=False)
    axis, tests = axes[-1], audit["tests"]
    floor = audit["level"] ** 4
    heights = [max(test["p_value"], floor) for test in tests]
    axis.scatter(heights, range(len(tests)), color=["#c8553d" if test["rejects"] else "#0b6e99" for test in tests])
    axis.axvline(audit["level"], color="#c8553d", lw=1, ls="--")
    axis.set_xscale("log")
    axis.set_xlabel("p-value; dashed: level of one test")
    axis.set_yticks(range(len(tests)), [f"{test['stage']}: {test['name']}" for test in tests], fontsize=6)
    axis.set_title("passed: nothing refuted" if audit["passed"] else "refuted", fontsize=10)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
