"""`report.html`: one self-contained page (no script, no request) with plots drawn as SVG."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from simulations.report_text import KIND_TITLES, percent

__all__ = ["render_page"]

STYLE = """
:root { --ink:#1b2733; --soft:#5a6b7b; --line:#d7dfe6; --back:#ffffff; --note:#fff6e0; }
@media (prefers-color-scheme: dark) {
  :root { --ink:#e6edf3; --soft:#9fb0c0; --line:#33424f; --back:#10171e; --note:#3a3119; }
  img { background:#fff; border-radius:6px; } }
body { font:16px/1.5 system-ui, sans-serif; color:var(--ink); background:var(--back);
       max-width:1100px; margin:2rem auto; padding:0 1rem; }
h1 { font-size:1.6rem; margin-bottom:.2rem; } h2 { font-size:1.15rem; margin-top:2.2rem; }
p.lead { color:var(--soft); margin-top:0; } .note { background:var(--note); padding:.7rem 1rem; border-radius:6px; }
.scroll { overflow-x:auto; } table { border-collapse:collapse; width:100%; font-size:.93rem; }
th, td { text-align:right; padding:.35rem .6rem; border-bottom:1px solid var(--line); vertical-align:top; }
th:first-child, td:first-child, .text td, .text th { text-align:left; }
td small { color:var(--soft); display:block; } tr.ours td { font-weight:600; }
svg { max-width:100%; height:auto; } code { font-size:.85em; }
"""
INK = {"federated": "#7a8794", "federated-dp": "#0b6e99", "federated-distributed": "#c8553d"}
SITE_INKS = ("#0b6e99", "#c8553d", "#5b8c5a", "#8a5a9e", "#b08900", "#4a4e69")


def render_page(facts: Mapping[str, Any]) -> str:
    """The page as text; `facts` is the content of `report.json`."""
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width, initial-scale=1'>",
        f"<title>{_e(facts['name'])}: federated report</title><style>{STYLE}</style></head><body>",
        f"<h1>{_e(facts['name'])}</h1><p class=lead>{_e(_lead(facts))}</p>",
        f"<p class=note>{_e(facts['not_private'])}</p>",
        "<h2>Accuracy on patients that no training saw</h2>", _table(facts), _plots(facts),
        "<h2>Privacy</h2>", _privacy(facts), "<h2>The same question, before and after</h2>", _samples(facts),
        "<h2>Run</h2>", _run(facts), "</body></html>",
    ]
    return "\n".join(parts)


def _e(value: object) -> str:
    return html.escape(str(value))


def _lead(facts: Mapping[str, Any]) -> str:
    sites = facts["declared_patients"]
    return (f"{len(sites)} hospitals, {sum(sites.values())} declared patients, engine {facts['engine']}, "
            f"seed {facts['seed']}, {facts['seconds']:.0f} s")


def _table(facts: Mapping[str, Any]) -> str:
    kinds = [kind for kind in KIND_TITLES if any(kind in row["accuracy"] for row in facts["rows"])]
    head = "".join(f"<th>{_e(KIND_TITLES[kind])}</th>" for kind in kinds)
    lines = []
    for row in facts["rows"]:
        cells = "".join(f"<td>{_accuracy(row, kind)}</td>" for kind in kinds)
        epsilon = f"{max(row['epsilon'].values()):.2f}" if row["epsilon"] else "&ndash;"
        sent = f"{row['bytes_from_sites'] / 1e6:.1f} MB" if row["bytes_from_sites"] else "&ndash;"
        ours = " class=ours" if row["name"] == "federated-dp" else ""
        lines.append(f"<tr{ours}><td>{_e(row['name'])}</td>{cells}<td>{epsilon}</td><td>{sent}</td>"
                     f"<td>{row['seconds']:.0f}</td></tr>")
    return (f"<div class=scroll><table><thead><tr><th>row</th>{head}<th>epsilon</th><th>sent by sites</th>"
            f"<th>seconds</th></tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
            "<p class=lead>95% intervals by bootstrap over patients; below, the difference to the base on the "
            "same questions. <b>pooled</b> and <b>alone</b> exist in simulation only.</p>")


def _accuracy(row: Mapping[str, Any], kind: str) -> str:
    if kind not in row["accuracy"]:
        return "&ndash;"
    text = _e(percent(row["accuracy"][kind]))
    if kind in row["gain_over_base"]:
        gain, low, high = (100 * value for value in row["gain_over_base"][kind])
        text += f"<small>{gain:+.1f} [{low:+.1f}, {high:+.1f}]</small>"
    return text


def _privacy(facts: Mapping[str, Any]) -> str:
    if not facts["privacy"]:
        return "<p>No row of this run used differential privacy.</p>"
    lines = "".join(
        f"<tr><td>{_e(site)}</td><td>{facts['declared_patients'][site]}</td><td>{values['epsilon']:.3f}</td>"
        f"<td>{values['delta']:.1e}</td></tr>" for site, values in facts["privacy"].items())
    stages = "".join(
        f"<tr><td>{_e(stage['name'])}</td><td>{_e(', '.join(stage['groups']))}</td><td>{stage['rounds']}</td>"
        f"<td>{stage['local_steps']}</td><td>{stage['sampling_rate']:g}</td><td>{stage['noise_multiplier']:.3f}</td></tr>"
        for stage in (facts["manifest"] or {"stages": []})["stages"])
    return (
        "<p>Unit: the patient; add or remove one patient of one site; Poisson sampling; one clip for each patient. "
        "Epsilon is computed from each site's own ledger (PLD accountant).</p>"
        f"<p>Privacy audit: {_e(facts['audit'])}.</p>"
        "<div class=scroll><table><thead><tr><th>site</th><th>declared patients</th><th>epsilon</th><th>delta</th>"
        f"</tr></thead><tbody>{lines}</tbody></table></div>"
        "<div class=scroll><table><thead><tr><th>stage</th><th>trained</th><th>rounds</th><th>steps a round</th>"
        f"<th>sampling rate</th><th>noise multiplier</th></tr></thead><tbody>{stages}</tbody></table></div>")


def _samples(facts: Mapping[str, Any]) -> str:
    if not facts["samples"]:
        return "<p>No base row in this run.</p>"
    known = ("base", "federated", "federated-dp", "federated-distributed")
    columns = [name for name in known if name in facts["samples"][0]]
    lines = "".join(
        f"<tr><td>{_e(sample['question'][:400])}</td><td>{_e(sample['truth'])}</td>"
        + "".join(f"<td>{_e(sample[name])}</td>" for name in columns) + "</tr>" for sample in facts["samples"])
    head = "".join(f"<th>{_e(name)}</th>" for name in columns)
    return (f"<div class='scroll text'><table><thead><tr><th>question</th><th>truth</th>{head}</tr></thead>"
            f"<tbody>{lines}</tbody></table></div>")


def _run(facts: Mapping[str, Any]) -> str:
    rounds = facts["rounds"].get("federated-dp") or facts["rounds"].get("federated") or []
    lines = "".join(
        f"<tr><td>{entry['round']}</td><td>{_e(entry['stage_name'])}</td><td>{_e(entry['factor'])}</td>"
        f"<td>{len(entry['invited'])}</td><td>{len(entry['started'])}</td><td>{len(entry['masked'])}</td>"
        f"<td>{len(entry['summed'])}</td>"
        f"<td>{_e('; '.join(f'{site}: {why}' for site, why in entry['missing'].items())) or '&ndash;'}</td>"
        f"<td>{entry['seconds']:.1f}</td></tr>" for entry in rounds)
    return ("<div class=scroll><table><thead><tr><th>round</th><th>stage</th><th>factor</th><th>invited</th>"
            "<th>started</th><th>masked</th><th>summed</th><th>missing</th><th>seconds</th></tr></thead>"
            f"<tbody>{lines}</tbody></table></div><p>Base model <code>{_e(facts['base_model'])}</code>. "
            f"Adapter: <code>{_e(facts['adapter'] or 'none')}</code>.</p>")


def _plots(facts: Mapping[str, Any]) -> str:
    """Loss and accuracy a round, epsilon a site, bytes a round: one SVG."""
    rounds = {name: entries for name, entries in facts["rounds"].items() if entries}
    if not rounds:
        return ""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"svg.hashsalt": "report", "font.size": 9, "axes.spines.top": False,
                            "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25})
    figure, axes = pyplot.subplots(2, 2, figsize=(10.5, 6.4), constrained_layout=True)
    _plot_loss(axes[0][0], rounds)
    _plot_accuracy(axes[0][1], rounds)
    _plot_epsilon(axes[1][0], facts["privacy"])
    _plot_bytes(axes[1][1], rounds)
    for axis in (axes[0][0], axes[0][1], axes[1][0], axes[1][1]):
        axis.set_xlabel("round")
    _mark_stages((axes[0][0], axes[0][1]), next(iter(rounds.values())))
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    text = buffer.getvalue()
    return ("<h2>Rounds</h2><figure role=img aria-label='Loss, accuracy, epsilon and bytes for each round'>"
            + text[text.index("<svg"):] + "</figure>")


def _plot_loss(axis: Any, rounds: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    axis.set_title("mean loss of the drawn patients, as released (nats)")
    for name, entries in rounds.items():
        points = [(entry["round"], entry["mean_loss"]) for entry in entries if entry["mean_loss"] is not None]
        if points:
            axis.plot(*zip(*points, strict=True), marker="o", ms=3.5, color=INK.get(name), label=name)
    axis.legend(frameon=False)


def _plot_accuracy(axis: Any, rounds: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    axis.set_title("accuracy on public questions")
    marks = dict(zip(KIND_TITLES, ("-", "--", ":"), strict=True))
    for name, entries in rounds.items():
        for kind, mark in marks.items():
            points = [(entry["round"], 100 * entry["public"][f"accuracy_{kind}"]) for entry in entries
                      if f"accuracy_{kind}" in entry["public"]]
            if points:
                axis.plot(*zip(*points, strict=True), mark, color=INK.get(name),
                          label=f"{name}: {KIND_TITLES[kind]}")
    axis.set_ylabel("%")
    axis.legend(frameon=False, fontsize=7)


def _plot_epsilon(axis: Any, privacy: Mapping[str, Mapping[str, Any]]) -> None:
    axis.set_title("epsilon spent, from each site's ledger")
    for (site, values), ink in zip(privacy.items(), SITE_INKS * 9, strict=False):
        curve = values["curve"]
        axis.step(values.get("curve_rounds", range(1, len(curve) + 1)), curve, where="post", color=ink, label=site)
    if privacy:
        axis.legend(frameon=False)


def _plot_bytes(axis: Any, rounds: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    axis.set_title("sent in a round, all sites together (kB)")
    name, entries = next(((n, e) for n, e in rounds.items() if n == "federated-dp"), next(iter(rounds.items())))
    numbers = [entry["round"] for entry in entries]
    axis.bar([n - 0.2 for n in numbers], [sum(e["bytes_from_sites"].values()) / 1e3 for e in entries], 0.4,
             color="#0b6e99", label=f"{name}: from sites")
    axis.bar([n + 0.2 for n in numbers], [sum(e["bytes_to_sites"].values()) / 1e3 for e in entries], 0.4,
             color="#b8c7d1", label="to sites")
    axis.legend(frameon=False)


def _mark_stages(axes: Sequence[Any], entries: Sequence[Mapping[str, Any]]) -> None:
    for before, after in pairwise(entries):
        if before["stage"] != after["stage"]:
            for axis in axes:
                axis.axvline(after["round"] - 0.5, color="#8a97a3", lw=0.8, ls="--")
    for axis in axes:
        for stage in sorted({entry["stage"] for entry in entries}):
            inside = [entry for entry in entries if entry["stage"] == stage]
            axis.annotate(inside[0]["stage_name"], (inside[0]["round"] - 0.4, 0.01), fontsize=7, color="#5a6b7b",
                          xycoords=("data", "axes fraction"))
