"""An opt-out holds: under a lost key, another issuer or a shortened list nothing is read; a running site obeys."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from model.inputs import Example
from site_client.indexing.index_store import IndexStore, Scanned
from site_client.keystore import load_or_create_secret
from site_client.opt_out import OPT_OUT_FILE, change_opt_out, read_opt_out
from site_client.records import PatientRecord, SiteIndex, pseudonym
from site_client.site_index import read_site
from tests.site_client.made_headers import header
from tests.site_client.made_site import QUESTIONS
from tests.site_client.test_installation import Encoder, installation

KEY = bytes(range(32))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    change_opt_out(tmp_path, ["P1", "P2"], key=KEY, issuer="X")
    return tmp_path / OPT_OUT_FILE


def test_the_list_is_read_under_its_own_key_and_issuer(tmp_path, path):
    assert len(read_opt_out(tmp_path, KEY, "X")) == 2
    for key, issuer in ((bytes(32), "X"), (KEY, "Y"), (KEY, "")):
        with pytest.raises(ValueError, match=r"another pseudonym key or issuer.*restore"):
            read_opt_out(tmp_path, key, issuer)
        with pytest.raises(ValueError, match="another pseudonym key or issuer"):
            change_opt_out(tmp_path, ["P3"], key=key, issuer=issuer)
    assert change_opt_out(tmp_path, ["P1", "P2"], key=KEY, issuer="X", remove=True) == (2, 0)
    assert read_opt_out(tmp_path, KEY, "X") == frozenset()


@pytest.mark.parametrize("keep", [0, 1, 2, 3])
def test_a_shortened_list_is_refused(tmp_path, path, keep):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:keep]))
    with pytest.raises(ValueError, match="restore"):
        read_opt_out(tmp_path, KEY, "X")


def test_a_lost_key_lets_nobody_back_in(tmp_path):
    site = installation(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "questions.csv").write_text(QUESTIONS.replace("P4711,q,normal,A1,", "P1,q,question,,"))
    key = load_or_create_secret(site.state / "pseudonym.key")
    change_opt_out(site.state, ["P1"], key=key, issuer="")
    assert not read_site(site.config).patients
    (site.state / "pseudonym.key").unlink()
    with pytest.raises(ValueError, match="another pseudonym key"):
        read_site(site.config)


def test_a_running_site_obeys_from_the_next_round_on(tmp_path, monkeypatch):
    site = installation(tmp_path)
    key = load_or_create_secret(site.state / "pseudonym.key")
    records = sorted((PatientRecord(pseudonym(key, "", one), {"reports": (Example(one, "yes"),)})
                      for one in ("P1", "P2")), key=lambda record: record.pseudonym)
    monkeypatch.setattr(site, "index", lambda: SiteIndex(tuple(records)))
    adapted: Any = Encoder()
    assert len(site.patients(adapted)) == 2
    change_opt_out(site.state, ["P1"], key=key, issuer="")
    assert site.patients(adapted) == [{"reports": ["P2"]}]
    (site.state / OPT_OUT_FILE).unlink()
    assert site.patients(adapted) == [{"reports": ["P2"]}]


def test_what_the_index_knew_of_the_patients_names_goes_at_once(tmp_path):
    anna = pseudonym(KEY, "", "P1")
    with closing(IndexStore(tmp_path, KEY, "")) as store:
        store.put([Scanned("data", "a", 1, 1, anna, header())])
        assert store.anchors(anna).names
        store.opt_out([anna])
        assert store.anchors(anna).names == ()
