"""Figures that are promised, held against what was measured, and printed."""

# A machine that runs other tests beside this one is late by itself.
SLACK = 3.0


def within(record, what, measured, promised, unit="s"):
    """Hold ``measured`` to what is promised, with room for a busy machine; ``record``: pytest's
    ``record_property``, so that the run's summary can tell the figure as it was."""
    record("promise", (what, measured, promised, unit))
    assert measured <= SLACK * promised, f"{what}: {measured:.3g} {unit}, promised {promised:g}"
