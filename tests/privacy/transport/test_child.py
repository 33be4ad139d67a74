"""How the processes begin that a service starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from privacy.transport.child import child_arguments

GIVEN = ["place", "--port", "8", "--secret-file", "s", "--ready", "r"]


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_what_is_given_and_files_that_are_the_users_alone(tmp_path: Path):
    found = child_arguments("a.b", "what it is", GIVEN)
    assert (found.owner, found.port, found.secret_file, found.ready) == (Path("place"), 8, Path("s"), Path("r"))
    (tmp_path / "made").touch()
    assert (tmp_path / "made").stat().st_mode & 0o077 == 0


def test_a_module_may_ask_for_more():
    more = [*GIVEN, "--more", "7"]
    assert child_arguments("a.b", None, more, lambda parser: parser.add_argument("--more", type=int)).more == 7


@pytest.mark.parametrize("lacking", ["--port", "--secret-file", "--ready"])
def test_nothing_has_a_default(lacking: str, capsys: pytest.CaptureFixture[str]):
    at = GIVEN.index(lacking)
    with pytest.raises(SystemExit):
        child_arguments("a.b", None, GIVEN[:at] + GIVEN[at + 2:])
    assert lacking in capsys.readouterr().err
