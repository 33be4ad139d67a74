"""A recorded run of three real sites, written to TensorBoard, MLflow and a collector of OpenTelemetry."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

import coordinator.cli
from coordinator.measures import measures_of, step_times
from tests.coordinator.console.homes import RECORDED, add_recorded
from tests.coordinator.finished_run import make_base, make_home

EVENTS = [json.loads(line) for line in (RECORDED / "progress.jsonl").read_text().splitlines()]
ROUNDS = [event for event in EVENTS if event["event"] == "round"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tracked")
    made = make_home(folder)
    add_recorded(folder, made, make_base(folder / "base"))
    return made


def track(home: Path, *words: object) -> int:
    return coordinator.cli.main(["track", str(home), "demo", *map(str, words)])


def test_every_round_is_in_tensorboards_files(home, tmp_path, capsys):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert track(home, "--tensorboard", tmp_path) == 0
    assert f"{len(ROUNDS)} rounds written" in capsys.readouterr().out
    found = EventAccumulator(str(tmp_path / "demo")).Reload()
    for name, value in ROUNDS[-1]["public"].items():
        series = found.Scalars(f"public/{name}")
        assert [one.step for one in series] == [event["round"] for event in ROUNDS]
        assert series[-1].value == pytest.approx(value, rel=1e-6)
    assert "step/sa_mask_seconds" in found.Tags()["scalars"]
    assert track(home, "--tensorboard", tmp_path) == 2  # a second copy would be drawn over the first


def test_mlflow_gets_each_round_once(home, tmp_path, capsys):
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for _ in range(2):
        assert track(home, "--mlflow", uri) == 0
    client = MlflowClient(tracking_uri=uri)
    experiment = client.search_experiments(filter_string="name != 'Default'")[0]
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "round/seconds")
    assert [metric.step for metric in history] == [event["round"] for event in ROUNDS]
    assert history[0].value == pytest.approx(ROUNDS[0]["seconds"])


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", bodies
    server.shutdown()


def spans(bodies: list[bytes]) -> list[object]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    return [span for body in bodies for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans for span in scope.spans]


def test_a_collector_gets_rounds_with_their_steps_and_the_same_names_again(home, collector):
    url, bodies = collector
    assert track(home, "--otlp", url) == 0
    first = spans(bodies)
    rounds = [span for span in first if span.name == "round"]
    assert len(rounds) == len(ROUNDS)
    assert rounds[0].end_time_unix_nano == int(ROUNDS[0]["time"] * 1e9)
    below = {span.parent_span_id for span in first if span.name != "round"}
    assert below and below <= {span.span_id for span in rounds}
    bodies.clear()
    assert track(home, "--otlp", url) == 0
    assert {span.span_id for span in spans(bodies)} == {span.span_id for span in first}


@pytest.mark.parametrize("words", [("--otlp", "127.0.0.1:4318"), ("--otlp", "file:///etc/passwd")])
def test_an_address_that_is_none_is_refused_in_a_sentence(home, capsys, words):
    assert track(home, *words) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_unknown_run_is_refused(home, tmp_path, capsys):
    assert coordinator.cli.main(["track", str(home), "nobody", "--tensorboard", str(tmp_path)]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_nothing_of_a_single_site_is_a_measure():
    for event in ROUNDS:
        measures = measures_of(event)
        assert measures is not None
        assert not re.search("|".join(event["invited"]), " ".join(measures.values))
    assert measures_of({"event": "begin"}) is None
    steps = [json.loads(line) for line in (RECORDED / "steps.jsonl").read_text().splitlines()]
    assert all(step.begin <= step.end for step in step_times(steps))
