"""Who may connect, as the list of wanted keys changes."""

from __future__ import annotations

import threading

import pytest

from privacy.transport import doorkeeper
from privacy.transport.doorkeeper import Doorkeeper


class Hub:
    """Nodes by key, and who was marked as gone."""

    def __init__(self) -> None:
        self.nodes: dict[bytes, int] = {}
        self.left: list[int] = []

    def admit(self, site: str, key: bytes) -> None:
        if site == "faulty":
            raise ValueError("no such key")
        self.nodes[key] = len(self.nodes) + 1


def door_of(hub: Hub, wanted: dict[str, bytes]) -> Doorkeeper:
    return Doorkeeper(lambda: wanted, hub.nodes.get, hub.admit, hub.left.append)


def test_a_wanted_key_has_a_node_and_another_none():
    hub = Hub()
    door = door_of(hub, {"a": b"1"})
    assert door.node_of(b"1") is None  # before the first look nobody is in
    door.look()
    hub.admit("b", b"2")
    assert door.node_of(b"1") == 1
    assert door.node_of(b"2") is None  # the hub knows it; nobody wants it


def test_a_key_that_is_no_longer_wanted_is_out_and_may_come_back_as_the_same_node():
    hub, wanted = Hub(), {"a": b"1", "b": b"2"}
    door = door_of(hub, wanted)
    door.look()
    del wanted["a"]
    door.look()
    assert door.node_of(b"1") is None and hub.left == [1]
    assert door.node_of(b"2") == 2
    wanted["a"] = b"1"
    door.look()
    assert door.node_of(b"1") == 1


def test_one_that_cannot_be_let_in_keeps_out_no_other(capsys: pytest.CaptureFixture[str]):
    hub = Hub()
    door = door_of(hub, {"faulty": b"0", "b": b"2"})
    door.look()
    assert door.node_of(b"2") is not None and door.node_of(b"0") is None
    assert "faulty cannot be let in: no such key" in capsys.readouterr().out


def test_a_look_that_fails_changes_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    hub, looked, stop = Hub(), threading.Event(), threading.Event()
    monkeypatch.setattr(doorkeeper, "_LOOK_S", 0.01)

    def wanted() -> dict[str, bytes]:
        if hub.nodes:
            looked.set()
            raise OSError("disk")
        return {"a": b"1"}

    door = Doorkeeper(wanted, hub.nodes.get, hub.admit, hub.left.append)
    door.look()
    thread = threading.Thread(target=door.keep_looking, args=(stop,))
    thread.start()
    assert looked.wait(5)
    stop.set()
    thread.join(5)
    assert door.node_of(b"1") == 1 and hub.left == []
    assert "who may connect cannot be read, nothing changed" in capsys.readouterr().out
