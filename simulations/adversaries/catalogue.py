"""Every attack, by name."""

from __future__ import annotations

from simulations.adversaries.attack import Attack
from simulations.adversaries.cohorts import COHORT_ATTACKS
from simulations.adversaries.liars import LIAR_ATTACKS
from simulations.adversaries.lists import LIST_ATTACKS
from simulations.adversaries.malformed import MALFORMED_ATTACKS
from simulations.adversaries.replays import REPLAY_ATTACKS
from simulations.adversaries.results import RESULT_ATTACKS
from simulations.adversaries.rosters import ROSTER_ATTACKS
from simulations.adversaries.seeds import SEED_ATTACKS
from simulations.adversaries.suites import SUITE_ATTACKS
from simulations.adversaries.sums import SUM_ATTACKS
from simulations.adversaries.watching import WATCHING_ATTACKS

__all__ = ["ATTACKS"]

_ALL: tuple[type[Attack], ...] = (
    *SEED_ATTACKS, *LIST_ATTACKS, *REPLAY_ATTACKS, *RESULT_ATTACKS, *COHORT_ATTACKS, *SUM_ATTACKS, *SUITE_ATTACKS,
    *ROSTER_ATTACKS, *WATCHING_ATTACKS, *LIAR_ATTACKS, *MALFORMED_ATTACKS)

#: name -> attack, in the order in which `simulate attack all` plays them
ATTACKS: dict[str, type[Attack]] = {attack.name: attack for attack in _ALL}
