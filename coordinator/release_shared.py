"""What a release says of a run whose noise was shared out among its sites: weaker assumptions would be untrue."""

from __future__ import annotations

from typing import Any

from privacy.manifest import RunManifest

__all__ = ["shared_words"]


def shared_words(manifest: RunManifest) -> dict[str, Any]:
    """Trust model, mechanism and the part of secure aggregation; {} where each site added all of its noise itself."""
    noise = manifest.distributed_noise
    if noise is None:
        return {}
    return {
        "trust_model": (
            f"Distributed noise: each site adds a share, and only a sum over {noise.min_survivors} sites or more "
            "carries the noise that epsilon is of. The bound holds against the coordinator together with "
            f"{noise.colluders} colluding sites, and against every reader of this release, who sees more noise. It "
            f"rests on secure aggregation, and on {noise.honest} sites of a smallest sum adding their shares, which "
            "nobody can check: a site that adds none is not found out. Each site's ledger also says what its own share "
            "alone is worth, which is much less."),
        "secure_aggregation": (
            "is part of this claim: the coordinator may see the sum only. Should it fail, a site has the guarantee of "
            "its own share alone."),
        "mechanism": (
            "DP-FedSGD, one secure sum a step: the gradient of each drawn patient is clipped to an L2 norm of "
            f"{manifest.clip_norm:g}, statistics included, scaled and rounded to integers of a norm of at most "
            f"{noise.levels:,}; each site adds discrete Gaussian noise, of which {noise.honest} shares together have "
            "the stage's noise_multiplier; accounted as the random rounding of a continuous Gaussian (gap below "
            "1e-60; the sampler's tables add less than 1e-17 to delta)"),
    }
