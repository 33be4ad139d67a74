"""Typed configuration: the schema, the YAML files and their loader."""
