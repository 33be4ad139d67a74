"""A hospital's state folder for the tests of its pages, filled by the product's own code."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from starlette.testclient import TestClient

from privacy.dp.accounting import ReleaseEvent
from privacy.durable import write_whole
from privacy.ledger import Ledger
from privacy.messages import Confirm, ErrorReply, Hello, LedgerMark, MaskedHeader
from privacy.web.guard import host_names
from site_client.audit_log import site_log
from site_client.keystore import note_ledger, signing_key
from site_client.roster_pin import RosterPin
from site_client.web.app import SitePages, site_app
from tests.site_client.made_site import ENTRY, MadeSite

TOKEN = "T" * 43
URL = "http://127.0.0.1:8445"
RUN = "north-2026"
PATIENT, UID = "P4711", "1.2.826.0.1.3680043.8.498.4711"
QUIET = SimpleNamespace(readouterr=lambda: SimpleNamespace(out="", err=""))


def new_site(folder: Path) -> MadeSite:
    """As `site-client init` leaves it."""
    return MadeSite(folder, QUIET)  # type: ignore[arg-type]


def add_history(site: MadeSite, rounds: int = 7, attempts: int = 1) -> None:
    """Two runs in the ledger, their messages in the audit log, a roster in force, requests that were counted."""
    RosterPin(site.config).approve(site.roster())
    key = signing_key(site.state)
    ledger = Ledger.open(site.state / "ledger.sqlite", signing_key=key, epsilon_cap=8.0)
    for run_id, done, planned in (("pilot", 3, 3), (RUN, rounds, rounds + 5)):
        event = ReleaseEvent(0.05, 1.2, 2 * planned, 0, 0)
        ledger.reserve_run(run_id, "ab" * 32, [event], 1e-6)
        for number in range(1, done + 1):
            ledger.reserve(replace(
                ENTRY, run_id=run_id, round=number, sampling_rate=0.05, noise_multiplier=1.2, delta=1e-6,
                stage=number // 5, created_utc=f"2026-05-04T{number % 24:02}:00:00+00:00"))
            ledger.mark_masked(run_id, number)
            if number != 2:
                ledger.finish_round(run_id, number)
    ledger.close()
    note_ledger(site.state)
    vector = np.zeros(200_000, dtype=np.uint8)
    header = MaskedHeader.signed(key, (), site_id="site-1", upload_hash=hashlib.sha256(vector.data).digest(),
                                 complaints=()).to_bytes()
    hello = Hello.make(LedgerMark.empty("site-1", "fed", key), bytes(32), bytes(32), key).to_bytes()
    confirm = Confirm.signed(key, (), site_id="site-1").to_bytes()
    with site_log(site.state) as log:
        log.note("start")
        log.note("transport", request="pull-messages", count=120, bytes_out=9000, bytes_in=70000)
        log.egress(step="hello", body=ErrorReply("P_BUDGET", "nobody").to_bytes(), vector=None)
        log.egress(step="hello", body=hello, vector=None, run_id=RUN)
        for number in range(1, rounds + 1):
            for _ in range(attempts):
                log.egress(step="sa_mask", body=header, vector=vector, run_id=RUN, round=number)
                log.egress(step="sa_confirm", body=confirm, vector=None, run_id=RUN, round=number)
    (site.state / "transport.json").write_text(json.dumps(
        {"push-message": {"requests": 21, "bytes_out": 1_500_000, "bytes_in": 900}}))


def be_up(site: MadeSite, node: str = "running", reason: str = "") -> None:
    """As a running `site-client start` would have written it; this test's own process stands for it."""
    children = [{"name": "node", "state": node, "pid": 1, "starts": 1, "last_reason": reason},
                {"name": "executor", "state": "running", "pid": 1, "starts": 2, "last_reason": ""}]
    write_whole(site.state / "start.json", json.dumps({
        "pid": os.getpid(), "updated": time.time(), "ready": node == "running", "children": children}).encode())


def index(site: MadeSite) -> dict[str, Any]:
    """Index the site's small data, and opt two patients out."""
    from site_client.keystore import load_or_create_secret
    from site_client.opt_out import change_opt_out
    from site_client.site_index import read_site

    (site.folder / "data" / "reports.csv").write_text(
        "PatientID,AccessionNumber,Findings,Impression\n" + f"{PATIENT},A1,The heart is normal.,\n")
    (site.folder / "data" / "dicom").mkdir(exist_ok=True)
    (site.folder / "data" / "dicom" / f"{PATIENT}-{UID}.dcm").write_bytes(b"no DICOM file")
    change_opt_out(site.state, ["P1", "P2"], key=load_or_create_secret(site.state / "pseudonym.key"), issuer="")
    return {"index": read_site(site.config)}


@contextmanager
def serving(site: MadeSite, site_file: str = "site.yaml", **changed: Any) -> Iterator[tuple[SitePages, TestClient]]:
    """The site's pages and a browser with a session."""
    pages = SitePages(site.config, site_file, TOKEN, host_names("127.0.0.1", 8445), **changed)
    with TestClient(site_app(pages), base_url=URL, follow_redirects=False) as client:
        assert client.post("/login", data={"token": TOKEN}).status_code == 303
        yield pages, client
