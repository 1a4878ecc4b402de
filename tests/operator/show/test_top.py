"""One glance on a terminal: as narrow and low as it comes, and safe whatever names say."""

import io
import json
import unicodedata

import pytest
from rich.console import Console

from router.operator.show.top import glance_json, number, render_glance, utc
from router.operator.watching.connection import FeedEvent
from router.operator.watching.frame import FeedState
from tests.fakes.console_feed import HOSTILE, fleet, grid, tick

MANY = tuple(f"region-{i:02d}" for i in range(60))


def glance(regions=("north", "south"), name=str, **changes):
    state = FeedState()
    documents = {
        "fleet": fleet(regions, name),
        "grid": grid(regions, name),
        "tick": tick(regions, name, **changes),
    }
    for kind, document in documents.items():
        state.take(FeedEvent(kind, json.dumps(document).encode()))
    return state.glance()


def drawn(what, columns=120, lines=40, color=False, title="here:9500", note=""):
    file = io.StringIO()
    console = Console(
        file=file, width=columns, height=lines, force_terminal=color, color_system=None
    )
    console.print(render_glance(what, columns, lines, title, note))
    return file.getvalue()


def test_it_begins_with_the_answer():
    first, second, third, *rest = drawn(glance()).splitlines()
    assert "here:9500" in first and "carbon-first" in first and "degraded" in first
    assert second.startswith("0.500 g/s  saved 0.500 g/s (+50%) against latency-first")
    assert "budgets met 97.5%" in second
    assert third == "since it began 5.00 g (intensity measured, joules estimated)"
    page = "\n".join(rest)
    assert page.index("south") < page.index("north")
    assert "1/2" in page
    assert "100/200" in page and "75% of <=300" in page
    assert "budget day acme: 5.00 of 100 g left (5.0%)" in page
    assert "reload_refused: why" in page


def test_what_is_not_known_is_a_dash_and_an_emulated_fleet_says_so():
    what = glance(rates=False)
    page = drawn(what._replace(fleet=type(what.fleet)(**{
        **{field: getattr(what.fleet, field) for field in what.fleet.__struct_fields__},
        "emulated": "some", "is_all": False, "scope": "acme",
    })))  # fmt: skip
    assert "no rates yet" in page
    assert "EMULATED servers: some" in page
    assert "of acme alone" in page
    assert "–" in page


@pytest.mark.parametrize("columns", [1, 8, 20, 40, 60, 80, 200])
@pytest.mark.parametrize("regions", [("a",), MANY])
def test_it_fits_any_width(columns, regions):
    page = drawn(glance(regions), columns, 24)
    assert max(map(len, page.splitlines())) <= columns
    if columns >= 40:
        assert "budgets met 97.5%" in " ".join(page.split())
        assert regions[0] in page
        assert "g/kWh" in page


def test_a_low_terminal_shows_the_cleanest_and_counts_the_rest():
    page = drawn(glance(MANY), 80, 24)
    assert len(page.splitlines()) <= 24
    assert "regions more" in page
    assert len(drawn(glance(MANY), 80, 1).splitlines()) < 16


def test_no_name_reaches_the_terminal_as_it_is():
    what = glance(name=lambda text: text + HOSTILE)
    page = drawn(what, 400, 60, color=True, title=HOSTILE, note=HOSTILE)
    assert "\x1b" not in page and "\x07" not in page and "\r" not in page
    assert not {c for c in page if unicodedata.category(c) == "Cf"}
    # Neither is markup obeyed.
    assert "[bold]" in page
    assert glance_json(what).isascii() and "\x1b" not in glance_json(what)


def test_for_programs_it_is_one_line():
    told = glance_json(glance())
    assert "\n" not in told
    assert json.loads(told)["rates"]["requests_per_s"] == 12.0


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("inf"), "–"), (0.0, "0"), (0.000107, "0.000107"), (12.34, "12.3"),
     (1234.5, "1234"), (1e9, "1.00e+09"), (1e-7, "1.00e-07"), (-0.5, "-0.500")],
)  # fmt: skip
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


def test_a_time_that_is_none_is_a_dash():
    assert utc(0.0) == "00:00:00"
    assert utc(1e300) == utc(float("nan")) == "–"
