"""Pages that an operator looks at on the own machine: who may see them, how they are served, what they look like."""
