"""What crosses a hospital's boundary, and what makes that safe, for both sides of it.

*Guarantees.* Nothing by itself: see `README.md` in this folder for the threat model, and each module's own
headings.
*Assumes.* Every module here is imported on its own; this package imports nothing of the other packages.
*Does not cover.* Training, data access, transport.
"""
