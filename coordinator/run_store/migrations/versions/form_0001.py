"""The first form: runs, rounds, who took part, what was measured, admissions, protocol steps, planned epsilon."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

__all__ = ["branch_labels", "depends_on", "down_revision", "downgrade", "revision", "upgrade"]

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    _make_runs()
    _make_rounds()
    _make_answers()


def _make_runs() -> None:
    """Whose store it is, the runs, and what was planned for each site."""
    op.create_table(
        "owner",
        sa.Column("federation_id", sa.Text(), primary_key=True),
    )
    op.create_table(
        "runs",
        sa.Column("run_id", sa.Text(), primary_key=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("queued", sa.Float()),
        sa.Column("rounds_total", sa.Integer()),
        sa.Column("ended", sa.Text(), nullable=False),
        sa.Column("ended_text", sa.Text(), nullable=False),
        sa.Column("first_time", sa.Float()),
        sa.Column("last_time", sa.Float()),
        sa.Column("manifest", sa.JSON()),
        sa.Column("lost_rounds", sa.JSON(), nullable=False),
        sa.Column("unreadable", sa.Integer(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("beginning", sa.Text(), nullable=False),
        sa.Column("steps_position", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "planned",
        sa.Column("run_id", sa.Text(), primary_key=True),
        sa.Column("site_id", sa.Text(), primary_key=True),
        sa.Column("declared_patients", sa.Integer(), nullable=False),
        sa.Column("delta", sa.Float(), nullable=False),
        sa.Column("epsilon", sa.Float()),
    )


def _make_rounds() -> None:
    """Finished rounds, who took part, and what was measured."""
    op.create_table(
        "rounds",
        sa.Column("run_id", sa.Text(), primary_key=True),
        sa.Column("round", sa.Integer(), primary_key=True),
        sa.Column("attempt", sa.Integer()),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("stage_name", sa.Text(), nullable=False),
        sa.Column("factor", sa.Text(), nullable=False),
        sa.Column("ended", sa.Float()),
        sa.Column("seconds", sa.Float()),
        sa.Column("drawn", sa.Float()),
        sa.Column("mean_loss", sa.Float()),
        sa.Column("accuracy", sa.Float()),
        sa.Column("saturated", sa.Float()),
    )
    op.create_table(
        "participation",
        sa.Column("run_id", sa.Text(), primary_key=True),
        sa.Column("round", sa.Integer(), primary_key=True),
        sa.Column("site_id", sa.Text(), primary_key=True),
        sa.Column("invited", sa.Boolean(), nullable=False),
        sa.Column("started", sa.Boolean(), nullable=False),
        sa.Column("masked", sa.Boolean(), nullable=False),
        sa.Column("summed", sa.Boolean(), nullable=False),
        sa.Column("attested", sa.Boolean(), nullable=False),
        sa.Column("missing", sa.Text(), nullable=False),
        sa.Column("bytes_to", sa.BigInteger(), nullable=False),
        sa.Column("bytes_from", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "measures",
        sa.Column("run_id", sa.Text(), primary_key=True),
        sa.Column("round", sa.Integer(), primary_key=True),
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("value", sa.Float(), nullable=False),
    )


def _make_answers() -> None:
    """Answers to admissions, and the time of protocol steps."""
    op.create_table(
        "cohorts",
        sa.Column("run_id", sa.Text(), primary_key=True),
        sa.Column("position", sa.BigInteger(), primary_key=True),
        sa.Column("entry", sa.Integer(), primary_key=True),
        sa.Column("time", sa.Float(), nullable=False),
        sa.Column("floor", sa.Integer(), nullable=False),
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("accepted", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
    )
    op.create_table(
        "steps",
        sa.Column("run_id", sa.Text(), primary_key=True),
        sa.Column("position", sa.BigInteger(), primary_key=True),
        sa.Column("time", sa.Float(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.Column("answered", sa.Integer(), nullable=False),
    )


def downgrade() -> None:
    """Remove them: they are made again from the coordinator's files."""
    for table in ("owner", "runs", "rounds", "participation", "measures", "cohorts", "steps", "planned"):
        op.drop_table(table)
