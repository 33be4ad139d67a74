"""Where a run's measures can be written for a team's own tools: TensorBoard files, an MLflow server, OpenTelemetry.

Each is an extra, imported only when it is asked for, with its own telemetry and update checks switched off.
Nothing is sent anywhere but to the address that the operator names.
"""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from coordinator.measures import RoundMeasures, StepTime

__all__ = ["MlflowTracker", "SpanTracker", "TensorboardTracker", "Tracker"]

_TAG = "medgpt.run"


class Tracker(Protocol):
    """A place for measures."""

    def add(self, measures: RoundMeasures, steps: list[StepTime]) -> None:
        """One round; steps of the protocol may be missing."""

    def close(self) -> None:
        """Everything that was added is there."""


def _missing(extra: str) -> ValueError:
    return ValueError(f"this needs the extra `{extra}`: pip install 'federated-medgpt[{extra}]'")


class TensorboardTracker:
    """Scalars by round, in a new folder `folder`/`run_id`.

    Raises:
        ValueError: the folder holds something already, or the extra is missing.
    """

    def __init__(self, folder: Path, run_id: str) -> None:
        target = folder / run_id
        if target.exists() and any(target.iterdir()):
            raise ValueError(f"{target} is not empty, and a second copy of the same rounds would be drawn over the "
                             "first; remove it or name another folder")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise _missing("tensorboard") from None
        self._writer: Any = SummaryWriter(str(target))

    def add(self, measures: RoundMeasures, steps: list[StepTime]) -> None:
        """Each value at the round's number and end."""
        for name, value in measures.values.items():
            self._writer.add_scalar(name, value, measures.round, walltime=measures.end)
        for step in steps:
            self._writer.add_scalar(f"step/{step.step}_seconds", step.end - step.begin, measures.round, step.end)

    def close(self) -> None:
        """Flush the files."""
        self._writer.close()


class MlflowTracker:
    """One MLflow run, found again by a tag, so that the same command later adds the rounds that came since.

    Args:
        uri: of the tracking server (http, https) or database (`sqlite:///FILE`).
        federation_id: the experiment's name.
        run_id: the run's name.

    Raises:
        ValueError: the extra is missing, or the server cannot be asked.
    """

    def __init__(self, uri: str, federation_id: str, run_id: str) -> None:
        for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
            os.environ[name] = "true"
        try:
            from mlflow.entities import Metric
            from mlflow.exceptions import MlflowException
            from mlflow.tracking import MlflowClient
        except ImportError:
            raise _missing("mlflow") from None
        self._metric: Any = Metric
        try:
            self._client: Any = MlflowClient(tracking_uri=uri)
            self._run, self._seen = self._open(federation_id, run_id)
        except MlflowException as error:
            raise ValueError(f"MLflow at {_without_login(uri)} cannot be used ({error.error_code}); is the address "
                             "right and the server running?") from None

    def _open(self, federation_id: str, run_id: str) -> tuple[str, int]:
        """The MLflow run's identifier and the newest round that it has."""
        experiment = self._client.get_experiment_by_name(federation_id)
        number = experiment.experiment_id if experiment is not None else self._client.create_experiment(federation_id)
        for found in self._client.search_runs([number], f"tags.`{_TAG}` = '{run_id}'", max_results=1):
            history = self._client.get_metric_history(found.info.run_id, "round/seconds")
            return str(found.info.run_id), max((metric.step for metric in history), default=0)
        made = self._client.create_run(number, run_name=run_id, tags={_TAG: run_id})
        return str(made.info.run_id), 0

    def add(self, measures: RoundMeasures, steps: list[StepTime]) -> None:
        """Each value at the round's number and end, unless the round is there."""
        if measures.round <= self._seen:
            return
        at, values = int(measures.end * 1000), dict(measures.values)
        values |= {f"step/{step.step}_seconds": step.end - step.begin for step in steps}
        seconds = values.pop("round/seconds")  # last: it says that the round is whole
        self._client.log_batch(self._run, metrics=[
            self._metric(name, value, at, measures.round) for name, value in values.items()])
        self._client.log_metric(self._run, "round/seconds", seconds, at, measures.round)

    def close(self) -> None:
        """The run is marked as finished."""
        self._client.set_terminated(self._run)


class SpanTracker:
    """OpenTelemetry spans over OTLP/HTTP: one a round, one a step inside it. Their identifiers follow from the "
      "run's name,
    so that sending a run twice does not make two.

    Args:
        url: of the collector, such as http://127.0.0.1:4318; `/v1/traces` is added.

    Raises:
        ValueError: the URL is none, or the extra is missing.
    """

    def __init__(self, url: str, federation_id: str, run_id: str) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ValueError(f"--otlp takes a collector's address such as http://127.0.0.1:4318, not {url!r}")
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            raise _missing("opentelemetry") from None
        self._ids = _ids(f"{federation_id}/{run_id}")
        self._provider: Any = TracerProvider(
            resource=Resource({"service.name": "medgpt-coordinator", "medgpt.federation": federation_id}),
            id_generator=self._ids)
        exporter = OTLPSpanExporter(endpoint=f"{url.rstrip('/')}/v1/traces", timeout=10)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer: Any = self._provider.get_tracer("medgpt")
        self._run_id = run_id

    def add(self, measures: RoundMeasures, steps: list[StepTime]) -> None:
        """A span with the round's values as attributes, and its steps below it."""
        from opentelemetry import trace

        self._ids.next = f"round/{measures.round}"
        span = self._tracer.start_span(
            "round", context=trace.set_span_in_context(trace.INVALID_SPAN), start_time=_ns(measures.begin),
            attributes={"medgpt.run": self._run_id, "medgpt.round": measures.round, "medgpt.stage": measures.stage,
                        **{f"medgpt.{name.replace('/', '.')}": value for name, value in measures.values.items()}})
        for step in steps:
            self._ids.next = f"round/{measures.round}/{step.step}/{step.begin}"
            self._tracer.start_span(
                step.step, context=trace.set_span_in_context(span), start_time=_ns(step.begin),
                attributes={"medgpt.asked": step.asked, "medgpt.answered": step.answered}).end(_ns(step.end))
        span.end(_ns(measures.end))

    def close(self) -> None:
        """Everything is sent.

        Raises:
            ValueError: the collector did not take it.
        """
        if not self._provider.force_flush(20_000):
            raise ValueError("the collector did not take all spans in 20 s; is the address right and the collector "
                             "running?")
        self._provider.shutdown()


def _ids(run: str) -> Any:
    """Identifiers that follow from names; made here, since the class to derive from belongs to the extra."""
    from opentelemetry.sdk.trace.id_generator import IdGenerator

    class Named(IdGenerator):  # type: ignore[misc]
        next = ""

        def generate_span_id(self) -> int:
            return int.from_bytes(sha256(f"{run}/{self.next}".encode()).digest()[:8], "big")

        def generate_trace_id(self) -> int:
            return int.from_bytes(sha256(f"{run}/{self.next}/trace".encode()).digest()[:16], "big")

    return Named()


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)


def _without_login(uri: str) -> str:
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
