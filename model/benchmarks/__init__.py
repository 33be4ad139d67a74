"""Readers of published medical benchmarks from local copies: nothing is downloaded, every row is checked."""
