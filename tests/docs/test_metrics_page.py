"""docs/metrics.md has every metric that a gateway has, and no page names one that there is not."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "metrics.md"
NAMED = re.compile(r"\bcarbon_router_\w+")
# What a scrape has of a histogram.
PARTS = re.compile(r"_(bucket|count|sum)$")


@pytest.fixture(scope="module")
def reference():
    path = ROOT / "tools" / "metrics_reference.py"
    spec = importlib.util.spec_from_file_location("metrics_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_up_to_date(reference):
    text = PAGE.read_text(encoding="utf-8")
    assert reference.filled(text) == text, "run tools/metrics_reference.py"


def test_a_metric_that_is_missing_is_noticed(reference):
    text = PAGE.read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if "carbon_router_retries_total" in line)
    assert reference.filled(text.replace(row + "\n", "")) == text


def test_every_metric_says_what_it_is(reference):
    for name, metric in reference.registered().items():
        assert name.startswith("carbon_router_"), name
        assert len(metric._documentation) > 10, name


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_no_page_names_a_metric_that_there_is_not(reference, page):
    known = reference.registered().keys()
    named = {PARTS.sub("", name) for name in NAMED.findall(page.read_text(encoding="utf-8"))}
    # `carbon_router_..._grams_total` and the like name none.
    wrong = {name for name in named if name not in known and not name.endswith("_")}
    assert not wrong, sorted(wrong)
