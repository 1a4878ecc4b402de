"""Composition root: builds every object, lists every built-in, owns the only TaskGroup."""
