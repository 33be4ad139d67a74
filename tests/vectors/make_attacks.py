"""Plays every attack and rewrites the table in docs/attacks.md. Run: python tests/vectors/make_attacks.py"""

from __future__ import annotations

from pathlib import Path

from simulations.adversaries.attack import judge
from simulations.adversaries.catalogue import ATTACKS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "attacks.md"


def row(name: str) -> str:
    """One line of the table. Raises RuntimeError for an attack that works: the page promises that none does."""
    attack = ATTACKS[name]
    verdict = judge(attack)
    if not (verdict.failed and verdict.as_expected):
        raise RuntimeError(f"{name} does not fail as it should; see `simulate attack {name}`")
    code, blamed = attack.expected or ("none needed", "-")
    sums = [known.split(": ", 1)[1] for known in verdict.findings.sums]
    cells = (f"`{name}`", attack.gain, attack.defence, f"`{code}`", blamed, "yes" if attack.weakness else "no",
             "; ".join(sums) or "nothing")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Replace the rows; the text around them stays."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("| `"))
    others = [line for line in lines[first:] if not line.startswith("| `")]
    PAGE.write_text("\n".join([*lines[:first], *(row(name) for name in ATTACKS), *others]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
