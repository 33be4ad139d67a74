"""The coordinator's web console: pages that only read, for the operators of this machine."""
