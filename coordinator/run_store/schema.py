"""The run store's tables. Every row follows from a file of the coordinator's folder; nothing is only here.

Times are Unix seconds, durations seconds, sizes bytes, losses nats, accuracies shares from 0 to 1.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Integer, MetaData, Table, Text

__all__ = ["METADATA", "cohorts", "measures", "owner", "participation", "planned", "rounds", "runs", "steps"]

METADATA = MetaData()

owner = Table(
    "owner", METADATA,
    Column("federation_id", Text, primary_key=True),  # one row: whose store it is
)

runs = Table(
    "runs", METADATA,
    Column("run_id", Text, primary_key=True),
    Column("state", Text, nullable=False),            # of state.json; "unknown" without one
    Column("reason", Text, nullable=False),
    Column("queued", Float),
    Column("rounds_total", Integer),
    Column("ended", Text, nullable=False),            # "", "end", "failed" or "stopped": the journal's last word
    Column("ended_text", Text, nullable=False),
    Column("first_time", Float),
    Column("last_time", Float),
    Column("manifest", JSON),                         # coordinator.release_facts.manifest_facts, and privacy settings
    Column("lost_rounds", JSON, nullable=False),      # numbers of rounds whose uploads began and that have no sum
    Column("unreadable", Integer, nullable=False),    # lines of its journals that are none
    Column("position", BigInteger, nullable=False),   # bytes of progress.jsonl that are in the store
    Column("beginning", Text, nullable=False),        # SHA-256 of its first bytes: another file begins otherwise
    Column("steps_position", BigInteger, nullable=False),
)

rounds = Table(
    "rounds", METADATA,
    Column("run_id", Text, primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("attempt", Integer),
    Column("stage", Integer, nullable=False),
    Column("stage_name", Text, nullable=False),
    Column("factor", Text, nullable=False),
    Column("ended", Float),                           # None: known from a checkpoint only
    Column("seconds", Float),
    Column("drawn", Float),                           # noised, as are the next two
    Column("mean_loss", Float),
    Column("accuracy", Float),
    Column("saturated", Float),
)

participation = Table(
    "participation", METADATA,
    Column("run_id", Text, primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("site_id", Text, primary_key=True),
    Column("invited", Boolean, nullable=False),
    Column("started", Boolean, nullable=False),
    Column("masked", Boolean, nullable=False),
    Column("summed", Boolean, nullable=False),
    Column("attested", Boolean, nullable=False),
    Column("missing", Text, nullable=False),          # step and reason; "" = none
    Column("bytes_to", BigInteger, nullable=False),
    Column("bytes_from", BigInteger, nullable=False),
)

measures = Table(
    "measures", METADATA,                             # on public questions
    Column("run_id", Text, primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Float, nullable=False),
)

cohorts = Table(
    "cohorts", METADATA,                              # answers to admissions
    Column("run_id", Text, primary_key=True),
    Column("position", BigInteger, primary_key=True),  # of the event in progress.jsonl
    Column("entry", Integer, primary_key=True),
    Column("time", Float, nullable=False),
    Column("floor", Integer, nullable=False),
    Column("site_id", Text, nullable=False),          # "" = a node that did not say which site it is
    Column("accepted", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
)

steps = Table(
    "steps", METADATA,
    Column("run_id", Text, primary_key=True),
    Column("position", BigInteger, primary_key=True),  # of the event in steps.jsonl
    Column("time", Float, nullable=False),
    Column("round", Integer, nullable=False),
    Column("step", Text, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("asked", Integer, nullable=False),
    Column("answered", Integer, nullable=False),
)

planned = Table(
    "planned", METADATA,                              # from the signed manifest
    Column("run_id", Text, primary_key=True),
    Column("site_id", Text, primary_key=True),
    Column("declared_patients", Integer, nullable=False),
    Column("delta", Float, nullable=False),
    Column("epsilon", Float),                         # of the whole schedule; None = a run without privacy
)
