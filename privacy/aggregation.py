"""How sums are noised and how a sum becomes the next adapter: the manifest's part on it, and the numbers that follow.

*Guarantees.* `check_distributed` lets no manifest ask for distributed noise together with what its accounting does not
cover: several local steps on one site's share of noise, a private quantile, weights, a ring that saturates. `sum_terms`
is a function of the manifest and of who is in the sum; both sides compute it and nobody sends it. With the weights that
`weights_follow` asks for, no coordinator can make the other sites of a sum weigh nothing, so that it is one site's.

*Assumes.* A site compares the shares with its own statement of trust (`site_client.trust`).

*Does not cover.* What the shares are worth (`privacy.dp.shares`), and the arithmetic of the step
(`model.server_optimizer`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from privacy.dp.shares import NoiseShare
from privacy.wire import Message, check_range

if TYPE_CHECKING:
    from privacy.identity import Roster
    from privacy.manifest import RunManifest

__all__ = [
    "DEFAULT_UPDATE", "DISTRIBUTED_BITS", "DistributedNoise", "ServerRule", "ServerUpdate", "SumTerms",
    "check_distributed", "fewest_survivors", "most_colluders", "share_of", "sum_terms", "weights_follow",
]

ServerRule = Literal["momentum", "adam", "adam-bc"]
DISTRIBUTED_BITS = 32
_LOWEST = 1e-12
_SAME = 1e-9  # of two weights, relative: what float64 divisions leave


@dataclass(frozen=True)
class DistributedNoise(Message):
    """Each site adds a share of the noise, and only a sum over `min_survivors` sites or more carries all of it.

    Args:
        min_survivors: fewest sites in a sum; with fewer the round is given up and nothing is opened.
        colluders: c, sites whose shares are not counted, since they would take them off the sum. A curious site alone
            is one; 0 covers outsiders only.
        levels: S, the L2 bound on a patient's vector of integers.
    """

    min_survivors: int
    colluders: int
    levels: int

    def check(self) -> None:
        check_range("distributed_noise.min_survivors", self.min_survivors, 2, 10**4)
        check_range("distributed_noise.colluders", self.colluders, 0, 10**4)
        check_range("distributed_noise.levels", self.levels, 1 << 12, 1 << 24)
        if self.colluders >= self.min_survivors:
            raise ValueError("distributed_noise.colluders leaves no honest site among min_survivors; raise the latter")

    @property
    def honest(self) -> int:
        """h: how many shares make up the noise that epsilon is computed with."""
        return self.min_survivors - self.colluders


@dataclass(frozen=True)
class ServerUpdate(Message):
    """How the sum becomes the next adapter; coordinator and sites compute it alike (`model.server_optimizer`).

    Args:
        learning_rate: of the step on the mean update; with distributed noise times the stage's own.
        momentum: of that step; for Adam the decay of the first moment.
        average_decay: of the average over rounds that is evaluated and exported; 0 = the last round's adapter.
        optimizer: "momentum", or with distributed noise also "adam", or "adam-bc" that takes the noise's known variance
            out of the second moment.
        second_decay: of Adam's second moment.
    """

    learning_rate: float = 1.0
    momentum: float = 0.0
    average_decay: float = 0.7
    optimizer: ServerRule = "momentum"
    second_decay: float = 0.999

    def check(self) -> None:
        check_range("server.learning_rate", self.learning_rate, _LOWEST, 1e6)
        check_range("server.momentum", self.momentum, 0.0, 0.9999)
        check_range("server.average_decay", self.average_decay, 0.0, 0.9999)
        check_range("server.second_decay", self.second_decay, 0.0, 0.999999)


DEFAULT_UPDATE = ServerUpdate()


@dataclass(frozen=True, slots=True)
class SumTerms:
    """What the server's step needs to know of one sum.

    Args:
        divisor: the sum over it is the mean update: the weights of the sites in the sum, or with distributed noise how
            many patients they draw in the mean.
        learning_rate: of the step.
        noise_variance: of one coordinate of the mean update, with the shares of all sites in the sum; 0 where the
            manifest does not fix it.
    """

    divisor: float
    learning_rate: float
    noise_variance: float


def check_distributed(manifest: RunManifest) -> None:
    """Raise ValueError for what cannot go together with the manifest's noise; the text names it and the fix."""
    noise = manifest.distributed_noise
    if noise is None:
        if manifest.server.optimizer != "momentum":
            raise ValueError("server.optimizer Adam needs distributed noise; set it to momentum")
        return
    if manifest.privacy == "none":
        raise ValueError('a run with privacy "none" has no noise to distribute; leave distributed_noise out')
    if manifest.bits != DISTRIBUTED_BITS:
        raise ValueError(f"distributed noise needs a ring of {DISTRIBUTED_BITS} bits, not {manifest.bits}")
    if noise.min_survivors > len(manifest.sites):
        raise ValueError(f"distributed_noise.min_survivors={noise.min_survivors} is more than the run's "
                         f"{len(manifest.sites)} sites")
    if any(stage.evaluation is not None for stage in manifest.stages):
        raise ValueError("an evaluation's noise is all added at the site, in a ring of its own, and cannot be mixed "
                         "with distributed noise; leave out evaluation, or use local noise")
    if any(terms.weight != 1.0 for terms in manifest.sites):
        raise ValueError("with distributed noise every site has weight 1: each patient counts the same in one sum")
    for stage in manifest.stages:
        if stage.local_steps != 1:
            raise ValueError(f"stage {stage.name} has {stage.local_steps} local steps; with distributed noise a site's "
                             "own share of it is all that its second step would see: set local_steps to 1")
        if stage.momentum != 0 or stage.optimizer != "sgd":
            raise ValueError(f"stage {stage.name} has an optimiser at the sites; with distributed noise it is the "
                             "server's: set momentum 0 and optimizer sgd, and use server.momentum or server.optimizer")
        if stage.adaptive_clip is not None:
            raise ValueError(f"stage {stage.name} has an adaptive clip, which needs noise at the site; leave it out")


def weights_follow(manifest: RunManifest, roster: Roster) -> bool:
    """Whether the sites of a run count as the signed roster has them: each with its declared patients, and weights in
    the ratio of these, or all the same.

    A weight is chosen by the coordinator alone. With one of 1 and the others of 1e-9 the rounded sum would hold one
    site's update and nothing else, whatever the cohort's size.
    """
    first = manifest.sites[0]
    declared = all(terms.site_id in roster.site_ids
                   and terms.declared_patients == roster.site(terms.site_id).declared_patients
                   for terms in manifest.sites)
    shares = all(math.isclose(terms.weight * first.declared_patients, first.weight * terms.declared_patients,
                              rel_tol=_SAME) for terms in manifest.sites)
    return declared and (shares or all(terms.weight == first.weight for terms in manifest.sites))


def share_of(manifest: RunManifest, stage: int, dimension: int) -> NoiseShare | None:
    """A site's share in a round of `stage` with a vector of `dimension` coordinates, lanes included; None without.

    Raises ValueError where the levels are too few for it.
    """
    noise = manifest.distributed_noise
    if noise is None:
        return None
    return NoiseShare(
        noise.levels, dimension, manifest.clip_norm, manifest.stages[stage].noise_multiplier, noise.honest)


def fewest_survivors(manifest: RunManifest) -> int:
    """Fewest sites that the run's noise needs in a sum, beside the roster's floor; 0 without distributed noise."""
    return 0 if manifest.distributed_noise is None else manifest.distributed_noise.min_survivors


def most_colluders(roster: Roster, manifest: RunManifest) -> int:
    """How many colluding sites the secure aggregation of this run withstands: the least 2 t - n - 1 of any cohort.

    With more, two survivor lists can be opened and a site's own upload with them (`privacy.secagg.client`).
    """
    cohorts = range(fewest_survivors(manifest), len(manifest.sites) + 1)
    return min((2 * roster.threshold(n) - n - 1 for n in cohorts), default=0)


def sum_terms(manifest: RunManifest, stage: int, dimension: int, sites: Iterable[str]) -> SumTerms:
    """Of a sum over `sites` (ascending) in a round of `stage` with vectors of `dimension` coordinates.

    Additions are done one by one in that order, so that every machine gets the same bits.
    """
    server, spec = manifest.server, manifest.stages[stage]
    share = share_of(manifest, stage, dimension)
    weight, count = 0.0, 0
    for site in sites:
        terms = manifest.terms(site)
        weight += terms.weight if share is None else spec.sampling_rate * terms.declared_patients
        count += 1
    if share is None:
        return SumTerms(weight, server.learning_rate, 0.0)
    spread = share.noise_std(count) / weight
    return SumTerms(weight, server.learning_rate * spec.learning_rate, spread * spread)
