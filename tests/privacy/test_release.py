"""The release hash covers code and data of our packages, the environment hash what the libraries' wheels recorded."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

import coordinator.cli
import site_client.cli
from privacy import release
from privacy.release import PACKAGES, Library, describe_release, environment_hash, files_hash, release_hash

ROOT = Path(__file__).resolve().parents[2]
OWN = ("configs/schema.py", "configs/curriculum/smoke.yaml", "privacy/secagg/client.py", "site_client/cli.py")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in OWN:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def test_the_hash_is_of_the_files_beside_this_module() -> None:
    assert release_hash() == files_hash(ROOT) and re.fullmatch("[0-9a-f]{64}", release_hash())


@pytest.mark.parametrize("name", OWN)
def test_a_change_of_content_name_or_presence_is_seen(tree: Path, name: str) -> None:
    hashes = {files_hash(tree)}
    path = tree / name
    path.write_text("changed")
    hashes.add(files_hash(tree))
    path.rename(path.with_name(f"other{path.suffix}"))
    hashes.add(files_hash(tree))
    path.with_name(f"other{path.suffix}").unlink()
    hashes.add(files_hash(tree))
    assert len(hashes) == 4


def test_a_planted_file_is_seen_and_what_is_no_code_is_not(tree: Path) -> None:
    before = files_hash(tree)
    (tree / "privacy" / "__pycache__").mkdir()
    for name in ("privacy/__pycache__/x.cpython-311.pyc", "privacy/README.md", "tests.py"):
        (tree / name).write_text("x")
    assert files_hash(tree) == before
    for package in PACKAGES:
        (tree / package / "deep").mkdir(parents=True, exist_ok=True)
        (tree / package / "deep" / "planted.py").write_text("x")
        assert files_hash(tree) != before
        (tree / package / "deep" / "planted.py").unlink()
    assert files_hash(tree) == before


def test_bytes_cannot_move_between_two_files(tree: Path) -> None:
    (tree / "privacy" / "a.py").write_text("12")
    (tree / "privacy" / "b.py").write_text("3")
    before = files_hash(tree)
    (tree / "privacy" / "a.py").write_text("1")
    (tree / "privacy" / "b.py").write_text("23")
    assert files_hash(tree) != before


def test_every_file_of_the_packages_that_is_read_at_run_time_is_hashed() -> None:
    found = {path.suffix for package in PACKAGES for path in (ROOT / package).rglob("*")
             if path.is_file() and "__pycache__" not in path.parts}
    assert found - {".md"} <= release.HASHED_SUFFIXES


def test_the_libraries_are_the_projects_dependencies() -> None:
    lines = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    assert sorted(line.split("==")[0] for line in lines) == list(release.LIBRARIES)


# A RECORD as pip writes it after it has installed a wheel.
WHEEL = ["lib/__init__.py,sha256=AAA,10", '"lib/a,b.py",sha256=BBB,20', "lib-1.dist-info/METADATA,sha256=CCC,30"]
LOCAL = ["../../../bin/tool,sha256=DDD,200", "lib/__pycache__/__init__.cpython-311.pyc,,", "lib/x.pyc,sha256=EEE,1",
         "lib-1.dist-info/INSTALLER,sha256=FFF,4", "lib-1.dist-info/REQUESTED,sha256=GGG,0",
         "lib-1.dist-info/direct_url.json,sha256=HHH,9", "lib-1.dist-info/RECORD,,"]


def installed(monkeypatch: pytest.MonkeyPatch, lines: list[str] | None, version: str = "1") -> str:
    """The environment hash of a machine where every library has this RECORD."""
    record = None if lines is None else "\n".join(lines) + "\n"
    one = SimpleNamespace(version=version, read_text=lambda name: record)
    monkeypatch.setattr(metadata, "distribution", lambda name: one)
    for cached in (release.installed_libraries, environment_hash):
        cached.cache_clear()
    return environment_hash()


@pytest.fixture(autouse=True)
def fresh() -> None:
    for cached in (release.installed_libraries, environment_hash):
        cached.cache_clear()


def test_the_environment_hash_is_of_the_wheels_and_not_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = installed(monkeypatch, WHEEL)
    assert installed(monkeypatch, [*reversed(LOCAL), *reversed(WHEEL)]) == plain
    others = [installed(monkeypatch, [WHEEL[0].replace("AAA", "ZZZ"), *WHEEL[1:]]), installed(monkeypatch, WHEEL[1:]),
              installed(monkeypatch, WHEEL, "2"), installed(monkeypatch, [*WHEEL, "lib/more.py,sha256=XXX,1"]),
              installed(monkeypatch, None)]
    assert len({plain, *others}) == 6


def test_what_is_missing_or_without_a_record_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, None)
    assert {library.files_hash for library in release.installed_libraries()} == {"no record"}

    def gone(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", gone)
    release.installed_libraries.cache_clear()
    assert release.installed_libraries()[0] == Library(release.LIBRARIES[0], "", "not installed")
    assert "not installed" in describe_release()


def test_both_commands_print_both_hashes(capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for main in (coordinator.cli.main, site_client.cli.main):
        assert main(["release", "--json"]) == 0 == main(["release"])
        facts, *text = capsys.readouterr().out.splitlines()
        printed.append((json.loads(facts), text))
    assert printed[0] == printed[1]
    facts, text = printed[0]
    assert facts["release_hash"] == release_hash() and facts["environment_hash"] == environment_hash()
    assert text[0].endswith(release_hash()) and text[1].endswith(environment_hash())
    assert {one["name"]: one["version"] for one in facts["libraries"]}["flwr"] == metadata.version("flwr")


def test_the_command_loads_no_library() -> None:
    code = ("import sys; from site_client.cli import main; main(['release']); "
            "sys.exit(bool({'torch', 'flwr', 'transformers', 'peft', 'numpy'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_a_copy_elsewhere_has_the_same_hash(tmp_path: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package)
    assert files_hash(tmp_path) == release_hash()
