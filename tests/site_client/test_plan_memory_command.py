"""`site-client plan-memory` as a user runs it, and how a site takes what its card has room for."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import site_client.placement
from configs.load import ConfigError
from configs.schema import PolicyConfig, SiteConfig
from model.memory_plan import most_tokens
from model.spec import MEDGPT_OSS_20B_PACKED, TINY, LoraSpec
from site_client.cli import main
from site_client.placement import CPU_TOKENS, device_of, microbatch_tokens, require_devices


def test_says_what_fits_a_card(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan-memory", "--gpu", "24GB", "--length", "2048", "32768"]) == 0
    text = capsys.readouterr().out
    assert "weights 13.40 GiB" in text and "none" in text and "longest row that fits" in text


def test_json_and_a_base_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "spec.json").write_text(TINY.to_json())
    more = ["--base", str(tmp_path), "--rank", "4", "--length", "128", "--json"]
    assert main(["plan-memory", "--gpu", "4GB", *more]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == "tiny" and found["rank"] == 4 and found["rows"][0]["rows"] >= 1


def test_nothing_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan-memory", "--gpu", "12GB"]) == 1
    assert "nothing fits" in capsys.readouterr().out


@pytest.mark.parametrize(("more", "says"), [
    (["--gpu", "lots"], "no amount of memory"), (["--gpu", "24GB", "--base", "/nowhere"], "holds no spec.json"),
    (["--gpu", "24GB", "--rank", "0"], "rank and alpha"), (["--gpu", "24GB", "--groups", "experts"], "packed experts"),
    (["--gpu", "24GB", "--groups", "ears"], "groups must be"), (["--gpu", "24GB", "--length", "0"], "at least 1")])
def test_bad_input_is_one_sentence(more: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan-memory", *more]) == 2
    message = capsys.readouterr().err
    assert says in message and message.count("\n") == 1


def _config(**more: Any) -> SiteConfig:
    return SiteConfig(site_id="site-1", data="d", state="s", base_model="b", policy=PolicyConfig(max_epsilon=1.0),
                      roster="r", roster_hash="00", **more)


def test_the_site_file_decides_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert device_of(_config()) == device_of(_config(device="cpu")) == "cpu"
    with pytest.raises(ValueError, match="no such GPU"):
        device_of(_config(device="cuda:1"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert device_of(_config()) == device_of(_config(device="cuda")) == "cuda"
    with pytest.raises(ValueError, match="no such GPU"):
        device_of(_config(device="cuda:1"))
    for wrong in ({"device": "tpu"}, {"device": "cuda:x"}, {"microbatch_tokens": -1}):
        with pytest.raises(ConfigError):
            _config(**wrong)


def test_processes_need_gpus_of_one_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A patient's numbers must not depend on the card that the others' presence puts it on."""
    names = ["H100", "H100"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: len(names))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda number: names[number])
    require_devices(_config(processes=2))
    names[1] = "A10"
    require_devices(_config(gpus_per_process=2, microbatch_tokens=64))  # one process: the same for all
    with pytest.raises(ConfigError, match="unlike GPUs"):
        require_devices(_config(processes=2))


def test_micro_batches_are_what_the_card_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    lora = LoraSpec(rank=8, alpha=16)
    model: Any = SimpleNamespace(device=SimpleNamespace(type="cuda"), base=SimpleNamespace(spec=MEDGPT_OSS_20B_PACKED),
                                 lora=lora)
    card = SimpleNamespace(total_memory=24 * 10**9)
    monkeypatch.setattr(site_client.placement.torch.cuda, "get_device_properties", lambda device: card)
    assert microbatch_tokens(_config(), model) == most_tokens(MEDGPT_OSS_20B_PACKED, lora, 24 * 10**9) > 8192
    assert microbatch_tokens(_config(microbatch_tokens=100), model) == 100
    card.total_memory = 12 * 10**9
    with pytest.raises(ValueError, match="plan-memory"):
        microbatch_tokens(_config(), model)
    model.device.type = "cpu"
    assert microbatch_tokens(_config(), model) == CPU_TOKENS
