"""`.ci/mutants.json` is the reviewed list of what `make mutation` does: it names the refusals of the code as it is."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXCUSED_AT_MOST = 8
RENEW = "run `.ci/mutation.py --new --write`, then give each survivor a test, or a reason why none can exist"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("mutation", ROOT / ".ci" / "mutation.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutation"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["mutation"]


def test_the_list_names_every_refusal_and_no_other(tool):
    names = [mutant.name for mutant in tool.mutants()]
    assert len(set(names)) == len(names)
    listed = tool.known()
    assert not set(names) - set(listed), f"not on the list: {RENEW}"
    assert not set(listed) - set(names), f"no longer in the code: {RENEW}"


def test_every_mutant_has_a_killer_that_exists_or_a_reason(tool):
    excused = 0
    for name, entry in tool.known().items():
        if test := entry.get("killed by"):
            file, _, function = test.split("[")[0].partition("::")
            assert not function or f"def {function}(" in (ROOT / file).read_text(), f"{name}: {RENEW}"
        else:
            excused += 1
            assert len(entry["survives because"]) > 20, f"{name}: {RENEW}"
    assert excused <= EXCUSED_AT_MOST


PLANTED = '''
def _refuse(condition, code):
    if condition:
        raise ValueError(code)

def check(a, b, c) -> bool:
    _refuse(a or not b, "E_ONE")
    if (a, b) != (b, c):
        return False
    for one in [x for x in c if x > 1 and x < 5]:
        on_record(one)
    try:
        known = set(a) & set(b)
    except KeyError:
        c.append(known)
    return a == b and b == c

def is_weak(a) -> bool:
    return a == 0
'''


def test_every_form_of_refusal_is_found_and_the_replacement_is_exact(tool):
    text = PLANTED.encode()
    finder = tool.Finder("planted.py", text, {"_refuse", "check"})
    finder.visit(tool.ast.parse(text))
    found = {(mutant.refusal, mutant.change) for mutant in finder.found}
    assert found >= {
        ("raise ValueError(code)", "pass"), ("_refuse(a or not b, 'E_ONE')", "pass"), ("a", "False"),
        ("not b", "False"), ("False", "True"), ("a", "b"), ("b", "c"), ("x > 1 and x < 5", "True"), ("x > 1", "True"),
        ("x < 5", "True"), ("set(a) & set(b)", "set(a)"), ("set(a) & set(b)", "set(b)"), ("c.append(known)", "pass"),
        ("a == b and b == c", "True"), ("a == b", "True"), ("b == c", "True"), ("a == 0", "False"),
    }  # fmt: skip
    assert ("a == 0", "True") not in found and ("a == b and b == c", "False") not in found
    for mutant in finder.found:
        changed = text[: mutant.start] + mutant.change.encode() + text[mutant.end :]
        tool.ast.parse(changed)
        assert changed != text
