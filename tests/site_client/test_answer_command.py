"""`site-client answer`: both answers of one model, refusals before anything is loaded, nothing sent or written."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from rich.console import Console

import site_client.cli
from model.adapted import open_with_adapter
from model.adapter import AdapterLayout, attach
from model.adapter_files import read_adapter
from model.backbone import BaseModel, build, load_base, save_base
from model.evaluate import answer
from model.export import save_adapter
from model.generation import AnswerPiece
from model.inputs import Example
from model.spec import TINY, LoraSpec
from model.tokenizer import train_tokenizer
from site_client.answer_columns import Column, printable, show_live, show_plain
from tests.model.conftest import MICRO

ROOT = Path(__file__).resolve().parents[2]
QUESTION = "Are the two patches alike?"
DICOM = str(get_testdata_file("CT_small.dcm", download=False))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base/, adapter/ with nonzero numbers, and picture.png."""
    folder = tmp_path_factory.mktemp("desk")
    tokenizer = train_tokenizer([QUESTION, "yes no normal abnormal"], MICRO.vocab_size)
    save_base(build(MICRO, seed=3), tokenizer, MICRO, folder / "base")
    save_base(build(TINY, seed=3), tokenizer, TINY, folder / "tiny")
    base = load_base(folder / "base")
    model = attach(base.model, LoraSpec(rank=4), seed=0)
    layout = AdapterLayout(model)
    layout.write(model, np.random.default_rng(0).normal(0, 0.5, layout.size))
    save_adapter(model, folder / "adapter", base=base.content_hash.hex(), description="Two hospitals.")
    pixels = np.random.default_rng(1).integers(0, 256, (40, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")
    return folder


def ask(desk: Path, *more: str, adapter: bool = True) -> list[str]:
    named = ["--adapter", str(desk / "adapter")] if adapter else []
    return ["answer", "--base", str(desk / "base"), *named, "--question", QUESTION, "--device", "cpu", *more]


def run(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> Any:
    assert site_client.cli.main([*arguments, "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == "" and printed.out.count("\n") == 1
    return json.loads(printed.out)


def expected(base: BaseModel, model: Any, most: int, *images: np.ndarray) -> str:
    return answer(model, Example(QUESTION, "", images=images), base.tokenizer, base.spec, max_new_tokens=most)


def test_the_base_column_is_the_base_alone_and_the_adapter_changes_it(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = str(desk / "picture.png")
    facts = run(capsys, ask(desk, "--image", picture, "--max-new-tokens", "20"))
    pixels = np.asarray(Image.open(picture))
    base = load_base(desk / "base")
    assert facts["base"]["text"] == expected(base, base.model, 20, pixels)
    adapted = open_with_adapter(desk / "base", read_adapter(desk / "adapter"))
    assert facts["adapted"]["text"] == expected(adapted.base, adapted.model, 20, pixels)
    assert facts["base"]["text"] != facts["adapted"]["text"]
    assert facts["base"]["tokens"] == 20 and not facts["base"]["finished"] and facts["base"]["seconds"] > 0
    alone = run(capsys, ask(desk, "--image", picture, "--max-new-tokens", "20", adapter=False))
    assert alone["base"]["text"] == facts["base"]["text"] and alone["adapted"] is None and alone["adapter"] is None


def test_the_facts_beside_the_answers(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = run(capsys, ask(desk, "--max-new-tokens", "3"))
    assert facts["note"] == "research use only, not for clinical decisions" and facts["device"] == "cpu"
    assert facts["base_model"] == {"name": "micro", "content_hash": load_base(desk / "base").content_hash.hex()}
    assert facts["adapter"] == {"folder": str(desk / "adapter"), "description": "Two hospitals.", "rank": 4,
                                "alpha": 16, "groups": ["attention", "projector"], "names_base": True}  # fmt: skip
    assert facts["interrupted"] is False


def test_an_image_changes_the_answer_and_stands_where_the_question_says(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = load_base(desk / "base")
    question = "What is in <image> and <image> here?"
    facts = run(capsys, ["answer", "--base", str(desk / "base"), "--question", question, "--max-new-tokens", "8",
                         "--image", str(desk / "picture.png"), DICOM])  # fmt: skip
    from site_client.sources.picture import read_picture

    images = tuple(read_picture(Path(path)).pixels for path in (desk / "picture.png", DICOM))
    example = Example(question, "", images=images)
    assert facts["base"]["text"] == answer(base.model, example, base.tokenizer, base.spec, max_new_tokens=8)
    turned = Example(question, "", images=images[::-1])
    assert facts["base"]["text"] != answer(base.model, turned, base.tokenizer, base.spec, max_new_tokens=8)


def test_the_base_of_the_site_file(desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(json.dumps({"site_id": "a", "data": "d", "state": "s", "base_model": str(desk / "base"),
                                "invitation": "i", "policy": {"max_epsilon": 1.0}}))  # fmt: skip
    facts = run(capsys, ["answer", str(site), "--question", QUESTION, "--max-new-tokens", "2"])
    assert facts["base_model"]["name"] == "micro"


def test_a_question_from_standard_input(
    desk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["answer", "--base", str(desk / "base"), "--max-new-tokens", "4", "--question"]
    monkeypatch.setattr("sys.stdin", io.StringIO(QUESTION + "\n"))
    assert run(capsys, [*arguments, "-"])["base"]["text"] == run(capsys, [*arguments, QUESTION])["base"]["text"]
    monkeypatch.setattr("sys.stdin", io.StringIO("x" * 30_000))
    assert site_client.cli.main([*arguments, "-"]) == 2
    assert "longer than 20000 characters" in capsys.readouterr().err


def test_plain_lines_where_there_is_no_terminal(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert site_client.cli.main(ask(desk, "--image", DICOM, "--max-new-tokens", "9")) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[0] == "RESEARCH USE ONLY, NOT FOR CLINICAL DECISIONS" and "\x1b" not in text
    assert load_base(desk / "base").content_hash.hex() in lines[1] and "Two hospitals." in lines[2]
    assert "image 1   CT_small.dcm, 128 x 128, full range of the values: the file names no window" in text
    assert text.index("--- base") < text.index("--- with adapter") and text.count("[9 tokens in ") == 2


REFUSALS: dict[str, tuple[list[str], str]] = {
    "no base": (["answer", "--question", "x"], "give --base DIR, or the SITE_FILE"),
    "site file": (["answer", "nowhere.yaml", "--question", "x"], "nowhere.yaml does not exist"),
    "base": (["answer", "--base", "nowhere", "--question", "x"], "No base model in nowhere"),
    "adapter": (["answer", "--base", "BASE", "--adapter", "nowhere", "--question", "x"], "nowhere does not exist"),
    "no base for it": (["answer", "--base", "nowhere", "--adapter", "ADAPTER", "--question", "x"], "No base model"),
    "question": (["answer", "--base", "BASE", "--question", " \n"], "question is empty"),
    "image": (["answer", "--base", "BASE", "--question", "x", "--image", "nowhere.png"], "nowhere.png does not exist"),
    "no image": (["answer", "--base", "BASE", "--question", "x", "--image", __file__], "PNG, JPEG or DICOM"),
    "many": (["answer", "--base", "BASE", "--question", "x", "--image", *["a"] * 9], "at most 8"),
    "places": (["answer", "--base", "BASE", "--question", "<image>"], "1 times <image> and there are 0 images"),
    "long": (["answer", "--base", "BASE", "--question", "x " * 500], "longer than this model's 192 tokens"),
    "images long": (["answer", "--base", "TINY", "--question", "x", "--image", *["PNG"] * 3], "longer than this"),
    "context": (["answer", "--base", "BASE", "--question", "x", "--max-new-tokens", "1020"], "context of 1024 tokens"),
    "tokens": (["answer", "--base", "BASE", "--question", "x", "--max-new-tokens", "0"], "at least 1"),
    "cuda": (["answer", "--base", "BASE", "--question", "x", "--device", "cuda"], "no CUDA device"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    desk: Path, case: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    places = {"BASE": str(desk / "base"), "ADAPTER": str(desk / "adapter"), "PNG": str(desk / "square.png"),
              "TINY": str(desk / "tiny")}
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(places["PNG"])  # 5 tiles, 80 tokens of TINY
    arguments, sentence = REFUSALS[case]
    assert site_client.cli.main([places.get(word, word) for word in arguments]) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err and printed.err.count("\n") == 1 and printed.out == ""


def test_memory_that_runs_out_is_a_sentence(
    desk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    errors = {MemoryError(): "memory of this machine", torch.OutOfMemoryError(): "GPU's memory",
              RuntimeError("DefaultCPUAllocator: can't allocate memory"): "memory of this machine"}  # fmt: skip
    for error, sentence in errors.items():
        def fail(*_: Any, raised: BaseException = error, **__: Any) -> None:
            raise raised

        monkeypatch.setattr("model.backbone.load_base", fail)
        assert site_client.cli.main(ask(desk, adapter=False)) == 2
        assert sentence in capsys.readouterr().err


# --- what is on the screen


def column(title: str, words: list[str], end: int = 2) -> Column:
    def stream() -> Iterator[AnswerPiece]:
        yield from (AnswerPiece(5, word) for word in words)
        yield AnswerPiece(end, "")

    return Column(title, stream(), 2)


def drawn(columns: list[Column], width: int, height: int = 40) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=height, color_system=None)
    assert show_live(columns, console)
    file: Any = console.file
    return str(file.getvalue())


def test_columns_stand_side_by_side_or_one_above_the_other() -> None:
    def final(width: int) -> str:
        text = drawn([column("base", ["left ", "word"]), column("with adapter", ["right"])], width)
        return text[text.rindex("base") :]

    wide, narrow = final(100), final(60)
    assert any("left word" in line and "right" in line for line in wide.splitlines())
    assert not any("left word" in line and "right" in line for line in narrow.splitlines())
    assert narrow.index("left word") < narrow.index("right")
    assert "2 tokens in" in wide and "1 token in" in wide and "cut" not in wide


def test_tokens_appear_one_after_the_other_and_the_shorter_answer_waits() -> None:
    text = drawn([column("base", ["one ", "two ", "three"]), column("with adapter", ["uno"])], 100)
    first, second, third = (text.index(part) for part in ("one ", "one two ", "one two three"))
    assert first < second < third and "uno" in text[:second] and "uno" in text[third:]


def test_a_tall_answer_shows_its_end_while_it_grows_and_all_of_it_at_last() -> None:
    words = [f"line{number}\n" for number in range(30)]
    text = drawn([column("base", words)], 100, height=16)
    frames = text.split("base")[1:]
    assert all(frame.count("\n") < 16 for frame in frames[:-2])
    assert "line29" in frames[-3] and "line0 " not in frames[-3]
    assert all(f"line{number} " in frames[-1] for number in range(30))


def test_what_would_steer_the_terminal_is_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    assert printable("a\x1b[2Jb\u202ec\td\ne\x9b1m肺") == "a�[2Jb�c\td\ne�1m肺"
    assert show_plain([column("base", ["\x1b]0;x\x07"])]) and "\x1b" not in capsys.readouterr().out
    assert "\x1b]0;" not in drawn([column("base", ["\x1b]0;x\x07"])], 100)


def test_an_interrupted_stream_keeps_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    def stream() -> Iterator[AnswerPiece]:
        yield AnswerPiece(5, "so far")
        raise KeyboardInterrupt

    assert not show_plain([Column("base", stream(), 2), column("with adapter", ["never"])])
    text = capsys.readouterr().out
    assert "so far\n[1 token in 0.00 s, interrupted]" in text and "never" not in text


# --- as a real process


def process(code: str) -> list[str]:
    return [sys.executable, "-c", f"import sys\n{code}"]


def test_help_needs_no_torch_and_speaks_of_privacy() -> None:
    code = ("from site_client.cli import main\ntry:\n    main(['answer', '--help'])\nexcept SystemExit:\n    pass\n"
            "print([name for name in ('torch', 'peft', 'numpy', 'pydicom', 'PIL', 'rich') if name in sys.modules])")
    result = subprocess.run(process(code), cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.endswith("[]\n")
    text = " ".join(result.stdout.split())
    assert "Nothing is sent anywhere" in text and "not for clinical decisions" in text


def test_nothing_is_sent_and_nothing_is_written(desk: Path, tmp_path: Path) -> None:
    """The interpreter's own audit events, from the first line to the last. Two belong to imports, whatever is asked:
    urllib3 binds a socket of this machine to see whether it has IPv6, torch makes an empty folder."""
    code = (
        "import os\nseen = []\n"
        "def hook(event, values):\n"
        "    if event in ('socket.connect', 'socket.sendto', 'socket.getaddrinfo', 'socket.bind', 'os.mkdir',\n"
        "                 'os.rename', 'subprocess.Popen', 'os.system', 'os.posix_spawn'):\n"
        "        if not (event == 'socket.bind' and values[1] == ('::1', 0) or 'torchinductor' in str(values[0])):\n"
        "            seen.append((event, str(values)))\n"
        "    if event == 'open' and isinstance(values[0], (str, bytes)) and (\n"
        "            (isinstance(values[1], str) and set(values[1]) & set('wax+')) or\n"
        "            (isinstance(values[2], int) and values[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))):\n"
        "        seen.append((event, str(values)))\n"
        "sys.addaudithook(hook)\n"
        "from site_client.cli import main\n"
        f"code = main({ask(desk, '--image', DICOM, '--max-new-tokens', '5', '--json')!r})\n"
        "print(repr(seen), file=sys.stderr)\nsys.exit(code)\n")
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    result = subprocess.run(process(code), cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["adapted"]["tokens"] == 5
    assert result.stderr.strip().splitlines()[-1] == "[]"
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_on_a_terminal_leaves_what_there_is(desk: Path) -> None:
    controller, terminal = pty.openpty()
    code = f"from site_client.cli import main\nsys.exit(main({ask(desk, '--max-new-tokens', '900')!r}))"
    environment = {**os.environ, "COLUMNS": "100", "LINES": "30", "TERM": "xterm", "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(process(code), cwd=ROOT, stdin=terminal, stdout=terminal, stderr=terminal,
                             env=environment, start_new_session=True)  # fmt: skip
    os.close(terminal)
    seen, deadline = "", time.monotonic() + 200
    try:
        while time.monotonic() < deadline:
            if select.select([controller], [], [], 0.2)[0]:
                try:
                    part = os.read(controller, 65536).decode(errors="replace")
                except OSError:  # the other end is closed
                    break
                before, seen = seen, seen + part
                if "10 tokens" in seen and "10 tokens" not in before:
                    child.send_signal(signal.SIGINT)
        assert child.wait(timeout=30) == 130
    finally:
        child.kill()
        child.wait()
        os.close(controller)
    last = seen[seen.rindex("base ") :]
    assert last.count("interrupted") == 2 and "Traceback" not in seen and "with adapter" in last
