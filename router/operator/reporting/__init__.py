"""Reports of a month of a ledger: what was emitted, by whose rules, and how to recompute it."""
