"""The page as its readers get it: both languages, nothing from elsewhere, nothing made up."""

import re
from html.parser import HTMLParser

import pytest

from router.ledger.month import Month
from router.operator.reporting.gather import ReportQuestion, gather
from router.operator.reporting.page.page import page
from tests.ledger.receipts import ledger_of, receipts

EMPTY = {"meta", "input", "br"}


class Checked(HTMLParser):
    """Tags that close, and texts by language."""

    def __init__(self):
        super().__init__()
        self.open = []
        self.texts = {"en": [], "ko": []}
        self.links = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.links += [given[name] for name in ("src", "href") if name in given]
        if tag not in EMPTY:
            self.open.append((tag, given.get("lang")))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for tag, language in reversed(self.open):
            if tag == "span" and language:
                self.texts[language].append(data)
                break


def told(text):
    checked = Checked()
    checked.feed(text)
    assert not checked.open
    return checked


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    ledger = ledger_of(receipts(2_000, hours=30.0), tmp_path_factory.mktemp("books") / "ledger")
    (lost,) = (ledger / "receipts" / "date=2026-11-01" / "hour=02").iterdir()
    lost.unlink()
    return gather(ReportQuestion(ledger, Month(2026, 11)))


def page_of(report, model):
    (figures,) = [one for one in report.groups if one.group == model]
    return page(report, figures, "carbon-router report LEDGER --month 2026-11")


@pytest.fixture(scope="module")
def text(report):
    return page_of(report, "llama-3.1-8b")


def test_the_page_needs_nothing_else(text):
    assert told(text).links == []
    assert "http" not in text and "<script" not in text and "@import" not in text
    assert "url(" not in text and "@font-face" not in text


def test_both_languages_say_as_much(text):
    texts = told(text).texts
    assert len(texts["en"]) == len(texts["ko"]) > 80
    numbers = [sorted(re.findall(r"\d+(?:[.,]\d+)*", " ".join(texts[one]))) for one in ("en", "ko")]
    # Figures are the same; Korean counts an answer and a million in digits of its own.
    assert set(numbers[0]) - set(numbers[1]) <= {"90", "21031", "3.6"}


def test_sums_are_there(report, text):
    (figures,) = [one for one in report.groups if one.group == "llama-3.1-8b"]
    assert f"<b>{figures.count('answered'):,}</b>" in text
    assert f"{figures.count('cancelled'):,}" in text
    assert report.digest in text
    assert "carbon-router report LEDGER --month 2026-11" in text


def test_what_is_missing_is_said(text):
    assert "receipts were lost between 2026-11-01T0" in text
    assert "No idle energy is in this ledger" in text
    assert "not in this ledger" in text


def test_bases_stand_beside_each_other_and_beside_what_others_published(text):
    assert "location-based" in text and "marginal" in text and "never added" in text
    assert "Gemini, median text prompt" in text and "market-based; accelerators" in text


def test_counterfactuals_are_of_predictions(text):
    assert re.search(r"nearest machine that could have answered in time: 23\.1\W*%", text)
    assert "in their home region, with the same joules" in text


def test_what_is_no_language_model_has_no_tokens(report):
    other = page_of(report, "sd3")
    told(other)
    assert "a million tokens, read and written" not in other
    assert "endpoint-hours are on hardware without an embodied figure" in other


def test_names_are_no_html(report):
    (figures,) = [one for one in report.groups if one.group == "sd3"]
    text = page(report, figures._replace(group="<b>&x"), "a < b")
    told(text)
    assert "<b>&x" not in text and "&lt;b&gt;&amp;x" in text and "a &lt; b" in text
