"""Profiles as a table."""

from rich.console import Console

from router.config.loading import shipped_profiles
from router.model import Provenance, TaskProfile
from router.operator.show.profiles import render_profiles


def lines(profiles):
    console = Console(width=200)
    with console.capture() as shown:
        console.print(render_profiles(profiles))
    return shown.get().splitlines()


def test_every_profile_that_ships_has_a_row():
    shipped = shipped_profiles()
    _, *rows = lines(shipped.values())
    assert [row.split()[:2] for row in rows] == [
        [name, one.provenance.value] for name, one in shipped.items()
    ]


def test_what_a_task_does_not_have_is_a_dash():
    task = TaskProfile("resnet@cpu", 2.0, 30.0, 1.0, 8, 0.0, Provenance.ESTIMATED, "operator")
    _, row = lines([task])
    assert row.split() == ["resnet@cpu", "estimated", "-", "-", "-", "8", "operator"]
