"""`fedsecagg/1`: secure aggregation for 3 to 200 hospitals, both state machines side by side, sans I/O.

*Guarantees.* The coordinator learns the sum over a cohort that every surviving site agreed on (README.md here).
*Assumes.* A pinned roster, and at most 2t - n - 1 sites colluding with the coordinator, t = floor(2n/3) + 1.
*Does not cover.* What the sum itself reveals (differential privacy does), poisoned inputs, denial of service.
"""
