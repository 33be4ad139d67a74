"""`coordinator make-base`: from published folders to a base model and its hash; a mistake leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from coordinator.cli import main
from model.backbone import hash_model, load_base
from model.example_file import save_examples
from model.inputs import Example
from model.tokenizer import save_tokenizer, train_tokenizer
from tests.vectors import make_checkpoints as made


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """medgpt-oss with its tokenizer, gpt-oss, clip, and a tokenizer for both."""
    folder = tmp_path_factory.mktemp("published")
    made.write_upstream(folder / "medgpt-oss")
    made.write_stock(folder / "gpt-oss")
    made.write_clip(folder / "clip")
    for path in (folder / "tokenizer.json", folder / "medgpt-oss" / "tokenizer.json"):
        save_tokenizer(train_tokenizer(["Is it bright? The lungs are clear."], made.TINY.vocab), path)
    return folder


def test_medgpt_oss_in_shards(published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "base"
    assert main(["make-base", "--from", "medgpt-oss", "--experts", "mxfp4", "--shard-gib", "0.0001",
                 str(published / "medgpt-oss"), str(out)]) == 0
    said = capsys.readouterr()
    assert "CC BY-NC 4.0" in said.out and "writing: 100%" in said.err
    assert main(["hash-model", str(out)]) == 0
    digest = capsys.readouterr().out.strip()
    assert digest in said.out and digest == hash_model(out).hex()
    base = load_base(out)
    assert (base.spec.experts, base.spec.projector) == ("mxfp4", "internvl")
    assert len(list(out.glob("*.safetensors"))) > 1
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o644} and out.stat().st_mode & 0o777 == 0o755
    assert main(["hash-model", str(published / "medgpt-oss")]) == 0
    assert capsys.readouterr().out.strip() == load_base(published / "medgpt-oss").content_hash.hex() != digest


def composed(published: Path, out: Path, *options: str) -> list[str]:
    return ["make-base", "--from", "gpt-oss+clip", "--tokenizer", str(published / "tokenizer.json"), *options,
            str(published / "gpt-oss"), str(published / "clip"), str(out)]


def test_stock_parts_with_a_projector_new_given_or_trained(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(composed(published, tmp_path / "new")) == 0
    assert "images mean nothing to this model" in capsys.readouterr().err
    new = load_base(tmp_path / "new").model.state_dict()
    assert new["model.language_model.layers.0.mlp.experts.down_proj_blocks"].dtype == torch.uint8
    projector = {name.rpartition("projector.")[2]: one for name, one in new.items() if "projector" in name}
    save_file({name: one * 2 for name, one in projector.items()}, tmp_path / "p.safetensors")
    assert main(composed(published, tmp_path / "given", "--projector", str(tmp_path / "p.safetensors"))) == 0
    given = load_base(tmp_path / "given").model.state_dict()
    assert torch.equal(given["model.multi_modal_projector.linear_1.weight"], 2 * projector["linear_1.weight"])
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(4)]
    save_examples(tmp_path / "public.npz", [Example("Is it bright?", "no", ("no", "yes"), (one,)) for one in images])
    capsys.readouterr()
    for name in ("trained", "again"):
        assert main(composed(published, tmp_path / name, "--train-projector", str(tmp_path / "public.npz"), "--epochs",
                             "2", "--batch-size", "2")) == 0
    said = capsys.readouterr().err
    assert "training the projector: 100% loss" in said and "mean nothing" not in said
    trained = load_base(tmp_path / "trained").model.state_dict()
    changed = {name for name in new if not torch.equal(new[name], trained[name])}
    assert changed == {f"model.multi_modal_projector.{name}" for name in projector}
    assert hash_model(tmp_path / "trained") == hash_model(tmp_path / "again") != hash_model(tmp_path / "new")


def test_a_mistake_is_one_sentence_and_leaves_nothing(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, medgpt = str(tmp_path / "base"), str(published / "medgpt-oss")
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_bytes((published / "medgpt-oss" / "config.json").read_bytes())
    (tmp_path / "pickled" / "tokenizer.json").write_bytes((published / "tokenizer.json").read_bytes())
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"\x80")
    (tmp_path / "p.safetensors").write_bytes(b"short")
    start = ["make-base", "--from", "medgpt-oss"]
    for arguments, text in (
            ([*start, medgpt], "takes PATH OUT"), ([*start, medgpt, medgpt], "exists and is never replaced"),
            ([*start, medgpt, "--projector", "x"], "takes PATH OUT"),
            ([*start, "--projector", "x", medgpt, out], "its own projector"),
            ([*start, str(published / "gpt-oss"), out], "no base model by itself"),
            ([*start, str(published / "gone"), out], r"config.json is missing"),
            ([*start, str(tmp_path / "pickled"), out], "pickled checkpoint"),
            (composed(published, tmp_path / "base", "--projector", str(tmp_path / "p.safetensors")), "is damaged"),
            (composed(published, tmp_path / "base", "--train-projector", "x", "--device", "xyz"), "xyz is not there"),
            (composed(published, tmp_path / "base", "--train-projector", str(tmp_path / "x.npz")), "cannot be read")):
        before = sorted(tmp_path.iterdir())
        assert main(arguments) == 2, arguments
        said = capsys.readouterr().err
        assert text in said and "Traceback" not in said, said
        assert sorted(tmp_path.iterdir()) == before


def test_numbers_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    for option, value in (("--epochs", "0"), ("--shard-gib", "-1"), ("--shard-gib", "x"), ("--from", "other")):
        with pytest.raises(SystemExit):
            main(["make-base", "--from", "medgpt-oss", option, value, "a", "b"])
        assert value in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    code = ("import contextlib, io, sys\nfrom coordinator.cli import main\n"
            "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as out:\n"
            "    main(['make-base', '--help'])\n"
            "assert 'PATH CLIP_PATH OUT' in out.getvalue()\n"
            "print([one for one in ('torch', 'transformers', 'safetensors', 'numpy', 'rich') if one in sys.modules])")
    root = Path(__file__).resolve().parents[2]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
