"""Nothing that an operator or a coordinator can write reaches the random source of a real site."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import site_client
import site_client.app
from configs.load import load_config
from configs.schema import AdaptiveClipConfig, ConfigError, PolicyConfig, SiteConfig, TruncationConfig
from privacy.entropy import SystemEntropy
from privacy.manifest import Plan, RunManifest, SiteTerms, SourceShare, StageSpec
from site_client.installation import Installation

SOURCES = sorted(Path(site_client.__file__).parent.rglob("*.py"))
SEEDY = re.compile("seed|random|entropy|generator|nonce|determin", re.IGNORECASE)


def test_the_production_source_takes_no_argument() -> None:
    assert list(inspect.signature(SystemEntropy).parameters) == []
    for argument in (1, b"x" * 32, "seed"):
        with pytest.raises(TypeError):
            SystemEntropy(argument)  # type: ignore[call-arg]
    first, second = SystemEntropy(), SystemEntropy()
    assert not first.simulated and first.random_bytes(32) != second.random_bytes(32)


@pytest.mark.parametrize(
    "kind", [SiteConfig, PolicyConfig, AdaptiveClipConfig, TruncationConfig, RunManifest, StageSpec, SourceShare,
             SiteTerms, Plan], ids=lambda kind: kind.__name__)
def test_neither_a_sites_file_nor_a_manifest_has_a_key_for_randomness(kind: type) -> None:
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    assert names and [name for name in names if SEEDY.search(name)] == []


def test_a_seed_in_a_sites_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("{site_id: a, data: d, state: s, base_model: b, roster: r, roster_hash: '00', "
                    "policy: {max_epsilon: 1}, seed: 3}")
    with pytest.raises(ConfigError, match="unknown key seed"):
        load_config(SiteConfig, path)


def test_the_session_of_production_draws_from_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """`app._open_session` is how a real ClientApp gets its session; the environment has no word in it."""
    taken = []
    monkeypatch.setattr(Installation, "open", staticmethod(lambda path: path))
    monkeypatch.setattr(site_client.app, "SiteSession", lambda site, entropy: taken.append(entropy))
    monkeypatch.setenv("SEED", "1")
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    site_client.app._open_session("site.yaml")
    sources = [taken[0](purpose) for purpose in ("run/1/training", "run/1/training")]
    assert all(type(source) is SystemEntropy for source in sources)
    assert sources[0].random_bytes(32) != sources[1].random_bytes(32)
    assert site_client.app._factory is site_client.app._open_session


def reads_of_randomness(text: str) -> Iterator[str]:
    """Command line options and environment variables with such a name, and random sources other than the system's."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.fullmatch(r"--?[a-z-]+|[A-Z][A-Z_]+", node.value) and SEEDY.search(node.value):
                yield node.value
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if re.search(r"(^|\.)(Entropy|SeededEntropy|default_rng|Random|manual_seed|seed)$", called):
                yield called
        elif isinstance(node, ast.ImportFrom | ast.Import) and any(alias.name == "random" for alias in node.names):
            yield "random"


@pytest.mark.parametrize("planted", [
    "parser.add_argument('--seed')", "os.environ['FED_SEED']", "Entropy(b'x', simulated=True)",
    "np.random.default_rng(3)", "import random"])
def test_the_search_finds_a_planted_seed(planted: str) -> None:
    assert list(reads_of_randomness(planted))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_option_variable_or_other_source_in_the_sites_code(path: Path) -> None:
    assert list(reads_of_randomness(path.read_text(encoding="utf-8"))) == []
