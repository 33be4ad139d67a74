"""Patient-level differential privacy: draw, per-patient gradients, clip, noise, account.

*Guarantees.* nothing by itself; each module states its own.
*Assumes.* the unit is the patient and the neighbouring relation is add/remove one patient, everywhere.
*Does not cover.* who sees the released sums (`privacy.secagg`) and how much may be spent (`privacy.ledger`).
"""
