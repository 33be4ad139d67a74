"""The tables and goals of `docs/results.md` follow from the rows' files."""

from __future__ import annotations

from typing import Any

from simulations.studies.results import summarise


def row(right: int, *, privacy: bool = False) -> dict[str, Any]:
    """Ten patients a kind, the first `right` of them answered well."""
    test = {kind: {"correct": [int(n < right) for n in range(10)], "patients": [f"p{n}" for n in range(10)]}
            for kind in ("normal", "impression", "alike")}
    facts: dict[str, Any] = {"test": test, "seconds": 1.0, "rounds": [{"bytes_from_sites": {"a": 500_000}}] * 2}
    if privacy:
        facts["privacy"] = {"a": {"epsilon": 7.9, "delta": 1e-5}, "b": {"epsilon": 7.5, "delta": 1e-5}}
    return facts


def rows(base: int, federated: int, private: int) -> dict[str, Any]:
    return {"base": row(base), "pooled": row(federated), "federated": row(federated),
            "federated-dp": row(private, privacy=True)}


def test_goals_that_are_met_and_missed_are_told_apart() -> None:
    _, goals = summarise({0: rows(5, 9, 8), 1: rows(5, 9, 8)})
    assert [line for line, _ in goals] == [
        "goal normal-gain-points: 30.00 >= 8 ok", "goal normal-gap-points: 10.00 <= 6 short",
        "goal alike-share-of-gain: 0.75 >= 0.5 ok"]
    assert [met for _, met in goals] == [True, False, True]


def test_no_gain_without_privacy_leaves_the_share_short() -> None:
    _, goals = summarise({0: rows(8, 8, 8)})
    assert goals[-1] == ("goal alike-share-of-gain: nan >= 0.5 short", False)


def test_the_table_shows_each_seed_the_mean_and_paired_differences() -> None:
    text, _ = summarise({0: rows(5, 9, 8), 1: rows(7, 9, 8)})
    assert "| base | 50.0 | 70.0 | 60.0 ± " in text
    assert "- federated-dp minus base: +20.0 [" in text
    assert "| 0 | 7.900 | 1e-05 | 1.00 |" in text
