"""Every page from a folder with real recorded runs, from an empty one, and from damaged ones."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from coordinator.console.app import Console
from coordinator.exports import record_export
from coordinator.run_queue import RunQueue
from tests.coordinator.console.homes import finish, log_in, serving
from tests.coordinator.finished_run import make_home
from tests.coordinator.run_store.journals import append, begin, cohort, make_run_folder, round_event, step_event

PAGES = ("/", "/sites", "/releases", "/runs/demo", "/runs/first", "/runs/demo/rounds/5", "/sites/site-2",
         "/releases/first/1", "/nowhere", "/login")


class Structure(HTMLParser):
    """What a strict content policy and a screen reader care about."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.faults: list[str] = []
        self.levels: list[int] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.counts: dict[str, int] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if tag == "style" or "style" in values or any(name.startswith("on") for name in values):
            self.faults.append(f"inline style or handler: {tag} {values}")
        if tag == "script" and not (values.get("src") or "").startswith("/static/"):
            self.faults.append("inline script")
        for name in ("src", "href", "action"):
            if not (values.get(name) or "/").startswith(("/", "#")) or (values.get(name) or "").startswith("//"):
                self.faults.append(f"{tag} leads away: {values[name]}")
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
        self.ids += [values["id"] or ""] if "id" in values else []
        for name in ("aria-labelledby", "aria-describedby", "for"):
            self.references += (values.get(name) or "").split()


@pytest.mark.parametrize("path", PAGES)
def test_a_page_holds_no_inline_code_and_is_well_formed_for_a_screen_reader(path: str, client: TestClient) -> None:
    found = Structure(client.get(path).text)
    assert found.faults == []
    assert found.levels.count(1) == 1 and found.levels[0] == 1
    assert all(after - before <= 1 for before, after in zip(found.levels, found.levels[1:], strict=False))
    assert len(found.ids) == len(set(found.ids)), sorted(one for one in found.ids if found.ids.count(one) > 1)
    assert set(found.references) <= set(found.ids)
    assert found.counts["main"] == 1 and found.counts.get("caption", 0) == found.counts.get("table", 0)


def test_the_run_page_shows_what_was_recorded(client: TestClient) -> None:
    text = client.get("/runs/demo").text
    assert re.search(r"<strong>9</strong> of 9", text) and text.count("3 of at most 3") == 3
    for stage in ("alignment", "multi-image", "instruction"):
        assert f"<h3>{stage}</h3>" in text
    assert "Loss on public questions" in text and "Accuracy on public questions" in text
    assert "noised, masked means" in text and "Not a measurement." in text
    assert text.index("On public questions") < text.index("Not a measurement.") < text.index(
        "Mean loss of drawn patients, with noise")
    assert len(re.findall(r"/runs/demo/rounds/\d\"", text)) == 9
    assert "Planned epsilon" in text and "only each site's own ledger says" in text
    assert re.search(r"Planned epsilon of the whole schedule.*?<td class=\"n\">7\.99", text, re.DOTALL)


def test_a_chart_has_words_and_a_table_with_its_numbers(client: TestClient, served: tuple[Console, TestClient]) -> None:
    text = client.get("/runs/demo").text
    events = [json.loads(line) for line in (
        served[0].home.runs_folder / "demo" / "progress.jsonl").read_text().splitlines()]
    last = [event for event in events if event["event"] == "round"][-1]
    assert f"to {last['public']['loss_alike']:.3g} in round 9" in text
    table = text.split('id="public-loss-table"')[1].split("</table>")[0]
    assert f"{last['public']['loss_alike']:.4g}" in table and len(re.findall(r'<th scope="row">', table)) == 9


def test_the_round_page_shows_steps_and_sites(client: TestClient) -> None:
    text = client.get("/runs/demo/rounds/5").text
    for words in ("train and announce keys", "upload masked updates", "check the result and attest"):
        assert words in text
    assert text.count("<td>yes</td>") == 3 * 5 and "with noise" in text


def test_the_site_page_says_planned_and_never_spent(client: TestClient) -> None:
    text = client.get("/sites/site-2").text
    assert "Planned, not spent." in text and "only this site knows" in text and "P_BUDGET" in text
    assert "9 in the sum of 9 invited" in text and re.search(r"7\.99\d* <span", text)


def test_the_release_page_verifies_in_the_background(client: TestClient) -> None:
    for _ in range(600):
        text = client.get("/releases/first/1").text
        if "Every file is being hashed" not in text:
            break
        import time

        time.sleep(0.05)
    assert "It holds, against the roster in force here." in text
    assert "This does not prove" in text and "never for clinical decisions" in text
    assert re.search(r"SHA-256 of release.json</dt><dd><code>[0-9a-f]{64}</code>", text)
    assert "holds" in client.get("/releases").text and "/releases/first/1" in client.get("/runs/first").text


@pytest.mark.parametrize("path", ["/runs/nobody", "/runs/demo/rounds/99", "/runs/demo/rounds/99999999999", "/sites/x",
                                  "/releases/demo/1", "/releases/first/2", "/releases/first/0", "/releases/../1",
                                  "/runs/%2e%2e", "/runs/<script>", "/sites/a%00b", "/runs/demo/rounds/-1"])
def test_what_is_not_there_is_said_so(path: str, client: TestClient) -> None:
    answer = client.get(path)
    assert answer.status_code == 404 and "Not found" in answer.text and "<script>" not in answer.text


@pytest.mark.parametrize("upto", ["1", "0", "-1", "x", "999999999999", "١", ""])
def test_any_number_pages_the_rounds(upto: str, client: TestClient) -> None:
    answer = client.get("/runs/demo", params={"upto": upto})
    assert answer.status_code == 200 and (("Newest rounds" in answer.text) == (upto == "1"))


# ---------------------------------------------------------------- a folder of the test's own


@pytest.fixture(scope="module")
def bare_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("bare"))


@pytest.fixture
def home(bare_home: Path, tmp_path: Path) -> Path:
    """With a roster, without a run."""
    return Path(shutil.copytree(bare_home, tmp_path / "home"))


@contextmanager
def page_of(home: Path, **changed: object) -> Iterator[TestClient]:
    store = home.parent / "store"
    store.mkdir(exist_ok=True)
    with serving(home, store, **changed) as (_, client):  # type: ignore[arg-type]
        yield log_in(client)


def test_an_empty_folder_says_what_to_type(home: Path) -> None:
    with page_of(home) as client:
        assert "No run yet." in client.get("/").text and f"coordinator launch {home} CONFIG" in client.get("/").text
        assert "The coordinator is not up" in client.get("/").text
        assert "No release yet." in client.get("/releases").text
        text = client.get("/sites").text
        assert "site-1" in text and "version 1" in text
        assert "No run has asked this site yet." in client.get("/sites/site-1").text


def test_a_queued_run_has_a_page_of_its_own_states(home: Path) -> None:
    make_run_folder(home / "runs", "next", state="queued")
    with page_of(home) as client:
        text = client.get("/runs/next").text
    for words in ("The run's manifest is not signed yet", "Nothing is measured yet", "No round has ended yet",
                  "No site was asked yet", "No release was exported yet"):
        assert words in text


def test_alarms_name_the_run_the_reason_and_what_to_do(home: Path) -> None:
    gone = {"site-2": "sa_train: no-reply"}
    make_run_folder(home / "runs", "broken", begin(1.0), state="failed", reason="round 2 stopped (E_COHORT_SMALL)")
    make_run_folder(home / "runs", "going", cohort(1.0, ["site-1"], ["site-3 (hello: P_BUDGET)", "P_RELEASE"]),
                    begin(2.0), round_event(1, 3.0, gone), round_event(2, 4.0, gone, saturated=0.2))
    with page_of(home) as client:
        text = client.get("/").text
        run = client.get("/runs/going").text
    assert "The run has failed: round 2 stopped (E_COHORT_SMALL)" in text
    assert f"coordinator resume {home} broken" in text
    for words in ("site-2 is missing in the last 2 rounds (sa_train: no-reply)", "site-3 is not in the run: hello: "
                  "P_BUDGET", "Nothing has been heard of the run for", "20.0% of an upload"):
        assert words in text and words in run
    assert "A node without a name is not in the run: P_RELEASE" in run
    assert "privacy budget does not cover" in run and text.index("Alarm") < text.index("Warning")


HOSTILE = ["<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "'-alert(1)-'", "{{ 7*7 }}",
           "javascript:alert(1)", "../../../etc/passwd", "site-1\nSet-Cookie: a=b", "a" * 300, "", "\u202edrawkcab"]


def test_hostile_names_are_text_on_every_page(home: Path) -> None:
    folder = make_run_folder(home / "runs", "going", cohort(1.0, HOSTILE, [f"{one} (hello: {one})" for one in HOSTILE]),
                             begin(2.0), state="running", reason=HOSTILE[0])
    append(folder, round_event(1, 3.0, dict.fromkeys(HOSTILE, HOSTILE[1]), invited=HOSTILE, stage_name=HOSTILE[0],
                               factor=HOSTILE[1], public={HOSTILE[0]: 1.0, "loss_" + HOSTILE[1]: 2.0}),
           step_event(1, HOSTILE[0], 3.0))
    shutil.copytree(folder, home / "runs" / "<b>run")
    pages = ["/", "/sites", "/runs/going", "/runs/going/rounds/1", "/runs/%3Cb%3Erun", "/metrics",
             *(f"/sites/{quoted}" for quoted in ("%3Cscript%3Ealert(1)%3C%2Fscript%3E", "javascript:alert(1)"))]
    with page_of(home) as client:
        for path in pages:
            answer = client.get(path)
            assert answer.status_code in (200, 404), path
            text = answer.text
            if answer.headers["content-type"].startswith("text/html"):
                assert Structure(text).faults == [], path
                assert "<script>alert" not in text and "<img" not in text and "<b>run" not in text
                assert not re.search(r'href="[^"]*(javascript|alert|passwd)', text)
            assert "49" not in re.findall(r"\{\{ 7\*7 \}\}|>49<", text)
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in client.get("/runs/going").text


def test_a_hostile_roster_fault_or_file_is_no_error_page(home: Path) -> None:
    make_run_folder(home / "runs", "going", begin(2.0), round_event(1, 3.0))
    for name in ("state.json", "manifest.bin", "journal.json", "exports.json"):
        (home / "runs" / "going" / name).write_bytes(b"\xff\0<script>")
    (home / "runs" / "going" / "progress.jsonl").open("ab").write(b"<script>\n\xff\xfe\n")
    (home / "roster.bin").write_bytes(b"<script>alert(1)</script>")
    (home / "tls" / "server.crt").write_text("none")
    (home / "log").mkdir(exist_ok=True)
    (home / "log" / "up.json").write_text("{")
    with page_of(home) as client:
        for path in ("/", "/sites", "/sites/site-1", "/runs/going", "/runs/going/rounds/1", "/releases", "/metrics"):
            assert client.get(path).status_code == 200, path
        text = client.get("/").text
    for words in ("No roster is in force", "certificate is missing or damaged", "state cannot be read",
                  "2 lines of the run&#39;s journals cannot be read"):
        assert words in text
    assert "<script>alert" not in text


def test_releases_that_are_gone_damaged_or_changed(recorded_home: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(recorded_home, tmp_path / "home"))
    release = recorded_home.parent / "release"
    changed, damaged = tmp_path / "changed", tmp_path / "damaged"
    shutil.copytree(release, changed)
    (changed / "README.md").write_text("<script>alert(1)</script>")
    damaged.mkdir()
    for folder in (tmp_path / "gone", changed, damaged):
        record_export(home / "runs" / "first", folder, "peft")
    with page_of(home) as client:
        for _ in range(600):
            texts = [client.get(f"/releases/first/{number}").text for number in (2, 3, 4)]
            if "being hashed" not in "".join(texts):
                break
            import time

            time.sleep(0.05)
        everything = client.get("/releases").text
    assert "moved or removed" in texts[0]
    assert "It does not hold:" in texts[1] and "README.md is not the file that was signed" in texts[1]
    assert "<script>alert" not in texts[1] and "&lt;script&gt;" in texts[1]
    assert "holds no release.json" in texts[2] and "cannot be read" in everything and "fails" in everything


def test_a_page_that_fails_says_nothing_of_why(home: Path, monkeypatch: pytest.MonkeyPatch,
                                               caplog: pytest.LogCaptureFixture) -> None:
    from coordinator.console import views

    def fail(*_: object) -> None:
        raise RuntimeError("the secret place /srv/secret")

    monkeypatch.setattr(views, "overview", fail)
    with page_of(home) as client:
        answer = client.get("/")
    assert answer.status_code == 500 and "log/console.log" in answer.text and "/srv/secret" not in answer.text
    assert "request failed" in caplog.text


def test_losing_the_store_loses_nothing(recorded_home: Path, tmp_path: Path) -> None:
    def shown(store: Path) -> list[str]:
        store.mkdir()
        with serving(recorded_home, store) as (_, client):
            log_in(client)
            pages = [client.get(path).text for path in ("/runs/demo", "/sites", "/runs/demo/rounds/5", "/sites/site-1")]
        return [re.sub(r"<time.*?</time>", "", text) for text in pages]

    assert shown(tmp_path / "first") == shown(tmp_path / "second")


def test_a_run_that_goes_on_shows_the_step_it_is_in(recorded_home: Path, tmp_path: Path) -> None:
    import time

    home = Path(shutil.copytree(recorded_home, tmp_path / "home"))
    folder, now = home / "runs" / "demo", time.time()
    whole = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
    steps = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    shift = now - whole[4]["time"]
    for name in ("progress.jsonl", "steps.jsonl"):
        (folder / name).unlink()
    append(folder, *({**event, "time": event["time"] + shift} for event in whole[:5]),
           *({**event, "time": event["time"] + shift} for event in steps if event["round"] <= 3), {
               **steps[18], "round": 4, "time": now})
    (folder / "journal.json").write_text(json.dumps({"masked": {"1": 0, "2": 0, "3": 0, "4": 1}, "attempts": {}}))
    finish(home, "demo", state="running")
    assert [event["event"] for event in whole[:5]] == ["cohort", "begin", "round", "round", "round"]
    with page_of(home) as client:
        text = client.get("/runs/demo").text
    assert "round 4, step 2 of 6: exchange key shares" in text and "Rounds without a sum" not in text
    assert re.search(r"<dt>Time left</dt><dd>about \d", text) and "3 of at most 3" in text
    assert RunQueue(home / "runs").get("demo").state == "running"
