"""Releases that no reservation covers: found wherever a ledger is checked, since nothing else charges them."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from privacy.ledger import LedgerTamperedError, NotPrivateError
from privacy.ledger_bookings import booking_fault
from privacy.ledger_chain import check_export
from privacy.ledger_file import LedgerFile
from site_client import cli
from tests.privacy.test_ledger import DELTA, KEY, entry, filled, opened, schedule


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


def write(path, *entries) -> None:
    """By the holder of the site's key, past the account: rows, hashes and signatures are in order."""
    file = LedgerFile(path, KEY, False)
    with file.transaction():
        for one in entries:
            file.append("release", asdict(one))
    file.close()


def exported(path, tmp_path, **more):
    ledger = opened(path)
    file = tmp_path / "export.json"
    file.write_text(json.dumps({"site_id": "hospital-1", **ledger.export(), **more}))
    ledger.close()
    return file


def verified(capsys, file) -> tuple[int, dict, str]:
    as_json = cli.main(["ledger", "verify", "--file", str(file), "--json"])
    facts = json.loads(capsys.readouterr().out)
    code = cli.main(["ledger", "verify", "--file", str(file)])
    assert code == as_json
    return code, facts, capsys.readouterr().out


UNCOVERED = [
    (0, [entry(run_id="other", round=number) for number in range(20)], "was not reserved before it"),
    (2, [entry(round=2)], "beyond the steps"),
    (1, [entry(round=1, steps=3)], "beyond the steps"),
    (1, [entry(round=1, noise_multiplier=0.5)], "beyond the steps"),
    (1, [entry(round=1, delta=1e-9)], "another delta"),
]


@pytest.mark.parametrize(("booked", "further", "why"), UNCOVERED)
def test_a_release_that_no_reservation_covers_is_found(path, tmp_path, capsys, booked, further, why):
    filled(path, booked, planned=2).close()
    write(path, *further)
    ledger = opened(path)
    ledger.verify_chain()
    assert not ledger.is_private()
    with pytest.raises(NotPrivateError, match=why):
        ledger.statement()
    with pytest.raises(LedgerTamperedError, match=f"row {booked + 2} .*{why}"):
        ledger.verify_bookings()
    ledger.close()
    code, facts, text = verified(capsys, exported(path, tmp_path))
    assert code == 1 and facts["chain_intact"] and not facts["private"]
    assert why in facts["objection"] and text.startswith(f"NOT PRIVATE: {facts['objection']}")


def test_a_reservation_after_the_release_is_too_late(path):
    write(path, entry())
    ledger = opened(path)
    ledger.reserve_run("run", "aa", [schedule(10)], DELTA)
    with pytest.raises(NotPrivateError, match="not reserved before it"):
        ledger.statement()


@pytest.mark.parametrize("changed", [{"entropy": "simulated"}, {"mechanism": "none", "noise_multiplier": 0.0}])
def test_an_export_with_an_objection_is_no_success(path, tmp_path, capsys, changed):
    ledger = filled(path, 1, allow_unnoised=True)
    ledger.reserve(entry(round=1, **changed))
    ledger.close()
    code, facts, text = verified(capsys, exported(path, tmp_path))
    assert code == 1 and facts["chain_intact"] and not facts["private"] and "NOT PRIVATE" in text
    assert facts["objection"] in text and "no differential-privacy statement holds" in facts["objection"]


def test_what_was_booked_in_order_is_covered_to_its_last_step(path, tmp_path, capsys):
    ledger = filled(path, 3, planned=3)
    ledger.verify_bookings()
    assert ledger.is_private() and ledger.statement().entries == 3
    assert booking_fault(check_export(ledger.export())) is None
    ledger.close()
    code, facts, text = verified(capsys, exported(path, tmp_path))
    assert code == 0 and facts["private"] and facts["objection"] is None and "NOT PRIVATE" not in text


@pytest.mark.parametrize(("name", "shown"), [("hospital-2", "hospital-2"), ("\x1b[2Jx", "(none)"), (7, "(none)")])
def test_an_exports_name_is_said_to_be_unsigned(path, tmp_path, capsys, name, shown):
    filled(path, 1).close()
    code, facts, text = verified(capsys, exported(path, tmp_path, site_id=name))
    assert (code, facts["claimed_site_id"], facts["name_signed"]) == (0, shown, False)
    assert f"the name in the export, {shown}, is not signed" in text and "\x1b" not in text
