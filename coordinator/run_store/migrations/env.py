"""Run by Alembic: migrate the connection that `coordinator.run_store.database` hands over."""

from __future__ import annotations

from alembic import context

from coordinator.run_store.schema import METADATA

__all__ = ["migrate"]


def migrate() -> None:
    """Within the transaction that the connection is in."""
    context.configure(
        connection=context.config.attributes["connection"], target_metadata=METADATA, transactional_ddl=True,
        transaction_per_migration=False)
    context.run_migrations()


migrate()
