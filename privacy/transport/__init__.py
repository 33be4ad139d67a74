"""How messages travel between a hospital and the coordinator: Flower's processes, for both sides."""
