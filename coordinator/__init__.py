"""The operator's side: rounds, curriculum, checkpoints. It never sees an image, a report or one site's update."""
