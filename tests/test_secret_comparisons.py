"""No secret is compared with `==`: that stops at the first byte that differs, and its time tells how far it came.

Found in the syntax tree by name. A comparison of a public value with such a name is on the reviewed list below, with
the reason; an entry that no longer occurs in the code is refused too, so the list cannot outlive what it excuses.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SECRET_WORDS = {
    "key", "keys", "seed", "seeds", "share", "shares", "secret", "secrets", "commitment", "commitments", "tag", "tags",
    "mac", "macs", "private", "password", "token", "nonce", "mask", "masks",
}  # fmt: skip
# Protocol code outside privacy/: what handles secrets or messages of a round.
PROTOCOL = (
    "site_client/session.py", "site_client/admission.py", "site_client/keystore.py", "site_client/peers.py",
    "site_client/spool.py", "site_client/installation.py", "site_client/round_store.py",
    "site_client/evidence_store.py", "coordinator/rounds.py",
    "coordinator/admission.py", "coordinator/exchange.py", "coordinator/link.py",
)  # fmt: skip
# (file, comparison) -> why its values are public.
PUBLIC = {
    ("privacy/encoding.py", "tag not in _ATOMS"): "the tag byte of an item",
    ("privacy/encoding.py", "tag != b't'"): "the tag byte of an item",
    ("privacy/encoding.py", "tag == b's'"): "the tag byte of an item",
    ("privacy/encoding.py", "tag == b'f'"): "the tag byte of an item",
    ("privacy/encoding.py", "tag == b'b'"): "the tag byte of an item",
    ("privacy/encoding.py", "tag not in _SIZED"): "the tag byte of an item",
    ("privacy/ledger_chain.py", "keys != (rows[0].signer if rows else b'', current)"): "public signing keys",
    ("privacy/ledger_chain.py", "row.signer != key"): "public signing keys",
    ("site_client/installation.py", "key not in self._encoded"): "a SHA-256 that names an encoded data set",
}
# (file, call) -> why it may draw by itself.
DRAWS = {
    ("privacy/entropy.py", "os.urandom"): "the one random source",
    ("site_client/keystore.py", "os.urandom"): "the installation's own secret, drawn once",
}
RANDOM = re.compile(
    r"^(random|secrets|uuid)(\.|$)|^(np|numpy)\.random|^torch\.(rand|normal|bernoulli|multinomial|manual_seed|Generator)"
    r"|default_rng$|RandomState$|urandom$")
CODE = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def sources() -> list[tuple[str, ast.Module]]:
    # privacy/dp holds no key; the word means something else there (mappings, attention masks).
    files = [path for path in sorted((ROOT / "privacy").rglob("*.py")) if path.parent.name != "dp"]
    files += [ROOT / name for name in PROTOCOL]
    return [(path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())) for path in files if path.exists()]


def is_public(name: str) -> bool:
    """A public key says so in its name, or is the coordinator's on the roster."""
    return "public" in name.split("_") or name == "coordinator_key"


def names(node: ast.expr) -> Iterator[str]:
    """The names that a compared value goes by; what is only measured (len, isinstance, type) is not compared."""
    if isinstance(node, ast.Call):
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        if name in ("len", "type", "isinstance"):
            return
        yield name
        if isinstance(called, ast.Attribute) and not is_public(name):
            yield from names(called.value)
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Subscript):
        yield from names(node.value)
    elif isinstance(node, ast.Tuple | ast.List | ast.Set):
        for inner in node.elts:
            yield from names(inner)


def comparisons(tree: ast.Module) -> Iterator[str]:
    """Every comparison by equality or membership of something that is named like a secret."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Compare):
            continue
        if not any(isinstance(op, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for op in node.ops):
            continue
        sides = [node.left, *node.comparators]
        if any(isinstance(op, ast.In | ast.NotIn) for op in node.ops):
            sides = [node.left]  # what is looked up; a container is not a secret
        named = [name for side in sides for name in names(side) if not (name.isupper() or is_public(name))]
        words = {word for name in named for word in name.lower().split("_")}
        if words & SECRET_WORDS:
            yield ast.unparse(node)


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def forbidden(tree: ast.Module) -> Iterator[str]:
    """Default random generators, code from data, assert."""
    for node in ast.walk(tree):
        found = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            found = [dotted(node)]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec"):
            yield f"line {node.lineno}: {node.func.id}"
        elif isinstance(node, ast.Assert):
            yield f"line {node.lineno}: assert"
        for name in found:
            if RANDOM.search(name) or name.split(".")[0] in CODE:
                yield f"line {node.lineno}: {name}"


def test_no_secret_is_compared_by_equality():
    found = {(file, text) for file, tree in sources() for text in comparisons(tree)}
    assert not found - set(PUBLIC), "use hmac.compare_digest, or list a public value with the reason"


def test_the_reviewed_list_holds_nothing_that_is_gone():
    found = {(file, text) for file, tree in sources() for text in comparisons(tree)}
    assert not set(PUBLIC) - found


def test_no_default_randomness_no_code_from_data_no_assert():
    found = [(file, text) for file, tree in sources() for text in forbidden(tree)]
    assert not [(file, text) for file, text in found if (file, text.split(": ")[1]) not in DRAWS]


@pytest.mark.parametrize(
    "line",
    [
        "share == other", "self._mask_key != x", "x == seed", "dealt.share == b", "commit(a) == commitment",
        "(a, tag) == (b, c)", "private_bytes() == x", "keys[0] == y", "secret in seen", "pair.private_bytes() == z",
        "SHARE_BYTES == share",
    ],
)  # fmt: skip
def test_a_planted_comparison_is_seen(line):
    assert list(comparisons(ast.parse(line)))


@pytest.mark.parametrize("line", ["len(key) != 32", "site == other", "keys is None", "hmac.compare_digest(tag, other)",
                                  "a.public_key == key.public_bytes()", "len(data) != SHARE_BYTES"])
def test_other_comparisons_are_left_alone(line):
    assert not list(comparisons(ast.parse(line)))


@pytest.mark.parametrize(
    "line",
    [
        "import random", "from random import random", "import secrets", "np.random.normal()", "torch.randn(3)",
        "from numpy.random import default_rng", "import pickle", "from marshal import loads", "eval(x)", "exec(x)",
        "assert x", "os.urandom(3)", "torch.Generator()",
    ],
)  # fmt: skip
def test_a_planted_call_is_seen(line):
    assert list(forbidden(ast.parse(line)))
