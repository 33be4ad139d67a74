"""The manifest: constants from configuration and roster, and noise that meets the target over the whole run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest

from configs.schema import (
    AdaptiveClipConfig,
    ConfigError,
    CurriculumConfig,
    FederationConfig,
    LoraConfig,
    PrivacyConfig,
    StageConfig,
    StopConfig,
    TruncationConfig,
)
from coordinator.manifest import build_manifest, solve_noise, stage_spec
from privacy.dp.accounting import ReleaseEvent, epsilon
from privacy.identity import Roster, RosterSite
from privacy.manifest import RunManifest, standard_delta
from privacy.release import release_hash

ROSTER = Roster(
    federation_id="consortium", version=1, coordinator_key=bytes([9] * 32),
    sites=(RosterSite("a", bytes([1] * 32), 100), RosterSite("b", bytes([2] * 32), 300),
           RosterSite("c", bytes([3] * 32), 20_000)), min_cohort=3, min_fraction=0.5)
FIRST = StageConfig(
    name="alignment", sources={"patches": 4}, groups=["projector"], learning_rate=0.5,
    learning_rate_without_privacy=0.2, local_steps=5, sampling_rate=0.2, rounds=2, relative_noise=1.5, momentum=0.3,
    stop=StopConfig(patience=1, min_improvement=0.01))
SECOND = StageConfig(
    name="instruction", sources={"reports": 2, "patches": 2}, groups=["attention", "projector"], learning_rate=0.4,
    learning_rate_without_privacy=0.1, local_steps=8, sampling_rate=0.1, rounds=6, schedule="b-only")
CURRICULUM = CurriculumConfig(stages=[FIRST, SECOND])


def manifest(mode: Literal["patient-dp", "none"] = "patient-dp") -> RunManifest:
    return build_manifest(
        run_id="run-1", curriculum=CURRICULUM, privacy=PrivacyConfig(target_epsilon=4.0), lora=LoraConfig(),
        federation=FederationConfig(), roster=ROSTER, base_model_hash=bytes([1] * 32), adapter_hash=bytes([2] * 32),
        mode=mode)


@pytest.fixture(scope="module")
def private() -> RunManifest:
    return manifest()


def with_choices(mode: Literal["patient-dp", "none"]) -> RunManifest:
    """Two stages that choose everything there is, for adapters on the projector and the experts too."""
    stages = [
        replace(FIRST, momentum=0.0, optimizer="adamw-bc", clipping="auto-s"),
        replace(SECOND, optimizer="adamw", adaptive_clip=AdaptiveClipConfig(quantile=0.7, learning_rate=0.3))]
    return build_manifest(
        run_id="run-1", curriculum=CurriculumConfig(stages=stages), privacy=PrivacyConfig(target_epsilon=4.0),
        lora=LoraConfig(groups=["attention", "projector", "experts"]), federation=FederationConfig(), roster=ROSTER,
        base_model_hash=bytes([1] * 32), adapter_hash=bytes([2] * 32), mode=mode)


def test_choices_of_the_recipe_reach_the_manifest() -> None:
    manifest = with_choices("patient-dp")
    first, second = manifest.stages
    assert (first.optimizer, first.clipping, first.adaptive_clip) == ("adamw-bc", "auto-s", None)
    assert (second.optimizer, second.clipping) == ("adamw", "flat")
    assert second.adaptive_clip is not None and second.adaptive_clip.quantile == 0.7
    assert (second.adaptive_clip.learning_rate, second.adaptive_clip.bit_noise) == (0.3, 10.0)
    assert manifest.lora_groups == ("attention", "projector", "experts")


def test_without_privacy_the_optimiser_stays_and_the_private_quantile_goes() -> None:
    first, second = with_choices("none").stages
    assert (first.optimizer, first.clipping) == ("adamw-bc", "auto-s")
    assert second.optimizer == "adamw" and second.adaptive_clip is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"optimizer": "adam"}, "optimizer='adam' must be one of"), ({"clipping": "auto"}, "clipping='auto' must be"),
     ({"optimizer": "adamw"}, "momentum=0.3 belongs to optimizer sgd"),
     ({"clipping": "auto-s", "adaptive_clip": AdaptiveClipConfig()}, "adaptive_clip needs clipping flat")])
def test_choices_that_contradict_each_other_are_refused_in_one_sentence(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(FIRST, **changes)
    with pytest.raises(ConfigError, match="most_patients=9 must be at least"):
        TruncationConfig(batch_size=10, most_patients=9)


def planned(noise: list[float]) -> list[ReleaseEvent]:
    return [ReleaseEvent(stage.sampling_rate, sigma, stage.local_steps * stage.rounds)
            for stage, sigma in zip(CURRICULUM.stages, noise, strict=True)]


def test_a_suspended_site_has_no_terms_and_no_share_of_the_weights() -> None:
    sites = (*ROSTER.sites[:2], replace(ROSTER.sites[2], status="suspended"))
    made = build_manifest(
        run_id="run-1", curriculum=CURRICULUM, privacy=PrivacyConfig(target_epsilon=4.0), lora=LoraConfig(),
        federation=FederationConfig(), roster=replace(ROSTER, sites=sites), base_model_hash=bytes([1] * 32),
        adapter_hash=bytes([2] * 32), mode="patient-dp")
    assert made.site_ids == ("a", "b") and [terms.weight for terms in made.sites] == [0.25, 0.75]


def test_the_schedule_of_replies_reaches_the_manifest_with_and_without_privacy() -> None:
    assert [stage_spec(replace(FIRST, reply_after_s=90.0), 1.0, private).reply_after_s
            for private in (True, False)] == [90.0, 90.0]


@pytest.mark.parametrize("target", [1.0, 8.0])
def test_solved_noise_meets_the_target_closely_and_from_below(target: float) -> None:
    noise = solve_noise(CURRICULUM, target, 1e-5)
    assert 0.98 * target < epsilon(planned(noise), 1e-5) <= target
    assert noise[0] == pytest.approx(1.5 * noise[1])


def test_stages_are_composed_not_added() -> None:
    noise = solve_noise(CURRICULUM, 8.0, 1e-5)
    assert sum(epsilon([event], 1e-5) for event in planned(noise)) > 8.0


def test_more_rounds_need_more_noise() -> None:
    longer = CurriculumConfig(stages=[FIRST, replace(SECOND, rounds=12)])
    assert solve_noise(longer, 8.0, 1e-5)[1] > 1.1 * solve_noise(CURRICULUM, 8.0, 1e-5)[1]


def test_noise_is_that_of_the_strictest_site(private: RunManifest) -> None:
    assert [terms.delta for terms in private.sites] == [1e-5, 1e-5, standard_delta(20_000)]
    assert standard_delta(20_000) == 1 / 200_000
    assert [stage.noise_multiplier for stage in private.stages] == solve_noise(CURRICULUM, 4.0, 1 / 200_000)


def test_every_site_stays_within_the_target(private: RunManifest) -> None:
    noise = [stage.noise_multiplier for stage in private.stages]
    assert all(epsilon(planned(noise), terms.delta) <= 4.0 for terms in private.sites)


def test_weights_are_shares_of_declared_patients(private: RunManifest) -> None:
    assert [terms.weight for terms in private.sites] == [100 / 20_400, 300 / 20_400, 20_000 / 20_400]
    assert [terms.declared_patients for terms in private.sites] == [100, 300, 20_000]


def test_a_manifest_names_this_release_the_roster_and_the_models(private: RunManifest) -> None:
    assert private.release == release_hash() and private.roster_hash == ROSTER.hash()
    assert (private.base_model_hash, private.adapter_hash) == (bytes([1] * 32), bytes([2] * 32))
    assert RunManifest.from_bytes(private.to_bytes()) == private


def test_stages_are_carried_over_whole(private: RunManifest) -> None:
    first, second = private.stages
    assert [(share.source, share.max_samples) for share in second.sources] == [("reports", 2), ("patches", 2)]
    assert (first.groups, first.schedule, first.local_steps, first.max_rounds, first.momentum) == (
        ("projector",), "alternate", 5, 2, 0.3)
    assert first.stop is not None and (first.stop.patience, first.stop.min_improvement) == (1, 0.01)
    assert second.stop is None and second.schedule == "b-only" and second.learning_rate == 0.4


def test_a_run_without_privacy_has_no_noise_its_own_learning_rate_and_equal_steps(private: RunManifest) -> None:
    plain = manifest("none")
    assert (plain.privacy, plain.target_epsilon) == ("none", 0.0)
    assert [stage.noise_multiplier for stage in plain.stages] == [0.0, 0.0]
    assert [stage.learning_rate for stage in plain.stages] == [0.2, 0.1]
    assert [s.local_steps * s.max_rounds for s in plain.stages] == [10, 48]
    assert [s.local_steps * s.max_rounds for s in private.stages] == [10, 48]
    assert plain.hash() != private.hash()


@pytest.mark.parametrize("target", [0.0, -1.0, float("nan"), float("inf")])
def test_a_target_without_meaning_is_refused(target: float) -> None:
    with pytest.raises(ValueError, match="target_epsilon must be a finite number above 0"):
        solve_noise(CURRICULUM, target, 1e-5)


def test_options_of_the_secure_aggregation_reach_the_manifest(private: RunManifest) -> None:
    assert (private.suite, private.integrity_tags) == ("x25519", 0)
    chosen = with_federation(suite="x25519-mlkem768", integrity_tags=3)
    assert (chosen.suite, chosen.integrity_tags) == ("x25519-mlkem768", 3)


@pytest.mark.parametrize("wrong", [{"suite": "rsa"}, {"integrity_tags": 5}, {"integrity_tags": -1}])
def test_options_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"federation.{next(iter(wrong))}"):
        FederationConfig(**wrong)


def test_sixteen_bits_that_every_site_would_refuse_are_not_asked_for() -> None:
    with pytest.raises(ValueError, match=r"federation\.bits=16 .* set federation\.bits to 24, or lower"):
        with_federation(bits=16)
    assert with_federation(bits=16, saturation=0.125).bits == 16
    assert with_federation("none", bits=16).bits == 16


def with_federation(mode: Literal["patient-dp", "none"] = "patient-dp", **options: Any) -> RunManifest:
    return build_manifest(
        run_id="run-1", curriculum=CURRICULUM, privacy=PrivacyConfig(target_epsilon=4.0), lora=LoraConfig(),
        federation=FederationConfig(**options), roster=ROSTER, base_model_hash=bytes([1] * 32),
        adapter_hash=bytes([2] * 32), mode=mode)
