"""The benchmark files that ship, and the settings that are refused."""

from __future__ import annotations

import pytest

from configs.evaluation import BenchmarkConfig
from configs.load import CONFIG_ROOT, load_config
from model.benchmarks.formats import FORMATS, FORMATS_WITHOUT_FOLDER

FILES = sorted((CONFIG_ROOT / "evaluation").glob("*.yaml"))


def test_every_format_has_a_file() -> None:
    configs = [load_config(BenchmarkConfig, path) for path in FILES]
    assert sorted(config.format for config in configs) == sorted(FORMATS)
    assert [config.name for config in configs] == [path.stem for path in FILES]
    for config in configs:
        assert bool(config.data) == (config.format not in FORMATS_WITHOUT_FOLDER)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [("format=vqa", "must be one of vqa-rad"), ("limit=-1", "must be 0 (all) or more"), ("fold=5", "must be 0 to 4"),
     ("max_new_tokens=0", "must be greater than 0"), ("language=fr", "must be one of en, zh"),
     ("name=a/b", "without /"), ("subjects=[Art]", "is for the format mmmu-med"), ("limt=3", "did you mean limit?")])
def test_settings_that_are_refused(setting: str, expected: str) -> None:
    with pytest.raises(ValueError) as caught:
        load_config(BenchmarkConfig, "evaluation/slake.yaml", [setting])
    assert expected in str(caught.value)


def test_reports_are_not_read_from_a_folder() -> None:
    with pytest.raises(ValueError, match="read from an installed package; remove it"):
        load_config(BenchmarkConfig, "evaluation/reports.yaml", ["data=here"])
