"""JSON log lines: what is taken out of a text, and that at a hospital nothing of a patient gets through."""

from __future__ import annotations

import ast
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from configs.checks import LOG_FORMATS
from privacy.transport.log_lines import FORMATS, JsonLines, as_line, is_json, redacted, use_format
from privacy.transport.service import say

ROOT = Path(__file__).resolve().parents[3]
UID = "1.2.826.0.1.3680043.8.498.4711"


@pytest.fixture(autouse=True)
def no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDGPT_LOG_FORMAT", "")
    monkeypatch.delenv("MEDGPT_LOG_FORMAT")
    monkeypatch.setitem(__import__("privacy.transport.log_lines", fromlist=["_side"])._side, "strict", False)


@pytest.mark.parametrize(("text", "gone"), [
    ("cannot read /srv/data/SMITH_JOHN/a b.dcm", "SMITH"), ("file data/SMITH_JOHN/x is bad", "SMITH"),
    ("bad file SMITH_JOHN.dcm", "SMITH"), (f"instance {UID} is bad", UID), (f"uid={UID}", "4711"),
    ("patient P4711 is bad", "4711"), ("patient=4711", "4711"), ("PatientID: AB-12345", "12345"),
    ("patient_name=Smith", "Smith"), ("name: Smith", "Smith"), ("SMITH^JOHN^A", "JOHN"), ("born 1961-03-04", "1961"),
    ("born 04.03.1961", "1961"), ("at 1961-03-04T10:11:12", "1961"), ("ask john.smith@clinic.example", "john"),
    ("value 'Smith, John' is no date", "Smith"), ('value "Smith" is no date', "Smith"),
    (f"pseudonym {'ab' * 32}", "abab"), ("accession=A1", "A1"), ("MRN: 77", "77"), ("00471234 has two", "0047"),
    ("token=hunter2hunter2", "hunter2"), ("postgresql://user:hunter2@db/x", "hunter2")])
def test_at_a_hospital_it_is_taken_out(text: str, gone: str) -> None:
    assert gone not in redacted(text, strict=True) and "[" in redacted(text, strict=True)


@pytest.mark.parametrize("text", [
    "indexed patients=1234 refused=25", "encoded samples=100000 refused=3", "trained seconds=12.345",
    "budget spent=1.25 asked=3.5 left=2.25", "refused code=P_RELEASE: the run's bundle is not of the site's release",
    "step=sa_mask failed kind=ValueError at=training.py:120",
    "site-1: coordinator fl.example.org:8443, federation north", "ready: waiting for runs",
    "node: the node ended (exit code -9): killed or out of memory", "rank pid=123456 does not end",
    "ledger witnesses=2 needed=3"])
def test_what_an_operator_needs_stays(text: str) -> None:
    assert redacted(text, strict=True) == text


def line_of(strict: bool, name: str = "site_client.executor", text: str = "failed",
            error: BaseException | None = None) -> dict[str, str]:
    record = logging.LogRecord(name, logging.ERROR, "x.py", 1, text, (), None)
    if error is not None:
        try:
            raise error
        except BaseException as raised:
            record.exc_info = (type(raised), raised, raised.__traceback__)
    line = JsonLines(strict=strict).format(record)
    assert "\n" not in line
    found: dict[str, str] = json.loads(line)
    return found


def test_an_exceptions_text_stays_out_of_a_hospitals_log_and_its_place_does_not() -> None:
    error = ValueError("row of Smith in /srv/data/P4711.csv")
    strict = line_of(True, error=error)
    assert strict["error"].startswith("ValueError at test_log_lines.py:") and "Smith" not in json.dumps(strict)
    assert "row of Smith" in line_of(False, error=error)["error"]


def test_another_librarys_text_stays_out_of_a_hospitals_log() -> None:
    assert line_of(True, "pydicom", "value Smith")["message"] == "[another library's text]"
    assert line_of(True, "flwr", "Starting Flower SuperNode")["message"] == "Starting Flower SuperNode"
    assert line_of(True, "__main__", "not answered")["message"] == "not answered"  # `python -m` of a process of ours
    assert line_of(False, "pydicom", "value Smith")["message"] == "value Smith"


def test_the_formats_of_the_configurations_are_these() -> None:
    assert LOG_FORMATS == FORMATS


def test_the_environment_wins_and_a_wrong_one_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_json()
    use_format("json")
    assert is_json()
    monkeypatch.setenv("MEDGPT_LOG_FORMAT", "text")
    use_format("json")
    assert not is_json()
    use_format("text", insist=True)
    assert is_json()
    monkeypatch.setenv("MEDGPT_LOG_FORMAT", "xml")
    with pytest.raises(ValueError, match="must be one of text, json"):
        use_format("text")


def test_what_a_command_says_is_a_line_of_its_log(capsys: pytest.CaptureFixture[str]) -> None:
    say("ready")
    assert capsys.readouterr().out[8:] == " ready\n"
    use_format("json", strict=True)
    say("look at /srv/data/SMITH")
    found = json.loads(capsys.readouterr().out)
    assert found["message"] == "look at [path]" and found["level"] == "info" and set(found) == {
        "time", "level", "logger", "message"}
    assert json.loads(as_line("ready"))["message"] == "ready"


def test_a_process_that_ends_badly_logs_its_kind_alone() -> None:
    code = ("from privacy.transport.child import log_to_output\nlog_to_output(strict=True)\n"
            "import logging\nlogging.getLogger('site_client.x').info('patient=%s', 'Smith')\n"
            "raise ValueError('Smith in /srv/P4711')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT,
                          env={**os.environ, "MEDGPT_LOG_FORMAT": "json"})
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 1 and "Smith" not in done.stderr and "4711" not in done.stderr
    assert [line["level"] for line in lines] == ["info", "critical"] and lines[1]["error"].startswith("ValueError at ")


def test_flowers_own_records_take_our_handler() -> None:
    code = ("import logging\nfrom pathlib import Path\nfrom privacy.transport.child import log_to_output\n"
            "from privacy.transport.flower_internals.process import prepare\n"
            "from privacy.transport.timing import Timing\n"
            "log_to_output(strict=True)\nprepare(Timing())\n"
            "logging.getLogger('flwr').info('at %s', '/srv/data/SMITH')\n"
            "logging.getLogger('flwr').debug('not this')\n"
            "import uvicorn\nuvicorn.Config(lambda: None)\n"  # as Flower makes its server
            "logging.getLogger('uvicorn.error').info('serves')\n"
            "logging.getLogger('uvicorn.access').info('nor this')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT,
                          env={**os.environ, "MEDGPT_LOG_FORMAT": "json"})
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["message"] for line in done.stderr.splitlines()] == ["at [path]", "serves"]
    assert done.stdout == ""


# Exceptions whose text a site's log call quotes: each is a sentence of our own (see the call).
QUOTED = {"site_client/executor.py": 1, "site_client/rank_process.py": 1, "site_client/reception.py": 2}


def test_no_further_log_call_of_a_site_quotes_an_exception() -> None:
    found: dict[str, int] = {}
    for path in sorted((ROOT / "site_client").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(
                    node.func.value, ast.Name) and node.func.value.id == "_log" and any(
                    isinstance(one, ast.Name) and one.id == "error" for one in node.args):
                name = path.relative_to(ROOT).as_posix()
                found[name] = found.get(name, 0) + 1
    assert found == QUOTED
