"""What the performance claims rest on; each prints one table and its goals, and can write one JSON file."""
