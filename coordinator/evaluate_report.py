"""What an evaluation found: measures with intervals and the difference that an adapter makes, as values and a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from model.answer_metrics import LOWER_IS_BETTER, PER_OBSERVATION, Score, score
from model.benchmarks.items import Item
from model.intervals import Interval, ratio_difference, ratio_interval

__all__ = ["NOTE", "measures_of", "table_of"]

NOTE = "research use only, not for clinical decisions"
_SIDES = ("base", "adapted")
_NO_TERMS = (0.0, 0.0)

Answers = Mapping[str, Mapping[str, Any]]


def measures_of(items: Sequence[Item], answers: Answers, adapted: bool) -> dict[str, dict[str, Any]]:
    """Measure -> its number of questions and, for each side and their difference, estimate, low and high (95 %).

    Groups of questions are resampled, the same ones on both sides. A side on which a measure counts nothing is None.
    """
    sides = _SIDES if adapted else _SIDES[:1]
    scores = {side: [score(item, str(answers[item.key][side])) for item in items] for side in sides}
    names = list(dict.fromkeys(name for item_scores in scores["base"] for name in item_scores))
    return {name: measure for name in names if (measure := _measure(name, items, scores))["questions"]}


def _measure(name: str, items: Sequence[Item], scores: Mapping[str, Sequence[Score]]) -> dict[str, Any]:
    used = [number for number, item_scores in enumerate(scores["base"]) if name in item_scores]
    groups = [items[number].group for number in used]
    terms = {side: ([table[number].get(name, _NO_TERMS)[0] for number in used],
                    [table[number].get(name, _NO_TERMS)[1] for number in used]) for side, table in scores.items()}
    found: dict[str, Any] = {side: _interval(*pair, groups) for side, pair in terms.items()}
    if all(found.get(side) for side in _SIDES):
        found["difference"] = ratio_difference(terms["adapted"], terms["base"], groups)
    counted = sum(any(pair[1][number] > 0 for pair in terms.values()) for number in range(len(used)))
    return {"questions": counted, "groups": len(set(groups)), "lower_is_better": name in LOWER_IS_BETTER, **found}


def _interval(numerators: Sequence[float], denominators: Sequence[float], groups: Sequence[str]) -> Interval | None:
    return ratio_interval(numerators, denominators, groups) if sum(denominators) else None


def table_of(facts: Mapping[str, Any]) -> str:
    """The result in words and a table."""
    base, adapter, measures = facts["base_model"], facts["adapter"], facts["measures"]
    split, groups = facts["config"]["split"], facts["groups"]
    lines = [
        NOTE.upper(),
        f"{facts['benchmark']}: {facts['asked']} of {facts['available']} questions of the split {split}, "
        f"{groups} patients, pictures or videos",
        f"base      {base['name']}, content hash {base['content_hash']}, on {facts['device']}",
        f"adapter   {'none' if adapter is None else adapter['folder'] + ', ' + adapter['hash'][:16]}", ""]
    width = max(len(name) for name in measures)
    columns = ["base", *(["with adapter", "difference"] if adapter else [])]
    lines.append(f"{'':<{width}}{'questions':>11}" + "".join(f"{title:>24}" for title in columns))
    for name, measure in measures.items():
        sides = ["base", *(["adapted", "difference"] if adapter else [])]
        cells = "".join(f"{_cell(measure.get(side), signed=side == 'difference'):>24}" for side in sides)
        lines.append(f"{name:<{width}}{measure['questions']:>11}{cells}")
    return "\n".join([*lines, "", *_remarks(facts)])


def _cell(interval: Interval | None, *, signed: bool) -> str:
    if interval is None:
        return "-"
    estimate, low, high = (100 * value for value in interval)
    return f"{estimate:+.1f} [{low:+.1f}, {high:+.1f}]" if signed else f"{estimate:.1f} [{low:.1f}, {high:.1f}]"


def _remarks(facts: Mapping[str, Any]) -> list[str]:
    lines = ["percent, with 95 % intervals of the bootstrap over whole patients, pictures or videos (4000 draws)"]
    if facts["groups"] < 20:
        lines.append(f"only {facts['groups']} groups: the intervals are too narrow to rest anything on")
    if any(name in LOWER_IS_BETTER for name in facts["measures"]):
        lines.append("malformed answers count as wrong; of them, fewer are better")
    if any(name.startswith(PER_OBSERVATION) for name in facts["measures"]):
        lines.append("findings are labelled by short term lists (docs/evaluation.md); rare ones say little alone")
    for side, count in facts["cut_answers"].items():
        if count:
            lines.append(f"{count} answers ({side}) had not ended after {facts['config']['max_new_tokens']} tokens")
    if facts["truncated_questions"]:
        lines.append(f"{facts['truncated_questions']} questions lost their beginning: they did not fit")
    if facts["too_long_questions"]:
        lines.append(f"{facts['too_long_questions']} questions were not asked and count as wrong: their pictures alone "
                     "are longer than the model's context")
    return lines
