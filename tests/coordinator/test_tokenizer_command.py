"""`coordinator make-tokenizer`: a file that loads as the full model's tokenizer, or one sentence and no file."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import coordinator.cli
from model.backbone import check_tokenizer
from model.harmony_vocabulary import find_ranks
from model.spec import MEDGPT_OSS_20B
from model.tokenizer import load_tokenizer, save_tokenizer, special_id

ROOT = Path(__file__).resolve().parents[2]


def make(*arguments: str | Path) -> int:
    return coordinator.cli.main(["make-tokenizer", *map(str, arguments)])


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one sentence of a refusal."""
    assert make(*arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and printed.err.startswith("coordinator: ")
    return printed.err


def test_it_writes_the_full_models_tokenizer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tokenizer.json"
    assert make(out) == 0
    tokenizer = load_tokenizer(out)
    check_tokenizer(tokenizer, MEDGPT_OSS_20B)
    assert tokenizer.get_vocab_size() == MEDGPT_OSS_20B.vocab_size
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    assert capsys.readouterr().out == f"{out}: 201088 tokens, SHA-256 {digest}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"] and out.stat().st_mode & 0o777 == 0o644
    save_tokenizer(tokenizer, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == out.read_bytes()


def test_ranks_from_a_file_and_a_smaller_vocabulary(tmp_path: Path) -> None:
    ranks, out = tmp_path / "o200k_base.tiktoken", tmp_path / "tokenizer.json"
    ranks.write_bytes(gzip.decompress(find_ranks().read_bytes()))
    assert make("--ranks", ranks, "--vocab-size", "200028", out) == 0
    tokenizer = load_tokenizer(out)
    assert tokenizer.get_vocab_size() == 200_028
    assert special_id(tokenizer, "<IMG_CONTEXT>") == MEDGPT_OSS_20B.image_token_id


def test_no_package_and_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    said = refused(capsys, tmp_path / "tokenizer.json")
    assert "install bpe-openai==0.1.4 or name a file" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"IQ== 0\n", "is not o200k_base.tiktoken"), (b"\x1f\x8b\x08damaged", "is damaged"), (None, "no ranks file")])
def test_ranks_that_are_none(
    content: bytes | None, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ranks, out = tmp_path / "ranks", tmp_path / "tokenizer.json"
    if content is not None:
        ranks.write_bytes(content)
    assert expected in refused(capsys, "--ranks", ranks, out)
    assert not out.exists()


def test_an_existing_file_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tokenizer.json"
    out.write_text("mine")
    assert "exists and is never replaced" in refused(capsys, out)
    assert out.read_text() == "mine"
    dangling = tmp_path / "link.json"
    dangling.symlink_to(tmp_path / "nowhere")
    assert "exists and is never replaced" in refused(capsys, dangling)


def test_other_mistakes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "does not exist; make it first" in refused(capsys, tmp_path / "no" / "tokenizer.json")
    assert "at least 200028 entries" in refused(capsys, "--vocab-size", "200019", tmp_path / "tokenizer.json")


def test_help_imports_no_tokenizer_library() -> None:
    code = ("import contextlib, io, sys\nfrom coordinator.cli import main\n"
            "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as out:\n"
            "    main(['make-tokenizer', '--help'])\n"
            "assert '--ranks' in out.getvalue()\n"
            "print([name for name in ('tokenizers', 'torch', 'transformers', 'numpy') if name in sys.modules])\n")
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
