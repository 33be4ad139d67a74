"""The project as an application: pins that agree, packages listed one by one, and a wheel that works on its own."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from model.smollm2 import PACKAGE, VERSION
from simulations.packages import package_facts

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = ["coordinator", "site_client", "model", "privacy", "configs", "simulations"]
COMMANDS = ["simulate", "coordinator", "site-client"]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """{distribution: version} of the `name==version` lines."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s#]+)", text, re.MULTILINE)
    return {normal(name): version for name, version in found}


def declared() -> dict[str, str]:
    """Every requirement of the project and its extras; each has to be pinned exactly."""
    project = PROJECT["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[0-9][0-9a-z.]*", line), f"{line} is not an exact pin"
    return pins("\n".join(re.sub(r"\[.*?\]", "", line) for line in lines))


def test_every_dependency_is_pinned_and_constraints_agree() -> None:
    constraints = pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    assert {name: constraints.get(name) for name in declared()} == declared()


def test_constraints_hold_exact_versions_only() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
             if line and not line.startswith("#")]
    assert lines and all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line) for line in lines)


def test_the_makefile_installs_the_pinned_torch_and_never_a_plain_one() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"torch[=<>~ ]=?[=\w.]*", re.sub(r"#.*", "", text)))
    assert f"torch=={declared()['torch']}" in named
    assert re.search(r"\$\(PIP\)[^\n]* torch(?!==)", text) is None


def test_data_packages_are_those_that_the_readers_know() -> None:
    listed = pins((ROOT / "data-packages.txt").read_text(encoding="utf-8"))
    known = {normal(name): facts["version"] for name, facts in package_facts().items()}
    assert listed == known
    assert not set(listed) & set(declared())  # their own dependencies must stay out


def test_the_model_package_is_the_one_that_its_reader_knows() -> None:
    listed = pins((ROOT / "model-packages.txt").read_text(encoding="utf-8"))
    assert listed == {PACKAGE: VERSION}
    assert PACKAGE not in declared()  # its own dependencies must stay out


def test_the_wheel_lists_every_package_and_nothing_else() -> None:
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert sorted(wheel) == sorted(PACKAGES)
    assert PROJECT["tool"]["hatch"]["build"]["dev-mode-exact"] is True
    with_init = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert with_init <= {*PACKAGES, "benchmarks"}
    assert sorted(PROJECT["tool"]["importlinter"]["root_packages"]) == sorted(PACKAGES)


def test_console_scripts_exist() -> None:
    scripts = PROJECT["project"]["scripts"]
    assert sorted(scripts) == sorted(COMMANDS)
    for target in scripts.values():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_make_help_describes_every_target() -> None:
    result = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("demo", "test", "test-slow", "lint", "clean"):
        assert re.search(rf"make {target} +\S+", result.stdout)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--wheel-dir", str(folder), str(ROOT)], check=True, timeout=200)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_the_packages_with_their_yaml_and_no_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == set(PACKAGES)
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if path.suffix in (".py", ".yaml"):
                assert path.relative_to(ROOT).as_posix() in names
    assert not [name for name in names if "test" in name or name.endswith((".pyc", ".key", ".sqlite"))]


@pytest.mark.slow
def test_help_works_from_a_wheel_without_any_dependency_and_in_a_hostile_folder(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    site_packages = next(environment.glob("lib/python*/site-packages"))
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps",
                    "--no-index", "--target", str(site_packages), str(wheel)], check=True)
    hostile = tmp_path / "hostile"
    for package in PACKAGES:
        (hostile / package).mkdir(parents=True)
        (hostile / package / "__init__.py").write_text("raise SystemExit('the wrong package was imported')")
    for command in COMMANDS:
        module, _, function = PROJECT["project"]["scripts"][command].partition(":")
        code = f"import sys; from {module} import {function} as main; sys.exit(main(['--help']))"
        # -P keeps the current folder off the path, as a console script does
        result = subprocess.run([str(environment / "bin" / "python"), "-P", "-c", code], cwd=hostile,
                                capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        assert "usage:" in result.stdout
