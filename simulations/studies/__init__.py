"""Studies: what the documents' numbers rest on, each one command and resumable."""
