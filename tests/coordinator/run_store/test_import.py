"""From a run's files into the store and back: each event once, in pieces, damaged, replaced, lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.run_store import queries
from coordinator.run_store.database import Database, file_url, open_database
from coordinator.run_store.importer import Importer
from tests.coordinator.run_store.databases import need_postgres, postgres
from tests.coordinator.run_store.journals import SITES, append, begin, cohort, make_run_folder, round_event, step_event


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    need_postgres()
    with postgres(tmp_path_factory.mktemp("postgres") / "cluster") as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        url = file_url(tmp_path / "runs.sqlite")
    else:
        url = request.getfixturevalue("server")
        empty(url)
    opened = open_database(url, "north")
    assert opened.engine.dialect.name == request.param
    yield opened
    opened.close()


def empty(url: str) -> None:
    from sqlalchemy import create_engine

    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    engine.dispose()


def everything(database: Database, run_id: str = "first") -> dict[str, Any]:
    with database.reading() as connection:
        rounds = queries.newest_rounds(connection, run_id, 1000)
        numbers = [row["round"] for row in rounds]
        return {"run": queries.run_of(connection, run_id), "rounds": rounds,
                "people": queries.participants(connection, run_id, numbers),
                "measures": queries.measures_of(connection, run_id),
                "steps": queries.steps_of(connection, run_id, numbers),
                "cohort": queries.newest_cohort(connection, run_id),
                "sums": queries.summed_up(connection, run_id), "sites": queries.sites_known(connection)}


EVENTS = [
    cohort(1.0, SITES[:3], ["site-4 (hello: P_BUDGET)", "P_RELEASE"]), begin(2.0),
    *(step_event(1, step, 3.0) for step in ("sa_train", "sa_share", "sa_mask", "sa_confirm", "sa_unmask", "sa_result")),
    round_event(1, 4.0), round_event(2, 5.0, {"site-3": "sa_mask: transport"}),
]


def test_a_run_is_what_its_journal_says(database: Database, tmp_path: Path) -> None:
    make_run_folder(tmp_path / "runs", "first", *EVENTS)
    assert Importer(database, tmp_path / "runs").bring_up_to_date() == {"first"}
    found = everything(database)
    run = found["run"]
    assert (run["state"], run["rounds_done"], run["rounds_total"], run["stage_name"]) == ("running", 2, 6, "alignment")
    assert (run["first_time"], run["last_time"], run["unreadable"], run["ends"]) == (1.0, 5.0, 0, [4.0, 5.0])
    assert found["measures"] == {"accuracy_alike": [(1, 0.55), (2, 0.6)], "loss_alike": [(1, 1.5), (2, 0.75)]}
    lost = next(row for row in found["people"][2] if row["site_id"] == "site-3")
    assert (lost["started"], lost["summed"], lost["missing"], lost["bytes_to"], lost["bytes_from"]) == (
        True, False, "sa_mask: transport", 1000, 0)
    assert [(row["site_id"], row["accepted"], row["reason"]) for row in found["cohort"]] == [
        ("site-1", True, ""), ("site-2", True, ""), ("site-3", True, ""), ("site-4", False, "hello: P_BUDGET"),
        ("", False, "P_RELEASE")]
    assert [step["step"] for step in found["steps"]][::5] == ["sa_train", "sa_result"]
    by_site = {row["site_id"]: row for row in found["sums"]}
    assert (by_site["site-3"]["summed"], by_site["site-3"]["missed"], by_site["site-1"]["summed"]) == (1, 1, 2)
    assert by_site["site-1"]["bytes_from"] == 4000 and found["sites"] == list(SITES)


def test_in_pieces_and_again_is_the_same_as_at_once(database: Database, tmp_path: Path) -> None:
    """Written byte by byte, read after each piece by two importers that know nothing of each other."""
    whole = "".join(json.dumps(event) + "\n" for event in EVENTS if event["event"] != "step").encode()
    folder = make_run_folder(tmp_path / "runs", "first")
    for cut in range(0, len(whole) + 97, 97):
        (folder / "progress.jsonl").write_bytes(whole[:cut])
        Importer(database, tmp_path / "runs").bring_up_to_date()
    Importer(database, tmp_path / "runs").bring_up_to_date()
    in_pieces = everything(database)
    other = open_database(file_url(tmp_path / "other.sqlite"), "north")
    Importer(other, tmp_path / "runs").bring_up_to_date()
    assert in_pieces == everything(other) and in_pieces["run"]["rounds_done"] == 2
    other.close()


def test_nothing_new_is_no_change(database: Database, tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path / "runs", "first", *EVENTS)
    importer = Importer(database, tmp_path / "runs")
    assert importer.bring_up_to_date() == {"first"}
    assert importer.bring_up_to_date() == set()
    append(folder, round_event(3, 6.0))
    assert importer.bring_up_to_date() == {"first"}
    assert everything(database)["run"]["rounds_done"] == 3


@pytest.mark.parametrize("line", [
    b"garbage", b"[1]", b'{"event": "round"}', b'{"event": "round", "time": NaN, "round": 1}', b"\xff\xfe\x00",
    json.dumps(round_event(3, 6.0, round=10**30)).encode(), json.dumps(round_event(3, 6.0, summed="site-1")).encode(),
    json.dumps(round_event(3, 6.0, mean_loss="x")).encode(), json.dumps(round_event(3, 6.0, missing=[1])).encode(),
    json.dumps(round_event(3, 6.0, bytes_to_sites={"site-1": -1})).encode(), b'{"event": "cohort", "time": 1.0}',
    json.dumps(round_event(3, 6.0, public={"loss_alike": "inf"})).encode(), b"[" * 100_000])
def test_a_line_that_is_none_is_counted_and_left_out(line: bytes, database: Database, tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path / "runs", "first", *EVENTS)
    with (folder / "progress.jsonl").open("ab") as file:
        file.write(line + b"\n")
    append(folder, round_event(4, 7.0))
    Importer(database, tmp_path / "runs").bring_up_to_date()
    found = everything(database)
    assert found["run"]["unreadable"] == 1 and [row["round"] for row in found["rounds"]] == [1, 2, 4]


def test_hostile_names_are_kept_as_text_and_break_nothing(database: Database, tmp_path: Path) -> None:
    names = ["<script>alert(1)</script>", "'; DROP TABLE runs; --", "nul\0name", "\ud800lone", "x" * 5000, "../../etc"]
    folder = make_run_folder(tmp_path / "runs", "first", begin(2.0))
    append(folder, round_event(1, 3.0, invited=names, missing={names[0]: "sa_mask: " + names[1]}),
           cohort(4.0, names, [f"{name} (hello: P_X)" for name in names]))
    Importer(database, tmp_path / "runs").bring_up_to_date()
    found = everything(database)
    shown = {row["site_id"] for row in found["people"][1]}
    assert {"<script>alert(1)</script>", "'; DROP TABLE runs; --", "nul\ufffdname", "?lone"} <= shown
    assert max(map(len, shown)) == 2000 and found["run"]["unreadable"] == 0


def test_a_journal_that_was_replaced_is_read_anew(database: Database, tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path / "runs", "first", *EVENTS)
    importer = Importer(database, tmp_path / "runs")
    importer.bring_up_to_date()
    (folder / "progress.jsonl").write_text(
        "".join(json.dumps(event) + "\n" for event in (begin(50.0, total=9), round_event(1, 51.0, drawn=99.0))))
    importer.bring_up_to_date()
    found = everything(database)
    assert (found["run"]["rounds_total"], found["run"]["first_time"]) == (9, 50.0)
    assert [row["drawn"] for row in found["rounds"]] == [99.0] and found["cohort"] == []


def test_a_round_that_only_the_checkpoint_knows_is_there(database: Database, tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path / "runs", "first", begin(2.0), round_event(1, 3.0))
    state = folder / "checkpoints" / "round-00002" / "state.json"
    state.parent.mkdir(parents=True)
    history = [{key: value for key, value in round_event(number, 0.0, drawn=7.0).items()
                if key not in ("event", "time")} for number in (1, 2)]
    state.write_text(json.dumps({"history": history}))
    (folder / "journal.json").write_text(json.dumps({"masked": {"1": 0, "2": 0, "3": 1}, "attempts": {}}))
    Importer(database, tmp_path / "runs").bring_up_to_date()
    found = everything(database)
    assert [(row["round"], row["drawn"], row["ended"]) for row in found["rounds"]] == [(1, 12.5, 3.0), (2, 7.0, None)]
    assert found["run"]["lost_rounds"] == [3]


def test_a_round_that_is_told_twice_counts_once(database: Database, tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path / "runs", "first", *EVENTS)
    append(folder, begin(6.0, done=1), round_event(2, 7.0, seconds=9.0))
    Importer(database, tmp_path / "runs").bring_up_to_date()
    found = everything(database)
    assert [row["seconds"] for row in found["rounds"]] == [4.5, 9.0]
    assert {row["site_id"] for row in found["people"][2] if row["summed"]} == set(SITES)


def test_a_run_whose_folder_is_gone_goes(database: Database, tmp_path: Path) -> None:
    import shutil

    folder = make_run_folder(tmp_path / "runs", "first", *EVENTS)
    make_run_folder(tmp_path / "runs", "second", begin(2.0))
    importer = Importer(database, tmp_path / "runs")
    importer.bring_up_to_date()
    shutil.rmtree(folder)
    assert importer.bring_up_to_date() == {"first"}
    with database.reading() as connection:
        assert [run["run_id"] for run in queries.run_summaries(connection)] == ["second"]
        assert queries.sites_known(connection) == []


@pytest.mark.parametrize("state", ["", "{", "[]", '{"state": 5}'])
def test_a_damaged_state_leaves_the_rest_readable(state: str, database: Database, tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path / "runs", "first", *EVENTS)
    (folder / "state.json").write_text(state)
    (folder / "journal.json").write_text(state)
    Importer(database, tmp_path / "runs").bring_up_to_date()
    run = everything(database)["run"]
    assert (run["state"], run["rounds_done"]) == ("unknown", 2)


def test_who_is_missing_in_a_row(database: Database, tmp_path: Path) -> None:
    gone = {"site-2": "sa_train: no-reply"}
    make_run_folder(tmp_path / "runs", "first", begin(1.0), round_event(1, 2.0, {"site-1": "sa_mask: transport"}),
                    round_event(2, 3.0, gone), round_event(3, 4.0, gone))
    Importer(database, tmp_path / "runs").bring_up_to_date()
    with database.reading() as connection:
        streaks = queries.unsummed_streaks(connection, "first", [1, 2, 3])
    assert {site: streak for site, (streak, _) in streaks.items() if streak} == {"site-2": 2}


def test_an_import_that_is_cut_short_leaves_the_last_whole_one(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coordinator.run_store import importer as module

    folder = make_run_folder(tmp_path / "runs", "first", begin(1.0), round_event(1, 2.0))
    importer = Importer(database, tmp_path / "runs")
    importer.bring_up_to_date()
    append(folder, round_event(2, 3.0))

    def fail(*_: object) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as broken:
        broken.setattr(module, "_import_state", fail)
        with pytest.raises(OSError, match="disk"):
            importer.bring_up_to_date()
    assert everything(database)["run"]["rounds_done"] == 1
    assert importer.bring_up_to_date() == {"first"}
    assert everything(database)["run"]["rounds_done"] == 2


def test_links_and_other_files_are_no_runs(database: Database, tmp_path: Path) -> None:
    make_run_folder(tmp_path / "elsewhere", "first", *EVENTS)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "linked").symlink_to(tmp_path / "elsewhere" / "first")
    (tmp_path / "runs" / "notes.txt").write_text("x")
    (tmp_path / "runs" / "empty").mkdir()
    assert Importer(database, tmp_path / "runs").bring_up_to_date() == set()


def test_totals_of_sites_are_those_of_their_runs(database: Database, tmp_path: Path) -> None:
    make_run_folder(tmp_path / "runs", "first", *EVENTS)
    make_run_folder(tmp_path / "runs", "second", cohort(9.0, SITES[:3], ["site-9 (hello: P_HOURS)"]),
                    round_event(1, 10.0, {"site-1": "sa_mask: transport"}), queued=200.0)
    Importer(database, tmp_path / "runs").bring_up_to_date()
    with database.reading() as connection:
        totals = queries.site_totals(connection)
        for site in queries.sites_known(connection):
            asked = [run for run in queries.site_runs(connection, site) if run["took"] or run["answers"]]
            took = [run["took"] for run in asked if run["took"]]
            assert totals[site] == {
                "runs": len(asked), "newest": asked[0]["run_id"], "summed": sum(one["summed"] for one in took),
                "missed": sum(one["missed"] for one in took)}, site
    assert totals["site-1"] == {"runs": 2, "newest": "second", "summed": 2, "missed": 1}
    assert totals["site-9"] == {"runs": 1, "newest": "second", "summed": 0, "missed": 0}
