"""`coordinator evaluate`: answers are those of the models, a stopped evaluation goes on, nothing is mixed."""

from __future__ import annotations

import fcntl
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import coordinator.cli
from coordinator.evaluate_models import Models
from model.adapted import open_with_adapter
from model.adapter import AdapterLayout, attach
from model.adapter_files import read_adapter
from model.answer_metrics import score
from model.backbone import BaseModel, build, load_base, save_base
from model.benchmarks.formats import read_items
from model.benchmarks.items import Item
from model.evaluate import answer
from model.export import save_adapter
from model.inputs import Example
from model.spec import LoraSpec
from model.tokenizer import train_tokenizer
from tests.model.benchmarks.conftest import make_medframeqa, make_medqa, make_path_vqa, paint, write_lines
from tests.model.conftest import MICRO

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base/, other/, short/ (few tokens), adapter/ that changes answers, zero/, and copies of three benchmarks."""
    folder = tmp_path_factory.mktemp("desk")
    tokenizer = train_tokenizer(["Are the blocks stained? Answer with one word only: yes or no."], MICRO.vocab_size)
    for name, seed in (("base", 3), ("other", 4)):
        save_base(build(MICRO, seed=seed), tokenizer, MICRO, folder / name)
    short = replace(MICRO, max_tokens=48)
    save_base(build(short, seed=3), tokenizer, short, folder / "short")
    base = load_base(folder / "base")
    model = attach(base.model, LoraSpec(rank=4), seed=0)
    layout = AdapterLayout(model)
    layout.write(model, np.random.default_rng(0).normal(0, 0.5, layout.size))
    save_adapter(model, folder / "adapter", base=base.content_hash.hex(), description="Two hospitals.")
    layout.write(model, np.zeros(layout.size))
    save_adapter(model, folder / "zero", base=base.content_hash.hex(), description="Nothing.")
    make_path_vqa(folder / "path-vqa")
    make_medqa(folder / "medqa")
    make_medframeqa(folder / "medframeqa")
    return folder


def command(desk: Path, out: Path, *more: str, name: str = "path-vqa", adapter: str = "adapter") -> list[str]:
    named = ["--adapter", str(desk / adapter)] if adapter else []
    return ["evaluate", f"evaluation/{name}.yaml", "--base", str(desk / "base"), *named, "--data", str(desk / name),
            "--device", "cpu", "--set", "max_new_tokens=6", "--out", str(out), *more]  # fmt: skip


def run(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> Any:
    assert coordinator.cli.main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    capsys.readouterr()
    assert coordinator.cli.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and "Traceback" not in printed.err
    return printed.err.strip().splitlines()[-1]


def lines_of(out: Path) -> list[dict[str, Any]]:
    text = out.with_name(out.name + ".answers.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def expected(base: BaseModel, model: Any, item: Item) -> str:
    example = Example(item.prompt, "", images=tuple(picture.pixels() for picture in item.pictures))
    return answer(model, example, base.tokenizer, base.spec, max_new_tokens=6)


def test_answers_are_those_of_base_and_adapter_and_measures_follow_from_them(
    desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "result.json"
    facts = run(capsys, command(desk, out))
    items = read_items("path-vqa", desk / "path-vqa", split="test")
    base, adapted = load_base(desk / "base"), open_with_adapter(desk / "base", read_adapter(desk / "adapter"))
    records = {line["key"]: line for line in lines_of(out)[1:]}
    for item in items:
        assert records[item.key]["base"] == expected(base, base.model, item)
        assert records[item.key]["adapted"] == expected(adapted.base, adapted.model, item)
    assert any(record["base"] != record["adapted"] for record in records.values())
    f1 = [score(item, records[item.key]["adapted"])["open token F1"][0] for item in items if item.kind == "open"]
    measure = facts["measures"]["open token F1"]
    assert measure["adapted"][0] == pytest.approx(np.mean(f1)) and measure["questions"] == 1
    assert set(facts["measures"]) == {"exact match", "closed accuracy", "open exact match", "open token F1"}
    assert facts["adapter"]["description"] == "Two hospitals." and facts["base_model"]["name"] == "micro"
    assert json.loads(out.read_text()) == facts
    assert out.stat().st_mode & 0o777 == 0o600 == out.with_name("result.json.answers.jsonl").stat().st_mode & 0o777


def test_an_adapter_of_zeros_makes_no_difference(
    desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = run(capsys, command(desk, tmp_path / "r.json", name="medqa", adapter="zero"))
    measure = facts["measures"]["malformed"]
    assert measure["base"] == measure["adapted"] and measure["difference"] == [0.0, 0.0, 0.0]
    assert measure["lower_is_better"] and not facts["measures"]["accuracy"]["lower_is_better"]


def test_the_table_names_models_intervals_and_limits(
    desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert coordinator.cli.main(command(desk, tmp_path / "r.json")) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("RESEARCH USE ONLY, NOT FOR CLINICAL DECISIONS\npath-vqa: 3 of 3 questions of the ")
    assert re.search(r"^exact match +3( +[+\d.]+ \[[+\d.-]+, [+\d.-]+\]){3}$", printed.out, re.MULTILINE)
    assert "with adapter" in printed.out and "only 2 groups: the intervals are too narrow" in printed.out
    assert "3 answers (base) had not ended after 6 tokens" in printed.out
    assert re.search(r"asking: 33% about \d+ s left", printed.err) and "asking: 100%" in printed.err
    assert coordinator.cli.main(command(desk, tmp_path / "alone.json", adapter="")) == 0
    alone = capsys.readouterr().out
    assert "adapter   none" in alone and "difference" not in alone


def test_a_stopped_evaluation_goes_on_and_ends_the_same(
    desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(capsys, command(desk, tmp_path / "whole.json"))
    out, asked, ask = tmp_path / "result.json", [], Models.ask

    def stopping(self: Models, item: Item, most: int) -> dict[str, Any]:
        asked.append(item.key)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return ask(self, item, most)

    monkeypatch.setattr(Models, "ask", stopping)
    assert coordinator.cli.main(command(desk, out)) == 130
    assert "the same command goes on" in capsys.readouterr().err and not out.exists()
    with out.with_name("result.json.answers.jsonl").open("a") as stream:
        stream.write('{"key": "1", "ba')  # a power cut in the middle of a line
    assert run(capsys, command(desk, out)) == whole
    assert asked == ["0", "1", "1", "2"] and [line.get("key") for line in lines_of(out)] == [None, "0", "1", "2"]
    assert run(capsys, command(desk, out)) == whole and len(asked) == 4  # nothing left to ask


def test_a_larger_limit_goes_on_from_a_smaller_one(
    desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r.json"
    assert run(capsys, command(desk, out, "--limit", "2"))["asked"] == 2
    first = lines_of(out)
    facts = run(capsys, command(desk, out))
    assert (facts["asked"], facts["available"]) == (3, 3) and lines_of(out)[:3] == first
    assert run(capsys, command(desk, out, "--limit", "2"))["measures"]["exact match"]["questions"] == 2


def test_answers_of_another_evaluation_are_refused(
    desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r.json"
    run(capsys, command(desk, out))
    before = lines_of(out)
    assert "other adapter)" in refused(capsys, command(desk, out, adapter="zero"))
    assert "other adapter)" in refused(capsys, command(desk, out, adapter=""))
    assert "other benchmark, questions)" in refused(capsys, command(desk, out, name="medqa"))
    assert "other benchmark)" in refused(capsys, command(desk, out, "--set", "max_new_tokens=7"))
    other = command(desk, tmp_path / "b.json", adapter="")
    run(capsys, other)
    other[other.index("--base") + 1] = str(desk / "other")
    assert "other base_model)" in refused(capsys, other)
    changed = make_path_vqa(tmp_path / "path-vqa")
    paint(changed / "images" / "b.png", 99)
    rows = (changed / "test.jsonl").read_text().replace("green", "red")
    (changed / "test.jsonl").write_text(rows)
    assert "other questions)" in refused(capsys, command(desk, out, "--data", str(changed)))
    assert lines_of(out) == before


def test_damaged_and_locked_answers(desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "r.json"
    run(capsys, command(desk, out))
    path = out.with_name("r.json.answers.jsonl")
    with path.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert "is being written by another evaluation" in refused(capsys, command(desk, out))
    good = path.read_text()
    for line, message in (("nonsense\n", "line 5: is damaged"), ("[1]\n", "line 5: is damaged"),
                          ('{"base": "x"}\n', "line 5: is no answer")):  # fmt: skip
        path.write_text(good + line)
        assert message in refused(capsys, command(desk, out))
    path.write_text("nonsense\n")
    assert "line 1: is damaged" in refused(capsys, command(desk, out))


def test_pictures_that_do_not_fit_the_context_count_as_wrong_and_are_told(
    desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.loads(line) for line in (desk / "medframeqa" / "test.jsonl").read_text().splitlines()]
    Image.fromarray(np.zeros((32, 128, 3), dtype=np.uint8)).save(tmp_path / "wide.png")
    Image.fromarray(np.zeros((32, 32, 3), dtype=np.uint8)).save(tmp_path / "f1.png")
    many = {f"image_{number}": "wide.png" for number in range(1, 6)}
    write_lines(tmp_path / "test.jsonl", [{**rows[0], "image_2": "f1.png"}, {**rows[1], **many}])
    arguments = command(desk, tmp_path / "r.json", "--data", str(tmp_path), "--base", str(desk / "short"),
                        name="medframeqa", adapter="")  # fmt: skip
    facts = run(capsys, arguments)
    _, asked, not_asked = lines_of(tmp_path / "r.json")
    assert (asked["too_long"], not_asked["too_long"]) == (False, True) and not_asked["base"] == ""
    assert facts["too_long_questions"] == 1 and facts["measures"]["malformed"]["base"][0] >= 0.5
    assert facts["truncated_questions"] == 1  # 48 tokens do not hold the first question's words either
    assert coordinator.cli.main(arguments) == 0
    text = capsys.readouterr().out
    assert "1 questions were not asked and count as wrong" in text and "1 questions lost their beginning" in text


MISTAKES: dict[str, tuple[list[str], str]] = {
    "config": (["evaluation/slak.yaml"], "did you mean evaluation/slake.yaml?"),
    "setting": (["evaluation/medqa.yaml", "--set", "limt=3"], "did you mean limit?"),
    "data": (["evaluation/medqa.yaml", "--data", "nowhere"], "nowhere is not a folder"),
    "adapter": (["evaluation/medqa.yaml", "--data", "DATA", "--adapter", "nowhere"], "nowhere does not exist"),
    "base": (["evaluation/medqa.yaml", "--data", "DATA", "--base", "nowhere"], "No base model in nowhere"),
    "out": (["evaluation/medqa.yaml", "--data", "DATA", "--out", "no/where.json"], "no does not exist; make it first"),
    "folder": (["evaluation/medqa.yaml", "--data", "DATA", "--out", "."], "is a folder; name a file in it"),
    "gpu": (["evaluation/medqa.yaml", "--data", "DATA", "--device", "cuda"], "torch finds no CUDA device here"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_one_sentence(
    desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    words, message = MISTAKES[kind]
    arguments = ["evaluate", *(str(desk / "medqa") if word == "DATA" else word for word in words)]
    arguments += [] if "--base" in words else ["--base", str(desk / "base")]
    assert message in refused(capsys, arguments)


def test_an_unusable_picture_is_told_before_the_model_is_loaded(
    desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_path_vqa(tmp_path / "copy")
    (folder / "images" / "b.png").write_bytes(b"hello")
    text = refused(capsys, command(desk, tmp_path / "r.json", "--data", str(folder), "--base", "nowhere"))
    assert "test.jsonl, line 3: picture images/b.png is not a PNG or JPEG that can be read; convert it" in text


def test_the_default_place_of_the_result(
    desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = command(desk, Path("x"), name="medqa")
    del arguments[arguments.index("--out") : arguments.index("--out") + 2]
    run(capsys, arguments)
    assert (tmp_path / "runs" / "evaluation" / "medqa.json").is_file()


@pytest.mark.parametrize("limit", ["0", "-1", "x"])
def test_a_limit_is_a_number(limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        coordinator.cli.main(["evaluate", "evaluation/medqa.yaml", "--base", "b", "--limit", limit])
    assert caught.value.code == 2 and "is no number of questions" in capsys.readouterr().err


def test_refusals_come_before_torch_is_imported(tmp_path: Path) -> None:
    code = ("import sys\nfrom coordinator.cli import main\n"
            f"assert main(['evaluate', 'evaluation/medqa.yaml', '--base', 'b', '--data', {str(tmp_path)!r}]) == 2\n"
            "print([name for name in ('torch', 'transformers', 'peft') if name in sys.modules])")
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "[]", result.stderr
    assert "holds no file of this benchmark" in result.stderr
