"""Decisions kept for the record: what each saw and what it answered, so that it can be replayed."""
