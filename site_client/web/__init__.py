"""`site-client status --web`: the hospital's own view of what ran, what left, and what is left of the budget."""
