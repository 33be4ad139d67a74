"""A site's secrets: made once, owner-only, never silently replaced."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from site_client.keystore import KeyFileError, load_or_create_secret, signing_key


def test_a_secret_is_made_once_and_read_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "state" / "pseudonym.key"
    first = load_or_create_secret(path)
    assert len(first) == 32 and path.read_bytes() == first
    assert load_or_create_secret(path) == first


def test_two_secrets_differ(tmp_path: Path) -> None:
    assert load_or_create_secret(tmp_path / "a") != load_or_create_secret(tmp_path / "b")


def test_only_the_owner_can_read_what_was_made(tmp_path: Path) -> None:
    path = tmp_path / "state" / "identity.key"
    load_or_create_secret(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_secret_that_others_can_read_is_refused_with_the_command_that_fixes_it(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "identity.key"
    load_or_create_secret(path)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"chmod 600 {path}"):
        load_or_create_secret(path)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_damaged_secret_is_refused_and_kept(tmp_path: Path, size: int) -> None:
    path = tmp_path / "identity.key"
    path.write_bytes(bytes(size))
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match=f"has {size} bytes instead of 32"):
        load_or_create_secret(path)
    assert path.read_bytes() == bytes(size)


def test_the_identity_is_stable_and_its_own(tmp_path: Path) -> None:
    first = signing_key(tmp_path / "a")
    assert signing_key(tmp_path / "a").public_bytes() == first.public_bytes()
    assert signing_key(tmp_path / "b").public_bytes() != first.public_bytes()
    assert (tmp_path / "a" / "identity.key").read_bytes() == first.private_bytes()


def test_no_error_shows_key_bytes(tmp_path: Path) -> None:
    path = tmp_path / "identity.key"
    path.write_bytes(b"secret-secret")
    path.chmod(0o600)
    with pytest.raises(KeyFileError) as caught:
        signing_key(tmp_path)
    assert "secret-secret" not in str(caught.value)


def test_a_kill_while_the_key_is_made_leaves_no_key_and_no_leftover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half-written file would stand there as a damaged key for ever."""
    def killed(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        load_or_create_secret(tmp_path / "identity.key")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
    assert len(load_or_create_secret(tmp_path / "identity.key")) == 32


def test_of_two_processes_that_make_the_key_both_use_the_first_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "identity.key"
    link, others = os.link, []

    def other_was_faster(partial: str, target: Path) -> None:
        monkeypatch.setattr(os, "link", link)
        others.append(load_or_create_secret(path))
        link(partial, target)

    monkeypatch.setattr(os, "link", other_was_faster)
    assert load_or_create_secret(path) == others[0] == path.read_bytes()
