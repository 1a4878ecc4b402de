"""The page's sections, each a piece of HTML, or "" where there is nothing to tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from router.operator.reporting.page import words
from router.operator.reporting.page.figures import (
    UNKNOWN,
    count_text,
    energy_text,
    grams_text,
    kwh_text,
    mass_text,
    share_text,
)
from router.operator.reporting.page.look import CLASSES, class_name
from router.operator.reporting.page.pictures import hours_by_zones, stacked_bar
from router.operator.reporting.page.told import ModelMonth
from router.operator.reporting.tables import absent_parts
from router.units import J_PER_KWH

_MILLION: Final = 1_000_000
_PARTS: Final = (
    ("gpu", words.GPU, "p0"),
    ("host", words.HOST, "p1"),
    ("machines", words.MACHINES, "p0"),
    ("idle", words.IDLE, "p2"),
    ("difference", words.DIFFERENCE, "p3"),
    ("overhead", words.OVERHEAD, "p4"),
    ("network", words.NETWORK, "p5"),
    ("gateway", words.GATEWAY, "p6"),
)


def tiles(told: ModelMonth) -> str:
    """The page at a glance."""
    answered, tokens = told.answered, told.tokens
    total, energy_kwh = told.mass("total_g"), told.energy("facility_q").kwh
    shown = [
        (count_text(answered), words.ANSWERS.html()),
        (energy_text(told.energy("facility_q")), words.ELECTRICITY.html()),
        (mass_text(told.mass("operational_g")), words.LOCATION.html()),
    ]
    if tokens:
        shown.insert(1, (count_text(tokens), words.TOKENS.html()))
    if answered:
        each = f"{kwh_text(energy_kwh / answered)}, {grams_text(total.g / answered)}"
        shown.append((each, words.AN_ANSWER.html()))
    if tokens:
        each = f"{grams_text(total.g / tokens * _MILLION)}"
        shown.append((each, words.A_MILLION.html()))
    inner = "".join(f'<div class="tile"><b>{b}</b><span>{s}</span></div>' for b, s in shown)
    kinds = told.report.kinds.get(told.figures.group, {})
    share = share_text(kinds.get("emulated", 0), sum(kinds.values()))
    emulated = f'<p class="warn">{words.EMULATED.html(share=share)}</p>'
    return f'{emulated if kinds.get("emulated") else ""}<div class="tiles">{inner}</div>'


def energy(told: ModelMonth) -> str:
    """Who drew it."""
    whole = told.energy("facility_q").kwh
    absent = {column.removesuffix("_q") for column in absent_parts(told.report)}
    rows, bars = [], {}
    for name, text, style in _PARTS:
        part = told.split[name]
        if name in ("machines", "gpu", "host") and not part.joules:
            continue
        if name == "difference" and name in absent:
            continue
        chip = f'<i class="chip {style}"></i>{text.html()}'
        if name in absent:
            rows.append((chip, words.NOT_KNOWN.html(), ""))
            continue
        rows.append((chip, energy_text(part), share_text(part.kwh, whole)))
        bars[style if name != "machines" else "p0 "] = part.kwh
    rows.append((words.TOTAL.html(), energy_text(told.energy("facility_q")), ""))
    note = f"<figcaption>{words.SPLIT_NOTE.html()}</figcaption>" if told.split["gpu"].j else ""
    bar = stacked_bar(bars, words.ENERGY.en)
    heads = (words.ENERGY, words.COL_ENERGY, words.COL_SHARE)
    return section(words.ENERGY, f"<figure>{bar}{note}</figure>", table(heads, rows, last=True))


def grams(told: ModelMonth) -> str:
    """Location-based, marginal and market-based beside each other."""
    facility = told.figures.count("facility_q")
    known = told.figures.count("marginal_known_q")
    marginal = told.mass("marginal_total_g") if known else None
    shown = [
        (mass_text(told.mass("operational_g")), words.LOCATION_WHAT.html()),
        (mass_text(marginal), words.MARGINAL_WHAT.html(share=share_text(known, facility))),
    ]
    if told.market is not None:
        mass, of_energy = told.market
        share = share_text(of_energy, facility)
        shown.append((mass_text(mass), words.MARKET_WHAT.html(share=share)))
    shown.append((mass_text(told.figures.embodied()), words.EMBODIED_WHAT.html()))
    inner = "".join(f'<div class="tile"><b>{b}</b><span>{s}</span></div>' for b, s in shown)
    settled = told.figures.count("settled_q")
    words_of = words.UNSETTLED.html()
    if settled:
        words_of = words.SETTLED.html(
            share=share_text(settled, facility),
            receipted=mass_text(told.mass("settled_receipted_g")),
            settled=mass_text(told.mass("settled_g")),
        )
    whole = words.WITH_EMBODIED.html(
        total=mass_text(told.mass("total_g")),
        low=mass_text(told.mass("low_total_g")),
        high=mass_text(told.mass("high_total_g")),
    )
    return section(
        words.GRAMS, f'<p class="soft">{words.BESIDE.html()}</p><div class="beside">{inner}</div>',
        f"<p>{whole}</p><p>{words_of}</p>",
    )  # fmt: skip


def each(told: ModelMonth) -> str:
    """Scores."""
    kwh = told.energy("facility_q").kwh
    embodied = told.figures.embodied()
    parts = [told.mass("operational_g").g, embodied.g if embodied else None, told.mass("total_g").g]
    units = [(words.PER_ANSWER, told.answered, 1)]
    if told.tokens:
        units.append((words.PER_TOKENS, told.tokens, _MILLION))
        units.append((words.PER_OUTPUT, told.figures.count("output_tokens"), _MILLION))
    rows = [
        (
            text.html(),
            kwh_text(kwh / count * many),
            *(grams_text(None if part is None else part / count * many) for part in parts),
        )
        for text, count, many in units
        if count
    ]
    heads = (
        words.COL_UNIT, words.COL_ENERGY, words.COL_OPERATION, words.COL_EMBODIED, words.COL_SCORE,
    )  # fmt: skip
    note = f'<p class="soft">{words.SCI_NOTE.html()}</p>'
    return section(words.EACH, table(heads, rows, stacked=True), note) if rows else ""


def when_and_where(told: ModelMonth) -> str:
    """Hours by zones, and the zones' sums."""
    picture = hours_by_zones(told.hours)
    if not picture:
        return ""
    legend = "".join(
        f'<span><i class="chip c{at}"></i>{escape(class_name(at))}</span>'
        for at in range(len(CLASSES))
    )
    zones: dict[str, list[int]] = {}
    for one in told.hours:
        sums = zones.setdefault(one.grid_zone, [0, 0, 0])
        sums[0] += one.figures.count("facility_q")
        sums[1] += one.figures.count("operational_g")
        sums[2] += one.figures.count("unpriced_q")
    rows = []
    for zone, (quanta, gram_quanta, unpriced) in sorted(zones.items()):
        if not quanta:
            continue
        kwh = quanta / 2**20 / J_PER_KWH
        grams_of = gram_quanta / 2**24
        priced = (quanta - unpriced) / 2**20 / J_PER_KWH
        mean = f"{grams_of / priced:.0f}" if priced > 0 else UNKNOWN
        emitted = grams_text(grams_of if priced > 0 else None)
        rows.append((escape(zone) or UNKNOWN, kwh_text(kwh), mean, emitted))
    heads = (words.COL_ZONE, words.COL_ENERGY, words.COL_INTENSITY, words.COL_G)
    note = f"<figcaption>{words.WHERE_NOTE.html()}</figcaption>"
    return section(
        words.WHERE,
        f'<figure><div class="legend">{legend}</div>{picture}{note}</figure>',
        table(heads, rows),
    )


def work(told: ModelMonth) -> str:
    """Requests and attempts, whatever became of them."""
    figures = told.figures
    lost = {"moved": "moved_q", "cancelled": "cancelled_q", "failed": "failed_q"}
    rows = []
    for name, text in (
        ("answered", words.ANSWERED), ("moved", words.MOVED), ("cancelled", words.CANCELLED),
        ("failed", words.FAILED), ("refused", words.REFUSED), ("asked_again", words.ASKED_AGAIN),
    ):  # fmt: skip
        drew = energy_text(told.energy(lost[name])) if name in lost else ""
        rows.append((text.html(), count_text(figures.count(name)), drew))
    if told.tokens:
        for name, text in (
            ("input_tokens", words.TOKENS_READ), ("cached_tokens", words.TOKENS_CACHED),
            ("output_tokens", words.TOKENS_WRITTEN),
        ):  # fmt: skip
            rows.append((text.html(), count_text(figures.count(name)), ""))
    return section(words.WORK, table((words.COL_WORK, words.COL_COUNT, words.COL_ENERGY), rows))


def how(told: ModelMonth) -> str:
    """Measured, calibrated, by profile, estimated."""
    kinds = told.report.kinds.get(told.figures.group, {})
    whole = sum(kinds.values())
    rows = [
        (words.KINDS.get(kind, words.KINDS["unknown"]).html(), share_text(quanta, whole))
        for kind, quanta in sorted(kinds.items(), key=lambda one: (-one[1], one[0]))
    ]
    if not rows:
        return ""
    estimated = told.figures.count("estimated_tokens")
    share = share_text(estimated, told.figures.count("output_tokens"))
    note = f"<p>{words.ESTIMATED_TOKENS.html(share=share)}</p>" if estimated else ""
    return section(words.HOW, table((words.HOW, words.COL_SHARE), rows), note)


def section(title: words.Said, *parts: str) -> str:
    return f"<section><h2>{title.html()}</h2>{''.join(parts)}</section>"


def table(
    heads: Iterable[words.Said],
    rows: Sequence[Sequence[str]],
    *,
    last: bool = False,
    stacked: bool = False,
    worded: bool = False,
) -> str:
    """``last``: its last row is a sum; ``stacked``: on a phone a row is a block; ``worded``: cells
    are words, not figures."""
    titles = [title.html() for title in heads]
    head = "".join(f"<th>{title}</th>" for title in titles)
    body = []
    for at, row in enumerate(rows):
        style = ' class="sum"' if last and at == len(rows) - 1 else ""
        # On a phone a row is a block, and each cell says what it is.
        told = ["", *(f'<i class="head">{title}</i>' for title in titles[1:])] if stacked else ""
        cells = "".join(
            f"<td>{told[place] if told else ''}{cell}</td>" for place, cell in enumerate(row)
        )
        body.append(f"<tr{style}>{cells}</tr>")
    kinds = " ".join(k for k, wanted in (("stack", stacked), ("words", worded)) if wanted)
    named = f' class="{kinds}"' if kinds else ""
    return (
        f'<div class="scroll"><table{named}><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )
