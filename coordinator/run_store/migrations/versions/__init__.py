"""The forms that the run store had, oldest first."""
