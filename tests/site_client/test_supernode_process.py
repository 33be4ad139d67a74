"""What the node's process keeps on the disk: whether the coordinator answers, and how much was sent."""

from __future__ import annotations

import time
from pathlib import Path

from simulations.real_federation import until
from site_client.supernode_process import Contact, TransportCount, read_counts


def test_the_file_is_there_while_the_coordinator_answers(tmp_path: Path):
    path = tmp_path / "connected"
    contact = Contact(path, 0.4)
    time.sleep(0.1)
    assert not path.exists()  # nothing was answered yet
    contact.heard()
    assert path.exists()
    until(lambda: "the file gone", lambda: not path.exists(), 10)
    contact.heard()
    assert path.exists()


def test_an_answer_keeps_it(tmp_path: Path):
    path = tmp_path / "connected"
    contact = Contact(path, 0.4)
    for _ in range(8):
        contact.heard()
        time.sleep(0.1)
        assert path.exists()


def test_a_folder_that_cannot_be_written_costs_nothing(tmp_path: Path):
    Contact(tmp_path / "no-such-folder" / "connected", 0.4).heard()


def test_requests_and_bytes_are_counted_by_kind_and_go_on_after_a_restart(tmp_path: Path):
    path = tmp_path / "transport.json"
    for _ in range(2):
        count = TransportCount(path)
        count.add("push-object", 100, False)
        count.add("push-object", 7, True)
        count.write()
    assert read_counts(path) == {"push-object": {"requests": 2, "bytes_out": 200, "bytes_in": 14}}
    assert read_counts(tmp_path / "none") == {}
