"""What callers ask of their own rows: one by its decision id, and those of a period as CSV."""
