"""The page of one model, put together."""

from __future__ import annotations

from html import escape

from router.operator.reporting.gather import GroupSums, Report
from router.operator.reporting.page import notes, sections, words
from router.operator.reporting.page.look import STYLE
from router.operator.reporting.page.told import ModelMonth


def page(report: Report, figures: GroupSums, command: str) -> str:
    """HTML of ``figures``, a group of a report per model. ``command``: that makes it again."""
    told = ModelMonth(report, figures)
    model = escape(figures.group)
    title = f"{escape(words.TITLE.en.format(model=figures.group))}, {report.month}"
    parts = [
        f"<h1>{words.TITLE.html(model=model)}</h1>",
        f'<p class="soft">{words.PERIOD.html(month=str(report.month))}</p>',
        sections.tiles(told),
        sections.energy(told),
        sections.grams(told),
        sections.each(told),
        sections.when_and_where(told),
        sections.work(told),
        sections.how(told),
        notes.otherwise(told),
        notes.others(told),
        notes.missing(told),
        notes.again(told, command),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body>\n"
        '<input class="choice" type="radio" name="language" id="en" checked>'
        '<input class="choice" type="radio" name="language" id="ko">\n'
        '<div class="languages"><label for="en">English</label>'
        '<label for="ko" lang="ko">한국어</label></div>\n'
        f"<main>\n{body}\n</main>\n</body></html>\n"
    )
