#!/usr/bin/env python3
"""Switches off every refusal of the secure aggregation, one at a time: a test has to fail for each.

The secure aggregation is `privacy/secagg`, `privacy/results.py` and `privacy/roster.py`.

A refusal is found in the syntax tree, never by hand: every `raise`, every call made only because it may refuse, every
part of a condition that leads to a refusal, every result of a yes-or-no check. Each mutant runs in a copy of the
tree, in a process of its own. `.ci/mutants.json` is the reviewed list: who kills which mutant, and why a few cannot be
killed. `tests/test_mutation_list.py` compares it with the code.

Usage (`make mutation` runs it without arguments):
  .ci/mutation.py                run all mutants; exit code 1 if one survives that the list does not excuse
  .ci/mutation.py --list         print the mutants with their numbers
  .ci/mutation.py --only 3,17    run some of them
  .ci/mutation.py --new          run those that the list does not know or that have no killer
  .ci/mutation.py --write        run, then write the list (reasons are kept; new survivors get an empty one)
  .ci/mutation.py --json FILE    also write the outcomes to FILE
  .ci/mutation.py --jobs N       processes at once (2)
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / ".ci" / "mutants.json"
TARGETS = ("privacy/secagg/*.py", "privacy/results.py", "privacy/roster.py")
COPIED = ("privacy", "tests", "model", "configs", "site_client", "coordinator")  # one test trains as a site does
SUITE = ("tests/privacy/secagg/test_*.py", "tests/privacy/test_results.py", "tests/privacy/test_roster.py")
SKIPPED = {"test_evidence"}  # tests privacy/evidence.py, which is not mutated
ORDER = ("test_checks_plan", "test_checks", "test_client", "test_faulty_sites", "test_server", "test_results",
         "test_roster", "test_quantize", "test_params", "test_shamir", "test_keys", "test_masking",
         "test_vectors")  # the likeliest killers first; then the rest, and the slowest last
LAST = ("test_fuzz_steps",)
LIKELY = {"checks": ("test_checks_plan", "test_distributed_sums", "test_checks"), "rings": ("test_distributed_sums",),
          "params": ("test_params", "test_distributed_sums"),
          "client": ("test_client", "test_tags", "test_faulty_sites"),
          "dealing": ("test_faulty_sites", "test_hybrid"),
          "recovery": ("test_faulty_sites", "test_false_names", "test_hybrid"),
          # others: a test file of their name
          "server": ("test_server", "test_distributed_sums", "test_faulty_sites", "test_server_evidence")}
LIMIT_S = 300
TEST_LIMIT_S = 60  # a mutant may loop for ever
SIGNS: dict[type, str] = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
WIPES = {"abort", "_forget", "_forget_own"}  # refuse nothing, but a refusal is worth nothing without them


@dataclass(frozen=True)
class Mutant:
    """One refusal switched off: bytes [start, end) of a file are replaced."""

    file: str
    function: str
    refusal: str
    change: str
    nth: int
    start: int
    end: int

    @property
    def name(self) -> str:
        """What identifies it in the list; line numbers are left out, so that it outlives edits elsewhere."""
        again = f" #{self.nth}" if self.nth > 1 else ""
        return f"{self.file} {self.function}: {self.refusal} -> {self.change}{again}"


def called(node: ast.Call) -> str:
    """The last part of the called name."""
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def refusers(trees: list[ast.Module]) -> set[str]:
    """Names of the functions and classes that raise, themselves or through what they call."""
    calls: dict[str, set[str]] = {}
    names: set[str] = set()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                inner = list(ast.walk(node))
                calls.setdefault(node.name, set()).update(called(one) for one in inner if isinstance(one, ast.Call))
                if any(isinstance(one, ast.Raise) for one in inner):
                    names.add(node.name)
    while more := {name for name, used in calls.items() if name not in names and used & names}:
        names |= more
    return names


class Finder(ast.NodeVisitor):
    """Collects (node or nodes, replacement) of one file."""

    def __init__(self, file: str, text: bytes, names: set[str]) -> None:
        self.file, self.text, self.names = file, text, names
        self.lines = [0]
        for line in text.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))
        self.stack: list[str] = []
        self.is_bool = [False]
        self.found: list[Mutant] = []
        self.counts: Counter[tuple[str, str, str]] = Counter()

    def place(self, first: ast.AST, last: ast.AST) -> tuple[int, int]:
        start = self.lines[first.lineno - 1] + first.col_offset  # type: ignore[attr-defined]
        return start, self.lines[last.end_lineno - 1] + last.end_col_offset  # type: ignore[attr-defined]

    def source(self, node: ast.AST) -> str:
        start, end = self.place(node, node)
        return self.text[start:end].decode()

    def emit(self, node: ast.AST, change: str, last: ast.AST | None = None) -> None:
        start, end = self.place(node, last or node)
        function = ".".join(self.stack)
        refusal = " ".join(ast.unparse(node).split())
        refusal = refusal if len(refusal) <= 100 else refusal[:97] + "..."
        key = (function, refusal, change)
        if any((one.start, one.end, one.change) == (start, end, change) for one in self.found):
            return
        self.counts[key] += 1
        self.found.append(Mutant(self.file, function, refusal, change, self.counts[key], start, end))

    def scoped(self, node: ast.FunctionDef | ast.ClassDef, is_bool: bool) -> None:
        self.stack.append(node.name)
        self.is_bool.append(is_bool)
        self.generic_visit(node)
        self.stack.pop()
        self.is_bool.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.scoped(node, False)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.scoped(node, isinstance(node.returns, ast.Name) and node.returns.id == "bool")

    def visit_Raise(self, node: ast.Raise) -> None:
        self.emit(node, "pass")

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            name = called(node.value)
            if name in self.names or name in WIPES or name.startswith(("on_", "check_")):
                self.emit(node, "pass")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        wanted = {"_refuse": False, "_require": True}.get(called(node))
        if wanted is not None:
            self.parts(node.args[0], wanted)
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        last = node.body[-1]
        if isinstance(last, ast.Raise):
            self.parts(node.test, False)
        if self.is_bool[-1] and isinstance(last, ast.Return) and constant(last.value) is False:
            self.emit(node.test, "False")
            self.parts(node.test, False)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.parts(node.value, True)
        if isinstance(node.value, ast.BinOp) and isinstance(node.value.op, ast.BitAnd):
            sides = (node.value.left, node.value.right)
            if all(isinstance(side, ast.Call) and called(side) == "set" for side in sides):
                for side in sides:
                    self.emit(node.value, self.source(side))
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        if self.is_bool[-1] and node.value is not None:
            known = constant(node.value)
            accepts = "weak" not in self.stack[-1]  # what a check that accepts everything returns
            for change in (True, False):
                if (known is None and change is accepts) or known is (not change):
                    self.emit(node.value, str(change))
            self.parts(node.value, True)
            self.parts(node.value, False)
        self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if isinstance(node.body[-1], ast.Expr):
            self.emit(node.body[0], "pass", node.body[-1])
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for condition in node.ifs:
            self.emit(condition, "True")
            self.parts(condition, True)
        self.generic_visit(node)

    def parts(self, node: ast.expr, passes: bool) -> None:
        """Switch off parts of a condition one at a time; `passes` is the value that refuses nothing."""
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            self.parts(node.operand, not passes)
        elif isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And if passes else ast.Or):
            for operand in node.values:
                self.emit(operand, str(passes))
                self.parts(operand, passes)
        elif isinstance(node, ast.Compare) and isinstance(node.left, ast.Tuple):
            right = node.comparators[0]
            if isinstance(right, ast.Tuple) and isinstance(node.ops[0], ast.Eq | ast.NotEq):
                for ours, theirs in zip(node.left.elts, right.elts, strict=True):
                    self.emit(ours, self.source(theirs))
        elif isinstance(node, ast.Compare) and len(node.ops) > 1 and passes:
            values = [self.source(value) for value in (node.left, *node.comparators)]
            for left_out in range(len(node.ops)):  # a chain without one of its links
                links = [f"{a} {SIGNS[type(op)]} {b}" for a, op, b in zip(values, node.ops, values[1:], strict=False)]
                self.emit(node, f"({' and '.join(links[:left_out] + links[left_out + 1:])})")


def constant(node: ast.expr | None) -> object:
    """The value of a literal, else None."""
    return node.value if isinstance(node, ast.Constant) else None


def mutants(root: Path = ROOT) -> list[Mutant]:
    """Every mutant of the code as it is, in the order of the files."""
    paths = [path for target in TARGETS for path in sorted(root.glob(target))]
    texts = {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}
    trees = {file: ast.parse(text) for file, text in texts.items()}
    names = refusers(list(trees.values()))
    found: list[Mutant] = []
    for file, tree in trees.items():
        finder = Finder(file, texts[file], names)
        finder.visit(tree)
        found += sorted(finder.found, key=lambda one: (one.start, one.end))
    return found


def known() -> dict[str, dict[str, str]]:
    """The committed list: name -> {"killed by": test} or {"survives because": reason}."""
    return dict(json.loads(LIST.read_text())) if LIST.exists() else {}


class Tree:
    """A copy of the tree that one mutant at a time is planted in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".hypothesis"))
        shutil.copy(ROOT / "pyproject.toml", folder)

    def pytest(self, *tests: str) -> tuple[bool, str]:
        """(failed, the first test that failed); without tests nothing fails."""
        if not tests:
            return False, ""
        options = ["-x", "-q", "--tb=no", "-m", "not slow", f"--timeout={TEST_LIMIT_S}"]
        command = [sys.executable, "-B", "-m", "pytest", *options, *tests]
        environment = {**os.environ, "PYTHONPATH": ".", "OMP_NUM_THREADS": "1", "CI": "1"}  # CI: repeatable hypothesis
        try:
            done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True,
                                  timeout=LIMIT_S, check=False)
        except subprocess.TimeoutExpired:
            return True, "(time limit)"
        if done.returncode in (4, 5):  # the recorded killer is gone
            return False, ""
        hit = re.search(r"^(?:FAILED|ERROR) (\S+\.py(?:::.+?)?)(?: - |$)", done.stdout, re.MULTILINE)
        return done.returncode != 0, hit[1] if hit else ""

    def try_out(self, mutant: Mutant, killer: str) -> tuple[bool, str]:
        """Plant it, run its known killer, else everything; take it out again."""
        path = self.folder / mutant.file
        text = path.read_bytes()
        path.write_bytes(text[: mutant.start] + mutant.change.encode() + text[mutant.end :])
        try:
            if killer and not killer.startswith("("):
                failed, test = self.pytest(killer.split("[")[0])
                if failed:
                    return True, test or killer
            stem, suite = Path(mutant.file).stem, self.suite()
            likely = LIKELY.get(stem, (f"test_{stem}",))
            first = [file for file in suite if Path(file).stem in likely]
            failed, test = self.pytest(*first)
            return (True, test) if failed else self.pytest(*(file for file in suite if file not in first))
        finally:
            path.write_bytes(text)

    def suite(self) -> list[str]:
        """All test files, the likeliest killers first."""
        rank = {name: place for place, name in enumerate(ORDER)} | dict.fromkeys(LAST, len(ORDER) + 1)
        files = [path for part in SUITE for path in self.folder.glob(part) if path.stem not in SKIPPED]
        ranked = sorted(files, key=lambda path: (rank.get(path.stem, len(ORDER)), path.stem))
        return [path.relative_to(self.folder).as_posix() for path in ranked]

    def is_sound(self) -> bool:
        """Whether the copy is what gets imported, and the tests pass without a mutant."""
        show = [sys.executable, "-B", "-c", "import privacy.secagg as p; print(p.__file__)"]
        environment = {**os.environ, "PYTHONPATH": "."}
        out = subprocess.run(show, cwd=self.folder, env=environment, capture_output=True, text=True, check=True).stdout
        return Path(out.strip()).resolve().is_relative_to(self.folder.resolve()) and not self.pytest(*self.suite())[0]


def run(chosen: list[tuple[int, Mutant]], jobs: int, keep: Callable[[dict[str, str]], None]) -> dict[str, str]:
    """Name -> killer ("" = it survived), with one line of progress a mutant; `keep` sees what there is so far."""
    listed, outcomes, begin = known(), {}, time.monotonic()
    waiting: queue.SimpleQueue[tuple[int, Mutant]] = queue.SimpleQueue()
    for item in chosen:
        waiting.put(item)

    def work(tree: Tree) -> None:
        while True:
            try:
                number, mutant = waiting.get_nowait()
            except queue.Empty:
                return
            failed, test = tree.try_out(mutant, listed.get(mutant.name, {}).get("killed by", ""))
            outcomes[mutant.name] = test or "(unnamed)" if failed else ""
            left = (time.monotonic() - begin) / len(outcomes) * (len(chosen) - len(outcomes))
            verdict = "killed  " if failed else "SURVIVED"
            print(f"{len(outcomes):4}/{len(chosen)}  {left / 60:4.1f} min left  {verdict}  {number}: {mutant.name}",
                  flush=True)
            with lock:
                keep(dict(outcomes))

    lock = threading.Lock()
    with tempfile.TemporaryDirectory() as folder:
        trees = [Tree(Path(folder) / str(place)) for place in range(jobs)]
        if not trees[0].is_sound():
            sys.exit("the tests fail without a mutant, or the copy is not what they import; run make test first")
        threads = [threading.Thread(target=work, args=(tree,)) for tree in trees]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return outcomes


def write_list(found: list[Mutant], outcomes: dict[str, str]) -> None:
    """Renew the committed list; reasons and killers that were not tried again stay."""
    old, new = known(), {}
    for mutant in found:
        entry = old.get(mutant.name, {})
        if killer := outcomes.get(mutant.name, entry.get("killed by", "")):
            entry = {"killed by": killer}
        elif not entry.get("survives because"):
            entry = {"survives because": ""}
        new[mutant.name] = entry
    LIST.write_text(json.dumps(new, indent=1) + "\n")


def main() -> int:
    """See the usage above."""
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--new", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    found, listed = mutants(), known()
    chosen = list(enumerate(found, start=1))
    if options.only:
        chosen = [chosen[int(number) - 1] for number in options.only.split(",")]
    if options.new:
        chosen = [(number, one) for number, one in chosen if not listed.get(one.name, {}).get("killed by")]
    if options.list:
        for number, mutant in chosen:
            entry = listed.get(mutant.name, {})
            print(f"{number}: {mutant.name}\n      {next(iter(entry.items()), 'not listed')}")
        return 0

    def keep(so_far: dict[str, str]) -> None:
        if options.json:
            options.json.write_text(json.dumps(so_far, indent=1) + "\n")
        if options.write:
            write_list(found, so_far)

    outcomes = run(chosen, options.jobs, keep)
    alive = [name for name, killer in outcomes.items() if not killer]
    excused = [name for name in alive if listed.get(name, {}).get("survives because")]
    for name in alive:
        print(f"survived{' (excused)' if name in excused else ''}: {name}")
    print(f"{len(outcomes) - len(alive)} of {len(outcomes)} killed, {len(excused)} excused")
    return int(len(alive) > len(excused))


if __name__ == "__main__":
    sys.exit(main())
