"""What N patients have to spend for a mean gradient as quiet as that of the report patients.

For each number of patients with a source, the noise multiplier is set so that the noise on the mean gradient over all
sites, sigma C sqrt(S) / (q N), equals the one that the report patients get in the instruction stage; epsilon is then
that of the given stage alone, with its own sampling rate and steps. No training, no data: accounting only.

    python -m simulations.studies.patients --stage multi-image
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

from configs.load import load_config
from configs.schema import CurriculumConfig
from coordinator.manifest import solve_noise
from privacy.dp.accounting import ReleaseEvent, epsilon

__all__ = ["main", "needed_epsilon"]


def needed_epsilon(
    *, patients: int, reference_patients: int, reference_noise: float, reference_rate: float, sampling_rate: float,
    steps: int, delta: float,
) -> tuple[float, float]:
    """(noise multiplier, epsilon at delta) that give `patients` the reference's noise on the mean gradient."""
    noise = reference_noise * (sampling_rate * patients) / (reference_rate * reference_patients)
    return noise, epsilon([ReleaseEvent(sampling_rate, noise, steps)], delta)


def main(argv: Sequence[str] | None = None) -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curriculum", default="curriculum/three-stage.yaml")
    parser.add_argument("--stage", default="multi-image", help="stage that the patients feed")
    parser.add_argument("--reference", default="instruction", help="stage whose quietness is asked for")
    parser.add_argument("--reference-patients", type=int, default=2419)
    parser.add_argument("--patients", type=int, nargs="+", default=[119, 250, 500, 1000, 2419, 5000])
    parser.add_argument("--epsilon", type=float, default=8.0)
    parser.add_argument("--delta", type=float, default=1e-5)
    arguments = parser.parse_args(argv)
    curriculum = load_config(CurriculumConfig, arguments.curriculum)
    noises = solve_noise(curriculum, arguments.epsilon, arguments.delta)
    stages = {stage.name: (stage, noise) for stage, noise in zip(curriculum.stages, noises, strict=True)}
    (stage, _), (reference, noise) = stages[arguments.stage], stages[arguments.reference]
    print(f"| patients with the source | noise multiplier | epsilon of the stage {stage.name} alone |\n|---|---|---|")
    for patients in arguments.patients:
        multiplier, spent = needed_epsilon(
            patients=patients, reference_patients=arguments.reference_patients, reference_noise=noise,
            reference_rate=reference.sampling_rate, sampling_rate=stage.sampling_rate,
            steps=stage.local_steps * stage.rounds, delta=arguments.delta)
        text = f"{spent:.2f}" if math.isfinite(spent) and spent < 1000 else f"{spent:.0f}"
        print(f"| {patients} | {multiplier:.3f} | {text} |")


if __name__ == "__main__":
    main()
