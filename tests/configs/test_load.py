"""Every typo and bad value in a configuration file ends as one sentence that names the key and the fix."""

from __future__ import annotations

import dataclasses
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from configs.ablation import AblationConfig
from configs.evaluation import BenchmarkConfig
from configs.load import CONFIG_ROOT, load_config, load_overrides, resolve_config_path
from configs.schema import (
    ConfigError,
    CurriculumConfig,
    DataConfig,
    FederationConfig,
    PolicyConfig,
    RunConfig,
    SimulationConfig,
    SiteConfig,
    StageConfig,
)

STAGE = """
  - name: one
    sources: {reports: 2}
    groups: [attention]
    learning_rate: 0.5
    learning_rate_without_privacy: 0.5
    local_steps: 3
    sampling_rate: 0.1
    rounds: 4
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "some.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(cls: type, path: Path, *overrides: str) -> str:
    """The error's text, checked to be one line that names the file or the command line."""
    with pytest.raises(ConfigError) as caught:
        load_config(cls, path, list(overrides))
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("path", sorted(CONFIG_ROOT.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_file_loads(path: Path) -> None:
    cls = {"curriculum": CurriculumConfig, "runs": RunConfig, "simulations": SimulationConfig,
           "evaluation": BenchmarkConfig}[path.parent.name]
    cls = AblationConfig if path.stem == "ablate" else cls
    loaded = load_config(cls, path)
    assert isinstance(loaded, cls)
    if isinstance(loaded, RunConfig):  # real sites refuse a run whose replies leave when they are ready (P_TIMING)
        stages = load_config(CurriculumConfig, loaded.curriculum).stages
        least = PolicyConfig(max_epsilon=8).min_reply_after_s
        assert stages and all(stage.reply_after_s >= least for stage in stages)
    if isinstance(loaded, SimulationConfig):
        assert load_config(CurriculumConfig, loaded.curriculum).stages


def test_the_example_run_shows_every_key_with_its_default() -> None:
    shown = load_config(RunConfig, "runs/example.yaml")
    required = {name: getattr(shown, name) for name in ("run_id", "curriculum", "base_model", "public_examples")}
    assert shown == RunConfig(**required)
    text = (CONFIG_ROOT / "runs" / "example.yaml").read_text(encoding="utf-8")
    for part in (RunConfig, type(shown.privacy), type(shown.lora), type(shown.federation)):
        for field in dataclasses.fields(part):
            assert re.search(rf"^ *{field.name}:", text, re.MULTILINE), field.name


def test_the_shipped_curriculum_has_the_three_stages_of_the_recipe() -> None:
    stages = load_config(CurriculumConfig, "curriculum/three-stage.yaml").stages
    assert [stage.name for stage in stages] == ["alignment", "multi-image", "instruction"]
    assert [set(stage.groups) for stage in stages] == [{"projector"}, {"attention", "projector"},
                                                       {"attention", "projector"}]


def test_values_become_a_frozen_dataclass_of_plain_types(tmp_path: Path) -> None:
    loaded = load_config(CurriculumConfig, written(tmp_path, "stages:" + STAGE))
    assert type(loaded.stages) is list and type(loaded.stages[0].sources) is dict
    with pytest.raises(AttributeError):
        loaded.stages[0].rounds = 9  # type: ignore[misc]


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "name: x\ncurriculum: c.yaml\nprivacy: {target_epsilon: 3}")
    loaded = load_config(SimulationConfig, path, ["privacy.target_epsilon=1.5", "seed=7"])
    assert (loaded.privacy.target_epsilon, loaded.seed) == (1.5, 7)
    assert load_overrides(DataConfig, ["seed=3"]).seed == 3


def test_lists_are_replaced_not_merged(tmp_path: Path) -> None:
    path = written(tmp_path, "name: x\ncurriculum: c.yaml\ndata: {site_shares: [0.5, 0.25, 0.25]}")
    assert load_config(SimulationConfig, path).data.site_shares == [0.5, 0.25, 0.25]


def test_misspelt_keys_name_the_nearest_known_one_and_where_it_is(tmp_path: Path) -> None:
    text = refusal(CurriculumConfig, written(tmp_path, "stages:" + STAGE.replace("local_steps", "local_step")))
    assert "stages[0].local_step " in text and "did you mean local_steps?" in text and "some.yaml" in text
    text = refusal(SimulationConfig, written(tmp_path, "name: x\ncurriculum: c\nprivcy: {}"))
    assert "privcy" in text and "did you mean privacy?" in text
    text = refusal(SimulationConfig, written(tmp_path, "name: x\ncurriculum: c\nprivacy: {epsilon: 3}"))
    assert "privacy.epsilon" in text and "target_epsilon" in text
    text = refusal(SimulationConfig, written(tmp_path, "name: x\ncurriculum: c"), "privacy.target_epsilo=3")
    assert "the command line" in text and "did you mean target_epsilon?" in text


def test_a_key_like_no_other_lists_the_known_ones(tmp_path: Path) -> None:
    text = refusal(CurriculumConfig, written(tmp_path, "zzz: 1\nstages:" + STAGE))
    assert "zzz" in text and "known keys: stages" in text


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("local_steps: 3", "local_steps: many", "local_steps"),
        ("local_steps: 3", "local_steps: 2.5", "local_steps"),
        ("rounds: 4", "rounds: 0", "stages[one].rounds=0 must be greater than 0"),
        ("rounds: 4", "rounds: null", "rounds"),
        ("sampling_rate: 0.1", "sampling_rate: 1.5", "stages[one].sampling_rate=1.5 must be in (0, 1]"),
        ("sampling_rate: 0.1", "sampling_rate: .nan", "sampling_rate"),
        ("[attention]", "[atention]", "must be one of attention, projector"),
        ("[attention]", "[]", "groups is empty"),
        ("{reports: 2}", "{xrays: 2}", "must be one of reports, impressions, patches"),
        ("{reports: 2}", "{reports: 0}", "reports=0"),
        ("    rounds: 4\n", "", "rounds"),
        ("    rounds: 4\n", "    rounds: 4\n    stop: {patience: 0, min_improvement: 0.1}\n", "stop.patience=0"),
    ])
def test_a_bad_value_in_a_stage_names_its_key(tmp_path: Path, old: str, new: str, expected: str) -> None:
    text = refusal(CurriculumConfig, written(tmp_path, "stages:" + STAGE.replace(old, new)))
    assert expected in text and "some.yaml" in text


def test_a_stage_named_twice_and_no_stage_are_refused(tmp_path: Path) -> None:
    assert "twice" in refusal(CurriculumConfig, written(tmp_path, "stages:" + STAGE + STAGE))
    assert "empty" in refusal(CurriculumConfig, written(tmp_path, "stages: []"))


@pytest.mark.parametrize("text", ["a: [1, 2", "- 1\n- 2", "just words", "a: 1\na: 2", "\tname: x"])
def test_what_is_not_a_yaml_mapping_is_refused(tmp_path: Path, text: str) -> None:
    assert "some.yaml" in refusal(SimulationConfig, written(tmp_path, text))


def test_an_empty_file_says_what_is_missing(tmp_path: Path) -> None:
    assert "required and missing" in refusal(SimulationConfig, written(tmp_path, ""))


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_bytes(b"\xff\xfe\x00name")
    assert "some.yaml" in refusal(SimulationConfig, path)


def test_an_override_without_a_value_is_refused(tmp_path: Path) -> None:
    text = refusal(SimulationConfig, written(tmp_path, "name: x\ncurriculum: c"), "seed")
    assert "'seed' is not a setting" in text and "KEY=VALUE" in text


def test_a_missing_file_names_the_nearest_shipped_one() -> None:
    with pytest.raises(ConfigError, match=r"did you mean simulations/demo\.yaml\?"):
        resolve_config_path("configs/simulations/dmo.yaml")
    with pytest.raises(ConfigError, match="known files: "):
        resolve_config_path("q")


def test_shipped_files_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_config_path("configs/simulations/demo.yaml") == CONFIG_ROOT / "simulations" / "demo.yaml"
    (tmp_path / "configs" / "simulations").mkdir(parents=True)
    (tmp_path / "configs" / "simulations" / "demo.yaml").touch()  # the operator's own file goes first
    assert resolve_config_path("configs/simulations/demo.yaml") == Path("configs/simulations/demo.yaml")


def test_cohorts_under_three_are_refused_everywhere() -> None:
    with pytest.raises(ConfigError, match="min_cohort=2"):
        FederationConfig(min_cohort=2)
    with pytest.raises(ConfigError, match="min_cohort=2"):
        PolicyConfig(max_epsilon=8, min_cohort=2)


def test_two_sites_are_asked_for_by_name_and_with_two() -> None:
    assert PolicyConfig(max_epsilon=8, min_cohort=2, two_sites=True).min_cohort == 2
    pair = FederationConfig(min_cohort=2, two_sites=True)
    for make in (FederationConfig, functools.partial(PolicyConfig, max_epsilon=8)):
        for wrong in ({"min_cohort": 1, "two_sites": True}, {"min_cohort": 3, "two_sites": True}):
            with pytest.raises(ConfigError, match="two_sites"):
                make(**wrong)
    halves = DataConfig(site_shares=[0.5, 0.5])
    assert SimulationConfig(name="x", curriculum="c", data=halves, federation=pair).federation.two_sites
    with pytest.raises(ConfigError, match="give at least three, or set"):
        SimulationConfig(name="x", curriculum="c", data=halves)
    with pytest.raises(ConfigError, match="is for exactly two sites"):
        SimulationConfig(name="x", curriculum="c", federation=pair)
    with pytest.raises(ConfigError, match="at least two"):
        DataConfig(site_shares=[1.0])


@pytest.mark.parametrize("seconds", [0.0, -1.0, 5e-324, 1e7, float("nan")])
def test_a_least_schedule_is_a_number_of_seconds(seconds: float) -> None:
    with pytest.raises(ConfigError, match="min_reply_after_s"):
        PolicyConfig(max_epsilon=8, min_reply_after_s=seconds)


@pytest.mark.parametrize("seconds", [-1.0, 5e-324, 1e7, float("nan")])
def test_a_schedule_is_a_number_of_seconds(seconds: float) -> None:
    stage = StageConfig(
        name="one", sources={"reports": 1}, groups=["projector"], learning_rate=1.0, learning_rate_without_privacy=1.0,
        local_steps=1, sampling_rate=0.1, rounds=1, reply_after_s=60.0)
    with pytest.raises(ConfigError, match="reply_after_s"):
        dataclasses.replace(stage, reply_after_s=seconds)


def test_a_policy_cannot_allow_a_large_delta() -> None:
    with pytest.raises(ConfigError, match=re.escape("max_delta=0.001 must be at most 1e-5")):
        PolicyConfig(max_epsilon=8, max_delta=1e-3)


def test_a_site_file_needs_its_policy(tmp_path: Path) -> None:
    keys = "site_id: a\ndata: d\nstate: s\nbase_model: b\nroster: r\nroster_hash: h\n"
    assert "policy" in refusal(SiteConfig, written(tmp_path, keys))
    assert "max_epsilon" in refusal(SiteConfig, written(tmp_path, keys + "policy: {min_patients: 5}"))
    assert load_config(SiteConfig, written(tmp_path, keys + "policy: {max_epsilon: 4}")).policy.max_epsilon == 4


def test_configuration_needs_neither_torch_nor_flower() -> None:
    code = "import sys, configs.load; print([m for m in ('torch', 'flwr', 'pydicom') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                            cwd=CONFIG_ROOT.parent)
    assert result.stdout.strip() == "[]"
