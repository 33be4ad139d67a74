"""The hospital's side: the only package that touches patient data."""
