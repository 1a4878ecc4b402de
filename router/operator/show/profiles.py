"""Profiles of models on their accelerators as a table."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from router.model import Profile, TokenProfile


def render_profiles(profiles: Iterable[Profile]) -> Table:
    """One profile a row; what a kind of profile does not have is a dash."""
    table = Table(box=None, pad_edge=False)
    table.add_column("PROFILE", no_wrap=True)
    table.add_column("FIGURES")
    for heading in ("IDLE, W", "RUNNING, W", "TPOT ALONE, ms", "MOST AT ONCE"):
        table.add_column(heading, justify="right")
    table.add_column("SOURCE", overflow="fold")
    for profile in profiles:
        figures = ("-", "-", "-")
        if isinstance(profile, TokenProfile):
            tpot_ms = profile.tpot_base_ms + profile.tpot_ms_per_sequence
            figures = (f"{profile.idle_w:g}", f"{profile.base_w:g}", f"{tpot_ms:.1f}")
        table.add_row(
            profile.name,
            profile.provenance.value,
            *figures,
            str(profile.max_batch),
            profile.source.partition(",")[0],
        )
    return table
