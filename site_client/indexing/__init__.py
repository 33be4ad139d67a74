"""The persisted index of a hospital's data: which files there are, whose they are, and which samples they make."""
