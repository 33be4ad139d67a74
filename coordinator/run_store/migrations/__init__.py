"""Alembic's environment of the run store."""
