"""New events reach the store and open pages; metrics, logs and charts."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from coordinator.console.app import Console
from coordinator.console.charts import HEIGHT, WIDTH, line_chart, step_bars
from coordinator.console.live import Live
from coordinator.run_store import queries
from coordinator.run_store.database import file_url, open_database
from coordinator.run_store.importer import Importer
from privacy.transport.log_lines import JsonLines, redacted
from tests.coordinator.console.homes import METRICS_TOKEN, TOKEN
from tests.coordinator.run_store.journals import append, begin, make_run_folder, round_event


@pytest.fixture
def live(tmp_path: Path) -> Live:
    database = open_database(file_url(tmp_path / "runs.sqlite"), "north")
    return Live(Importer(database, tmp_path / "runs"), database, (tmp_path / "up.json",))


def wait_for(what: object, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_new_event_is_imported_and_told(live: Live, tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path / "runs", "first", begin(1.0))
    live.start()
    try:
        wait_for(lambda: live.version >= 1)
        assert live.said == "run first: running, 0 of 6 rounds"
        append(folder, round_event(1, 2.0))
        wait_for(lambda: live.said == "run first: running, 1 of 6 rounds")
        version = live.version
        (tmp_path / "up.json").write_text("{}")
        wait_for(lambda: live.version > version)
        assert live.said == "the coordinator's processes or roster changed"
    finally:
        live.stop()


def test_a_run_that_is_there_is_known_before_the_first_page(live: Live, tmp_path: Path) -> None:
    make_run_folder(tmp_path / "runs", "first", begin(1.0))
    live.start()
    try:
        with live._database.reading() as connection:
            assert queries.run_of(connection, "first") is not None
    finally:
        live.stop()


def test_a_planned_epsilon_is_shown_and_not_read_out(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["first", ""])
    monkeypatch.setattr(live._importer, "plan", lambda: next(answers, ""))
    live.touch("run demo: running, 1 of 9 rounds")
    live.start()
    try:
        wait_for(lambda: live.version == 2)
        assert live.said == "run demo: running, 1 of 9 rounds"
    finally:
        live.stop()


def test_files_that_change_all_the_time_do_not_keep_a_plan_from_being_computed(
    live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def plan() -> str:
        asked.append(len(asked))
        return ""

    def changed() -> set[str]:
        (tmp_path / "up.json").write_text("x" * (len(asked) + 1))
        return set()

    monkeypatch.setattr(live._importer, "plan", plan)
    monkeypatch.setattr(live._importer, "bring_up_to_date", changed)
    live.start()
    try:
        wait_for(lambda: len(asked) >= 2)
        assert live.said == "the coordinator's processes or roster changed"
    finally:
        live.stop()


def test_an_import_that_fails_is_said_tried_again_and_forgotten(
    live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run_folder(tmp_path / "runs", "first", begin(1.0))
    real = live._importer.bring_up_to_date

    def fail() -> set[str]:
        raise OSError("no space")

    monkeypatch.setattr(live._importer, "bring_up_to_date", fail)
    live.start()
    try:
        wait_for(lambda: live.failing == "OSError")
        monkeypatch.setattr(live._importer, "bring_up_to_date", real)
        wait_for(lambda: not live.failing and live.imported > 0)
    finally:
        live.stop()


async def collected(live: Live, holds: object, changes: int) -> list[str]:
    found = []
    async for text in live.stream(holds):  # type: ignore[arg-type]
        found.append(text)
        if len(found) <= changes:
            live.touch(f"change {len(found)}\n\ndata: forged")
        else:
            live.end_streams()
    return found


def test_a_stream_says_hello_then_each_change_and_ends_with_the_server(live: Live) -> None:
    found = asyncio.run(asyncio.wait_for(collected(live, lambda: True, 2), 10))
    assert [text.split("\n")[1] for text in found] == ["event: hello", "event: change", "event: change"]
    assert json.loads(found[1].split("data: ", 1)[1])["said"] == "change 1\n\ndata: forged"
    assert all(text.count("\n\n") == 1 and text.endswith("\n\n") for text in found)


def test_changes_at_once_are_each_said_once(live: Live) -> None:
    async def read() -> str:
        stream = live.stream(lambda: True)
        await anext(stream)
        for said in ("run a: running, 1 of 9 rounds", "", "run b: finished", "run b: finished"):
            live.touch(said)
        return await anext(stream)

    found = asyncio.run(asyncio.wait_for(read(), 10))
    assert found.startswith("id: 4\n")
    assert json.loads(found.split("data: ", 1)[1])["said"] == "run a: running, 1 of 9 rounds; run b: finished"


def test_a_stream_ends_with_its_session(live: Live) -> None:
    answers = iter([True, True, False])
    assert len(asyncio.run(asyncio.wait_for(collected(live, lambda: next(answers), 9), 10))) <= 2
    assert live._streams == 0


@pytest.mark.parametrize("token", ["", "wrong", TOKEN])
def test_metrics_ask_for_their_own_token(token: str, served: tuple[Console, TestClient],
                                         stranger: TestClient) -> None:
    served[0].brake._failed.clear()
    answer = stranger.get("/metrics", headers={"authorization": f"Bearer {token}"} if token else {})
    assert answer.status_code == 401 and "medgpt" not in answer.text
    served[0].brake._failed.clear()


def test_the_metrics_token_opens_nothing_else(stranger: TestClient, served: tuple[Console, TestClient]) -> None:
    headers = {"authorization": f"Bearer {METRICS_TOKEN}"}
    assert stranger.get("/metrics", headers=headers).status_code == 200
    assert stranger.get("/", headers=headers).status_code == 303
    assert stranger.post("/login", data={"token": METRICS_TOKEN}).status_code == 403
    served[0].brake._failed.clear()


def test_metrics_say_runs_and_sites_and_label_nothing_else(stranger: TestClient) -> None:
    answer = stranger.get("/metrics", headers={"authorization": f"Bearer {METRICS_TOKEN}"})
    families = {one.name: one for one in text_string_to_metric_families(answer.text)}
    labels = {name for family in families.values() for sample in family.samples for name in sample.labels}
    assert labels <= {"run_id", "site_id", "state", "process", "measure"}
    assert all(name.startswith("medgpt_coordinator_") and family.documentation for name, family in families.items())
    done = {sample.labels["run_id"]: sample.value for sample in families["medgpt_coordinator_run_rounds_done"].samples}
    assert done == {"demo": 9.0, "first": 2.0}
    states = {sample.labels["state"]: sample.value for sample in families["medgpt_coordinator_runs"].samples}
    assert states["finished"] == 2.0 and states["failed"] == 0.0
    summed = [sample for sample in families["medgpt_coordinator_site_rounds_summed"].samples
              if sample.labels == {"run_id": "demo", "site_id": "site-1"}]
    assert summed[0].value == 9.0 and families["medgpt_coordinator_up"].samples[0].value == 0.0


@pytest.mark.parametrize(("text", "secret"), [
    ("login with token=hunter2hunter2 failed", "hunter2"), ("Authorization: Bearer abc.def-ghi", "abc.def"),
    ("cookie: session=xyz", "xyz"), ("postgresql+psycopg://console:hunter2@db/runs", "hunter2"),
    (f"a stray {TOKEN} in a text", TOKEN), ("password=hunter2&user=x", "hunter2")])
def test_secrets_do_not_reach_the_log(text: str, secret: str) -> None:
    assert secret not in redacted(text) and "[redacted]" in redacted(text)


def test_a_log_line_is_one_json_object() -> None:
    record = logging.LogRecord("coordinator.console", logging.WARNING, "x", 1, "line one\nline two", (), None)
    record.client, record.path = "127.0.0.1", "/login?token=hunter2"
    try:
        raise ValueError("at postgresql://user:hunter2@db")
    except ValueError as error:
        record.exc_info = (type(error), error, error.__traceback__)
    line = JsonLines().format(record)
    facts = json.loads(line)
    assert "\n" not in line and "hunter2" not in line
    assert (facts["level"], facts["message"], facts["client"]) == ("warning", "line one | line two", "127.0.0.1")
    assert "ValueError" in facts["error"]


@pytest.mark.parametrize("values", [[1.0], [1.0, 1.0, 1.0], [0.0], [-5.0, 1e9], [1e-9, 2e-9], list(range(300))])
def test_a_chart_stays_within_its_frame(values: list[float]) -> None:
    chart = line_chart("k", "Loss", "nats", {"a": list(enumerate(values, 1))}, [(1, "x"), (2, "y")])
    assert chart is not None and len(chart.rows) == len(values)
    points = [tuple(map(float, one.split(","))) for line in chart.lines for one in line.points.split()]
    assert all(chart.left - 0.1 <= x <= chart.right + 0.1 and chart.top - 0.1 <= y <= chart.bottom + 0.1
               for x, y in points) and (chart.width, chart.height) == (WIDTH, HEIGHT)
    assert 2 <= len(chart.y_ticks) <= 8 and 1 <= len(chart.x_ticks) <= 8
    assert all(-0.1 <= tick.at <= HEIGHT for tick in chart.y_ticks)


def test_a_share_has_its_whole_axis_and_nothing_is_no_chart() -> None:
    chart = line_chart("k", "Accuracy", "share", {"a": [(1, 0.5)], "b": []}, share=True)
    assert chart is not None and [tick.text for tick in chart.y_ticks] == ["0", "0.25", "0.5", "0.75", "1"]
    assert [line.name for line in chart.lines] == ["a"] and "0.5 in round 1" in chart.summary
    assert line_chart("k", "x", "", {"a": []}) is None


def test_higher_values_are_drawn_higher() -> None:
    chart = line_chart("k", "x", "", {"a": [(1, 1.0), (2, 3.0), (3, 2.0)]})
    assert chart is not None
    heights = [y for _, y, _ in chart.lines[0].marks]
    assert heights[1] < heights[2] < heights[0]


def test_steps_follow_each_other_and_fill_the_round() -> None:
    bars = step_bars([{"step": "a", "seconds": 1.0, "asked": 3, "answered": 3},
                      {"step": "b", "seconds": 3.0, "asked": 3, "answered": 2}])
    assert [(bar.begin, bar.width) for bar in bars] == [(0.0, 0.25), (0.25, 0.75)] and step_bars([]) == []


def test_planned_epsilon_is_of_the_manifest(served: tuple[Console, TestClient]) -> None:
    from coordinator.release_facts import privacy_numbers
    from privacy.messages import SignedManifest

    folder = served[0].home.runs_folder / "demo"
    manifest = SignedManifest.from_bytes((folder / "manifest.bin").read_bytes()).manifest
    with served[0].database.reading() as connection:
        rows = {row["site_id"]: row["epsilon"] for row in queries.planned_of(connection, "demo")}
    assert rows == {one["site_id"]: pytest.approx(one["epsilon"]) for one in privacy_numbers(manifest)}
