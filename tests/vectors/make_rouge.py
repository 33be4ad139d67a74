"""Known answers of ROUGE-L from the `rouge-score` package: `python -m tests.vectors.make_rouge` writes rouge.json.

rouge-score 0.1.2 is needed for this script only (pip install rouge-score==0.1.2). The sentences are made up of a fixed
list of words by a seeded generator, with punctuation, digits and capitals.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

WORDS = (  # noqa: SIM905
    "no acute cardiopulmonary abnormality the heart is normal in size lungs are clear small left pleural effusion "
    "right-sided opacity, 2.5 cm nodule; T-spine (stable) Cardiomegaly without pneumothorax/edema don't changed x-ray "
    "β-blocker 37°C"
).split()


def sentence(generator: random.Random) -> str:
    """0 to 24 words, now and then a full stop."""
    count = generator.randrange(25)
    return " ".join(generator.choice(WORDS) + generator.choice(["", "", "", "."]) for _ in range(count))


def main() -> None:
    """Write 120 pairs of texts with their F of `rougeL`, half of them sharing words on purpose."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer, generator, rows = RougeScorer(["rougeL"], use_stemmer=False), random.Random(0), []
    for number in range(120):
        reference = sentence(generator)
        words = reference.split()
        candidate = sentence(generator) if number % 2 else " ".join(w for w in words if generator.random() < 0.7)
        rows.append([reference, candidate, scorer.score(reference, candidate)["rougeL"].fmeasure])
    text = json.dumps({"rouge_score": "0.1.2", "pairs": rows}, ensure_ascii=False, indent=0)
    (Path(__file__).parent / "rouge.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
