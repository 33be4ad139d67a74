"""One run of the utility study: deal the private patients to sites, train an arm, answer the test questions.

The mechanisms are the sites' own (`site_client.training`, `site_client.upload`), the noise is solved for the schedule
as a manifest's is, and the server's step is the coordinator's. Two things keep a run short: updates are added without
masks, which change no bit of a sum, and a step computes patients in batches, which a real site does not do (one
patient's part could depend on a batch-mate's by rounding, which is nothing for utility). Randomness is seeded: nothing
here is private.

Two things make arms comparable. The average that is tested remembers as many steps in every arm. And where every step
is a sum (pooled data, distributed noise), the arms of a seed draw the same patients in each step, as common random
numbers do: their paired difference is that of the noise, not of who was drawn.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from configs.load import load_config
from configs.schema import CurriculumConfig, PrivacyConfig, SharedNoiseConfig, SimulationConfig, StageConfig
from coordinator.curriculum import RoundSummary, position_after
from coordinator.manifest import build_manifest, planned_events
from model.adapted import AdaptedModel, open_adapted
from model.adapter import adapter_hash
from model.evaluate import evaluate
from model.example_file import by_kind, load_examples
from model.inputs import Encoded
from model.server_optimizer import ServerOptimizer, ServerState
from model.spec import LoraSpec
from privacy.aggregation import share_of, sum_terms
from privacy.dp.accounting import ReleaseEvent
from privacy.dp.discrete_gaussian import DiscreteGaussian
from privacy.dp.guarantees import guarantees
from privacy.identity import Roster, RosterSite, SigningKey
from privacy.messages import RunManifest
from privacy.secagg.quantize import dequantize_sum
from privacy.secagg.rings import ring_of
from privacy.statistics import LANES, lane_scale
from simulations.central import train_centrally
from simulations.materials import Materials, cache_folder, prepare, public_split
from simulations.plain_sums import train_by_plain_sums
from simulations.seeded import SeededEntropy, derived_secret
from simulations.studies.banded import BandedSites, coefficients, event_of, matched
from simulations.studies.batched import BatchedMechanism, CommonDraws
from simulations.studies.tuning import stand_in
from simulations.studies.utility_design import Cell
from site_client.mechanism import EncodedPatient, LocalTask
from site_client.sources.folder import read_folder
from site_client.upload import noised_share

__all__ = ["BANDS", "RATES", "STEPS", "Recipe", "deal", "public_losses", "run_cell"]

STEPS = 48
_LOCAL_STEPS = 8  # between two sums, where each site adds all of its noise itself
_KINDS = {"reports": "normal", "patches": "alike"}
_SAMPLES = {"reports": 1, "patches": 2}
_SAMPLING = {"reports": 0.08, "patches": 0.25}
_GROUPS = ["attention", "projector"]
_MOMENTUM = 0.5  # at the site with local noise, at the server else
_COLLUDERS = 1
_BY_ROUNDS = ("federated", "local", "banded")  # arms of several local steps a round
_MEMORY = 0.956  # of the average over steps; over rounds of eight it is 0.7, the default of a federation

BANDS = {1.0: 1, 3.0: 4, 8.0: 8}
"""Of correlated noise, by epsilon: of the divisors of a round's steps, those with the least error of the iterates. At
epsilon 1 that is one band, which is independent noise."""

# By task, arm and epsilon: the rate with the lowest loss on held-out public patients (`simulate study utility
# --tune`). Pooled private training and distributed noise differ by their noise only, so they share the rate with the
# lowest mean of both losses. Not tried: sites alone (they have the local rates), sites without privacy (they have the
# local rate of epsilon 8). Patches at epsilon 1 lie below what is tried, where distributed noise diverged at every
# rate.
RATES: dict[str, dict[str, dict[float, float]]] = {
    "reports": {
        "pooled": {0.0: 5.0}, "pooled-dp": {1.0: 5.0, 3.0: 5.0, 8.0: 5.0},
        "distributed": {1.0: 5.0, 3.0: 5.0, 8.0: 5.0}, "federated": {0.0: 5.0}, "local": {1.0: 2.5, 3.0: 2.5, 8.0: 5.0},
        "banded": {3.0: 2.5, 8.0: 5.0}, "alone-dp": {1.0: 2.5, 3.0: 2.5, 8.0: 5.0}},
    "patches": {
        "pooled": {0.0: 0.625}, "pooled-dp": {1.0: 0.15, 8.0: 0.625}, "distributed": {1.0: 0.15, 8.0: 0.625},
        "local": {1.0: 0.15, 8.0: 0.625}, "alone-dp": {1.0: 0.15, 8.0: 0.625}},
}


@dataclass(frozen=True)
class Recipe:
    """What a run shares with the others: the simulation file, and how many steps it makes."""

    config: SimulationConfig
    steps: int = STEPS

    @classmethod
    def of(cls, seed: int, steps: int = STEPS) -> Recipe:
        """The demonstration data of that seed."""
        return cls(load_config(SimulationConfig, "configs/simulations/demo.yaml", [f"data.seed={seed}"]), steps)


@lru_cache(maxsize=1)
def _materials(seed: int) -> Materials:
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "study.lock").open("w") as lock:  # runs at once make a seed's data and base once
        fcntl.flock(lock, fcntl.LOCK_EX)
        return prepare(Recipe.of(seed).config, lambda what, done, total: None)


@lru_cache(maxsize=1)
def _adapted(seed: int) -> AdaptedModel:
    """The seed's base with an adapter, which every run of that seed trains from its beginning."""
    lora = Recipe.of(seed).config.lora
    return open_adapted(str(_materials(seed).base_model),
                        LoraSpec(rank=lora.rank, alpha=lora.alpha, groups=tuple(lora.groups)))


@lru_cache(maxsize=2)
def _private(seed: int, task: str) -> list[EncodedPatient]:
    """The private patients of all hospitals that have the task's source, in a fixed order."""
    materials, adapted = _materials(seed), _adapted(seed)
    found: dict[str, EncodedPatient] = {}
    for site in sorted(materials.declared):
        for patient in read_folder(materials.hospitals / site, pseudonym_key=derived_secret(0, site)).patients:
            if samples := list(patient.examples.get(task, ())):
                found[patient.pseudonym] = {task: adapted.encode(samples)}
    return [found[name] for name in sorted(found)]


@lru_cache(maxsize=2)
def _questions(seed: int, task: str) -> list[Encoded]:
    """The test questions, about patients that no training saw."""
    return _adapted(seed).encode(by_kind(_materials(seed).test())[_KINDS[task]])


def run_cell(cell: Cell, recipe: Recipe, rate: float | None = None) -> dict[str, Any]:
    """Train and test; facts as plain JSON values. `rate`: instead of that of `RATES`."""
    begin, begin_cpu = time.monotonic(), time.process_time()
    adapted = _adapted(cell.seed)
    patients = _private(cell.seed, cell.task)
    rate = RATES[cell.task].get(cell.arm, {}).get(cell.epsilon, 0.0) if rate is None else rate
    facts: dict[str, Any] = {"cell": cell.name, "rate": rate, "patients": len(patients)}
    if cell.arm == "base":
        adapters = [adapted.initial]
    elif cell.arm == "alone-dp":
        adapters = [_train(adapted, own, replace(cell, arm="pooled-dp", sites=1), recipe, rate, facts, label=f"{site}")
                    for site, own in enumerate(deal(patients, cell))]
    else:
        adapters = [_train(adapted, patients, cell, recipe, rate, facts)]
    facts |= _tested(adapted, adapters, cell)
    return {**facts, "seconds": time.monotonic() - begin, "cpu_seconds": time.process_time() - begin_cpu}


def public_losses(cell: Cell, recipe: Recipe, rates: Sequence[float]) -> dict[float, float]:
    """Loss on held-out public patients after training on the other public ones, for each rate.

    The public patients are fewer than the private ones, so the noise is made smaller by as much: on the mean gradient
    it is then what the private run has (`simulations.studies.tuning`).
    """
    adapted = _adapted(cell.seed)
    public = stand_in(adapted, load_examples(public_split(recipe.config)), [cell.task], part=0)
    held_out = adapted.encode(public.held_out[_KINDS[cell.task]])
    part = len(public.train) / len(_private(cell.seed, cell.task))
    losses = {}
    for rate in rates:
        adapter = _train(adapted, public.train, cell, recipe, rate, {}, noise_part=part)
        adapted.write(adapter)
        losses[rate] = float(evaluate(adapted.model, held_out).loss)
    return losses


def deal(patients: Sequence[EncodedPatient], cell: Cell) -> list[list[EncodedPatient]]:
    """The patients over `cell.sites` sites: at random in equal parts, or sorted by answer in parts of sizes 4 to 1.

    One site has them in the order given."""
    if cell.sites == 1:
        return [list(patients)]
    order = np.random.default_rng([cell.seed, cell.sites, 11]).permutation(len(patients))
    if cell.split == "skewed":
        order = np.array(sorted(order.tolist(), key=lambda one: patients[one][cell.task][0].answer))
    sizes = np.ones(cell.sites) if cell.split == "even" else np.linspace(4, 1, cell.sites)
    cuts = np.rint(np.cumsum(sizes) / sizes.sum() * len(patients)).astype(int)
    return [[patients[one] for one in part.tolist()] for part in np.split(order, cuts[:-1])]


def _train(
    adapted: AdaptedModel, patients: Sequence[EncodedPatient], cell: Cell, recipe: Recipe, rate: float,
    facts: dict[str, Any], *, noise_part: float = 1.0, label: str = "all",
) -> npt.NDArray[np.float64]:
    """The averaged adapter float64[D]; noise and epsilon go into `facts`.

    noise_part: of the noise that is solved. label: of the streams of randomness, where a cell trains more than once.
    """
    sites = deal(patients, cell)
    manifest = _manifest(adapted, sites, cell, recipe, rate)
    if cell.arm == "banded":
        manifest = _with_bands(manifest, cell)
    if noise_part != 1.0:
        (stage,) = manifest.stages
        manifest = replace(manifest, stages=(replace(
            stage, noise_multiplier=noise_part * stage.noise_multiplier),))
    if manifest.privacy != "none":
        worth = guarantees(_events(manifest, cell), manifest.sites[0].delta)
        facts |= {"noise_multiplier": manifest.stages[0].noise_multiplier, "delta": manifest.sites[0].delta,
                  "epsilon": worth.colluding, "epsilon_outside": worth.outside, "epsilon_alone": worth.alone}

    def entropy(site: str, purpose: str) -> SeededEntropy:
        return SeededEntropy(cell.seed, "utility", cell.arm, f"{cell.epsilon:g}", site, purpose)

    common = CommonDraws(lambda step: SeededEntropy(cell.seed, "utility", "draws", label, str(step)))
    if cell.arm == "distributed":
        return _distributed(adapted, patients, manifest, entropy, common)
    if cell.arm in _BY_ROUNDS:
        mechanism: Any = BatchedMechanism
        if cell.arm == "banded":
            mechanism = BandedSites(len(sites), coefficients(BANDS[cell.epsilon], recipe.steps // 2, _MOMENTUM))
        return train_by_plain_sums(adapted, dict(zip(manifest.site_ids, sites, strict=True)), manifest, entropy,
                                   on_round=lambda done, total: None, mechanism=mechanism)
    return train_centrally(
        adapted, patients, manifest, ServerOptimizer(1.0, _MOMENTUM), manifest.server.average_decay,
        lambda purpose: entropy(label, purpose), on_round=lambda done, total: None, mechanism=common)


def _with_bands(manifest: RunManifest, cell: Cell) -> RunManifest:
    """With the noise that correlated draws need for the same epsilon."""
    (stage,) = manifest.stages
    noise = matched(BANDS[cell.epsilon], stage.sampling_rate, stage.max_rounds * stage.local_steps,
                    manifest.target_epsilon, manifest.sites[0].delta)
    return replace(manifest, stages=(replace(stage, noise_multiplier=noise),))


def _events(manifest: RunManifest, cell: Cell) -> list[ReleaseEvent]:
    if cell.arm != "banded":
        return planned_events(manifest)
    (stage,) = manifest.stages
    return [event_of(BANDS[cell.epsilon], stage.sampling_rate, stage.max_rounds * stage.local_steps,
                     stage.noise_multiplier)]


def _manifest(
    adapted: AdaptedModel, sites: list[list[EncodedPatient]], cell: Cell, recipe: Recipe, rate: float
) -> RunManifest:
    """As a coordinator makes it; a pooled run's names three sites, of which only the schedule and the noise count."""
    counts = [len(own) for own in sites] if len(sites) > 1 else [len(sites[0])] * 3
    roster = Roster(
        federation_id="study", version=1, coordinator_key=_public_key(0), min_cohort=3, min_fraction=0.5,
        sites=tuple(RosterSite(f"site-{number:02d}", _public_key(number), count)
                    for number, count in enumerate(counts, start=1)))
    local = cell.arm in _BY_ROUNDS
    stage = StageConfig(
        name="only", sources={cell.task: _SAMPLES[cell.task]}, groups=_GROUPS, learning_rate=rate,
        learning_rate_without_privacy=rate, momentum=_MOMENTUM if local else 0.0, schedule=cell.schedule,
        local_steps=_LOCAL_STEPS if local else 1, rounds=recipe.steps // (_LOCAL_STEPS if local else 1),
        sampling_rate=_SAMPLING[cell.task], reply_after_s=0)
    mode: Literal["patient-dp", "none"] = "patient-dp" if cell.epsilon else "none"
    federation = replace(recipe.config.federation, average_decay=_MEMORY ** stage.local_steps)
    return build_manifest(
        run_id=cell.name, curriculum=CurriculumConfig(stages=[stage]), privacy=_privacy(cell, recipe, roster),
        lora=recipe.config.lora, federation=federation, roster=roster, base_model_hash=bytes(32),
        adapter_hash=adapter_hash(adapted.initial), mode=mode)


def _public_key(number: int) -> bytes:
    """Of a party that signs nothing here."""
    return SigningKey.from_private_bytes(bytes([number]) * 32).public_bytes()


def _privacy(cell: Cell, recipe: Recipe, roster: Roster) -> PrivacyConfig:
    chosen = replace(recipe.config.privacy, target_epsilon=cell.epsilon or 1.0)
    if cell.arm != "distributed":
        return chosen
    floor = roster.floor(len(roster.sites))
    return replace(chosen, noise="distributed", distributed=SharedNoiseConfig(
        min_survivors=floor, colluders=_COLLUDERS, momentum=_MOMENTUM))


def _distributed(
    adapted: AdaptedModel, patients: Sequence[EncodedPatient], manifest: RunManifest, entropy: Any, mechanism: Any
) -> npt.NDArray[np.float64]:
    """Each round one sum of rounded patients with every site's share of the noise, and one server step on it.

    Patients are rounded one by one, draws are independent and integers add up in any order: so the patients of all
    sites are drawn and summed together, which gives the sum that the sites' uploads would have, and the other shares
    are added.
    """
    spec, server = manifest.stages[0], manifest.server
    state, history = ServerState.initial(adapted.initial), 0
    while (position := position_after([RoundSummary(0, None)] * history, manifest.stages)) is not None:
        selection = adapted.layout.select(spec.groups, position.factor)
        dimension = selection.size + len(LANES)
        terms, share = sum_terms(manifest, 0, dimension, manifest.site_ids), share_of(manifest, 0, dimension)
        if share is None:
            raise ValueError("a distributed run needs a manifest with distributed noise")
        adapted.write(state.adapter.astype(np.float64))
        task = LocalTask(
            stage=spec, clip_norm=manifest.clip_norm, private=True, lanes=lane_scale(manifest, 0),
            lane_bound=manifest.lane_share * manifest.clip_norm, expected_patients=terms.divisor, share=share)
        total = noised_share(adapted, selection, patients, task, entropy("sum", str(history)), mechanism)
        for site in manifest.site_ids[1:]:
            total += DiscreteGaussian(share.variance).draw(dimension, entropy(site, str(history))).astype(np.uint32)
        real = dequantize_sum(total, ring_of(manifest, 0, dimension, len(manifest.sites)))
        state = state.after(
            selection.indices, real[: selection.size], terms.divisor,
            optimizer=ServerOptimizer(terms.learning_rate, server.momentum, server.optimizer, server.second_decay,
                                      terms.noise_variance), average_decay=server.average_decay)
        history += 1
    return state.average


def _tested(
    adapted: AdaptedModel, adapters: Sequence[npt.NDArray[np.float64]], cell: Cell
) -> dict[str, Any]:
    """Accuracy and mean loss (nats a question) on unseen patients; means over the adapters of sites alone."""
    questions, outcomes = _questions(cell.seed, cell.task), []
    for adapter in adapters:
        adapted.write(adapter)
        outcomes.append(evaluate(adapted.model, questions))
    return {"accuracy": float(np.mean([outcome.accuracy for outcome in outcomes])),
            "loss": float(np.mean([outcome.loss for outcome in outcomes])), "questions": len(questions)}
