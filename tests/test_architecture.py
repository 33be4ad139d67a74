"""The charter as tests: import contracts, what privacy code may call, sizes, names and documentation.

Each rule looks at one parsed module and is shown to fail on a planted counter-example, so a rule that stopped
looking would be noticed.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("coordinator", "site_client", "model", "privacy", "configs", "simulations", "benchmarks")
FORBIDDEN_NAMES = {"utils", "helpers", "common", "manager", "base"}
HEADINGS = ("guarantees", "assumes", "does not cover")
RANDOM_CALLS = re.compile(
    r"(numpy|np)\.random(\.|$)|(^|\.)default_rng$|(^|\.)RandomState$"
    r"|torch\.(rand|normal|bernoulli|multinomial|poisson|manual_seed|seed|Generator|random)"
    r"|\.(normal_|uniform_|bernoulli_|random_|cauchy_|exponential_|geometric_|log_normal_)$")
CODE_LOADERS = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


@dataclass(frozen=True)
class Module:
    """One Python file: its path inside the repository, its text and its syntax tree."""

    path: PurePosixPath
    text: str
    tree: ast.Module

    @property
    def package(self) -> str:
        return self.path.parts[0]

    @property
    def is_init(self) -> bool:
        return self.path.name == "__init__.py"


Check = Callable[[Module], Iterator[str]]


def parse(path: str, text: str) -> Module:
    return Module(PurePosixPath(path), text, ast.parse(text))


def modules(*folders: str) -> list[Module]:
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [parse(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in files]


def dotted(node: ast.expr) -> str:
    """`a.b.c` of an attribute chain; the start is left out where it is not a plain name."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def imported(module: Module) -> Iterator[str]:
    """Every imported name, dotted: `import a.b` -> a.b, `from a import b` -> a.b."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module or ''}.{alias.name}" for alias in node.names)


def referenced(module: Module) -> Iterator[str]:
    """Every imported name and every attribute chain."""
    yield from imported(module)
    yield from (dotted(node) for node in ast.walk(module.tree) if isinstance(node, ast.Attribute))


def functions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from (n for n in ast.walk(module.tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def one_random_source(module: Module) -> Iterator[str]:
    if module.package != "privacy":
        return
    for name in referenced(module):
        if name.split(".")[0] in ("random", "secrets", "uuid") or RANDOM_CALLS.search(name):
            yield f"uses {name}; randomness for privacy comes from privacy.entropy"
        if name.endswith("urandom") and module.path != PurePosixPath("privacy/entropy.py"):
            yield "calls os.urandom; only privacy.entropy does"


def no_assert_for_privacy(module: Module) -> Iterator[str]:
    if module.package == "privacy":
        yield from (f"line {node.lineno}: assert vanishes under -O; raise instead"
                    for node in ast.walk(module.tree) if isinstance(node, ast.Assert))


def no_code_from_data(module: Module) -> Iterator[str]:
    if module.package == "tests":  # tests prove that secrets cannot be pickled
        return
    for name in referenced(module):
        if name.split(".")[0] in CODE_LOADERS or re.search(r"^torch\.load$|torch\.(jit|package|hub)\b", name):
            yield f"uses {name}; weights are safetensors, nothing read may run code"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.keyword) and node.arg in ("trust_remote_code", "allow_pickle") and not (
                isinstance(node.value, ast.Constant) and node.value.value is False):
            yield f"passes {node.arg}; only False is allowed"
        if isinstance(node, ast.Call) and dotted(node.func) in ("eval", "exec"):
            yield f"calls {dotted(node.func)}"


def file_size(module: Module) -> Iterator[str]:
    lines = module.text.count("\n")
    if lines > 400:
        yield f"{lines} lines; at most 400"


def function_size(module: Module) -> Iterator[str]:
    for function in functions(module):
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        if lines > 60:
            yield f"{function.name} has {lines} lines; at most 60"


def module_names(module: Module) -> Iterator[str]:
    for part in (*module.path.parts[:-1], module.path.stem):
        if FORBIDDEN_NAMES & {part, *part.split("_")[-1:]}:
            yield f"{part} says nothing; name what is in it"


def no_test_packages(module: Module) -> Iterator[str]:
    if module.package == "tests" and module.is_init:
        yield "makes pytest import the test folder instead of the package"


def documented_modules(module: Module) -> Iterator[str]:
    if module.package == "tests":
        return
    if not ast.get_docstring(module.tree):
        yield "has no docstring"
    if module.is_init:
        if len(module.tree.body) > 1:
            yield "holds more than a docstring"
    elif not exported(module):
        yield "has no __all__"


def exported(module: Module) -> list[str]:
    """The names in `__all__`, if it is a plain list of strings."""
    for node in module.tree.body:
        if isinstance(node, ast.Assign) and [dotted(target) for target in node.targets] == ["__all__"]:
            return [str(item) for item in ast.literal_eval(node.value)]
    return []


def documented_names(module: Module) -> Iterator[str]:
    if module.package == "tests":
        return
    public = set(exported(module))
    for node in module.tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name in public:
            if not ast.get_docstring(node):
                yield f"{node.name} is public and has no docstring"
            public.discard(node.name)
    known = {name.split(".")[-1] for name in imported(module)} | set(assigned(module))
    yield from (f"__all__ names {name}, which is not defined" for name in sorted(public - known))


def assigned(module: Module) -> Iterator[str]:
    for node in module.tree.body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield from (n.id for n in ast.walk(target) if isinstance(n, ast.Name))
        elif isinstance(node, ast.AnnAssign):
            yield dotted(node.target)


def privacy_headings(module: Module) -> Iterator[str]:
    if module.package != "privacy" or module.is_init:
        return
    text = (ast.get_docstring(module.tree) or "").lower()
    yield from (f"docstring lacks the heading {heading!r}" for heading in HEADINGS if heading not in text)


# rule -> (path, text) of modules that break it
PLANTED: dict[Check, list[tuple[str, str]]] = {
    one_random_source: [
        ("privacy/x.py", "import random"), ("privacy/dp/x.py", "import secrets"),
        ("privacy/x.py", "from secrets import token_bytes"),
        ("privacy/x.py", "import numpy as np\nnp.random.normal()"),
        ("privacy/x.py", "from numpy.random import default_rng"),
        ("privacy/x.py", "import numpy\nrng = numpy.random.default_rng(1)"),
        ("privacy/x.py", "import torch\ntorch.randn(3)"), ("privacy/x.py", "import torch\ntorch.normal(0, 1)"),
        ("privacy/x.py", "from torch import rand_like"), ("privacy/x.py", "x.weight.normal_()"),
        ("privacy/secagg/x.py", "import os\nos.urandom(32)"), ("privacy/x.py", "from os import urandom"),
    ],
    no_assert_for_privacy: [("privacy/x.py", "def f(a):\n    assert a")],
    no_code_from_data: [
        ("model/x.py", "import pickle"), ("coordinator/x.py", "from pickle import loads"),
        ("model/x.py", "torch.load(p)"),
        ("simulations/x.py", "f(trust_remote_code=True)"), ("model/x.py", "np.load(p, allow_pickle=flag)"),
        ("site_client/x.py", "eval(text)"), ("model/x.py", "import joblib"),
    ],
    file_size: [("tests/x.py", "x = 1\n" * 401)],
    function_size: [("model/x.py", "def f():\n" + "    x = 1\n" * 60)],
    module_names: [
        ("model/utils.py", ""), ("privacy/helpers.py", ""), ("coordinator/round_manager.py", ""),
        ("site_client/common/x.py", ""), ("tests/base.py", ""),
    ],
    no_test_packages: [("tests/model/__init__.py", "")],
    documented_modules: [
        ("model/x.py", "__all__ = ['a']\na = 1"), ("model/x.py", '"""Text."""\na = 1'),
        ("model/__init__.py", '"""Text."""\nfrom model.x import a'), ("model/__init__.py", ""),
    ],
    documented_names: [
        ("model/x.py", '"""T."""\n__all__ = ["f"]\ndef f(): ...'),
        ("model/x.py", '"""T."""\n__all__ = ["C"]\nclass C: ...'),
        ("model/x.py", '"""T."""\n__all__ = ["gone"]'),
    ],
    privacy_headings: [("privacy/x.py", '"""Guarantees a lot and assumes little."""')],
}


@pytest.fixture(scope="module")
def everything() -> list[Module]:
    return modules(*PACKAGES, "tests")


@pytest.mark.parametrize("rule", PLANTED, ids=lambda rule: rule.__name__)
def test_rule_holds(rule: Check, everything: list[Module]) -> None:
    broken = [f"{module.path}: {text}" for module in everything for text in rule(module)]
    assert not broken, "\n" + "\n".join(broken)


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [pytest.param(rule, *plant, id=f"{rule.__name__}-{i}") for rule, plants in PLANTED.items()
     for i, plant in enumerate(plants)])
def test_rule_sees_a_planted_violation(rule: Check, path: str, text: str) -> None:
    assert list(rule(parse(path, text)))


def test_rules_accept_a_clean_module() -> None:
    text = ('"""Text. Guarantees: x. Assumes: y. Does not cover: z."""\nimport os\n__all__ = ["f"]\n'
            'def f():\n    """What."""\n    return os.urandom(32)\n')
    clean = parse("privacy/entropy.py", text)
    assert not [found for rule in PLANTED for found in rule(clean)]


def test_every_package_was_looked_at(everything: list[Module]) -> None:
    assert {module.package for module in everything} >= set(PACKAGES) - {"benchmarks"}


# Import contracts. One planted line for each contract of pyproject.toml: (contract, file, line).
IMPORTS = [
    ("layers", "model/planted.py", "import coordinator.curriculum"),
    ("only the site touches patient files (pydicom)", "coordinator/planted.py", "import pydicom"),
    ("Flower stays at the edge", "model/planted.py", "import flwr"),
    ("what crosses the boundary never needs torch", "privacy/errors.py", "import torch"),
    ("only configs.load reads OmegaConf", "coordinator/planted.py", "import omegaconf"),
]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    # A wide terminal, so that no contract's name is wrapped.
    return subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-logo", "--no-cache"], cwd=folder, text=True,
        capture_output=True, check=False, env={"PATH": "/usr/bin:/bin", "COLUMNS": "300", "NO_COLOR": "1"})


def test_import_contracts_hold() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_planted_import_breaks_each_contract(tmp_path: Path) -> None:
    for package in PACKAGES[:-1]:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for _, file, line in IMPORTS:
        with (tmp_path / file).open("a", encoding="utf-8") as stream:
            stream.write(f"\n{line}\n")
    result = lint_imports(tmp_path)
    assert result.returncode != 0
    for contract, _, _ in IMPORTS:
        assert re.search(rf"^{re.escape(contract)}.* BROKEN$", result.stdout, re.MULTILINE), (contract, result.stdout)


def test_every_contract_has_a_planted_import() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    names = re.findall(r'\[\[tool\.importlinter\.contracts\]\]\nname = "(.+)"', text)
    assert len(names) == len(IMPORTS)
    assert all(name.startswith(contract) for name, (contract, _, _) in zip(names, IMPORTS, strict=True))
