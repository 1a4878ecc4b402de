"""The page's last sections: counterfactuals, others' figures, what is missing, how to recompute."""

from __future__ import annotations

from html import escape

from router.ledger.quantities import CarbonMass
from router.operator.footprint.tables import shipped_published
from router.operator.reporting.page import words
from router.operator.reporting.page.figures import (
    count_text,
    energy_text,
    grams_text,
    kwh_text,
    mass_text,
    share_text,
)
from router.operator.reporting.page.sections import section, table
from router.operator.reporting.page.told import ModelMonth
from router.operator.reporting.tables import stamp
from router.units import J_PER_KWH


def otherwise(told: ModelMonth) -> str:
    """Counterfactuals that receipts can tell."""
    said = []
    ours, first = told.mass("predicted_q"), told.mass("latency_first_q")
    if first.grams:
        saving = share_text(first.g - ours.g, first.g)
        text = words.NEAREST.html(ours=mass_text(ours), first=mass_text(first), saving=saving)
        said.append(f"<p>{text}</p>")
    home = told.report.home.get(told.figures.group)
    if home is not None:
        text = words.HOME.html(
            rows=count_text(home.rows),
            there=mass_text(CarbonMass.of_quanta(home.there_g)),
            home=mass_text(CarbonMass.of_quanta(home.home_g)),
        )
        said.append(f"<p>{text}</p>")
    said = said or [f"<p>{words.NO_OTHERWISE.html()}</p>"]
    return section(words.OTHERWISE, *said, f'<p class="soft">{words.NO_BOUND.html()}</p>')


def others(told: ModelMonth) -> str:
    """Published figures of one answer, each with its basis."""
    rows = []
    if told.answered:
        rows.append((
            words.THIS.html(),
            kwh_text(told.energy("facility_q").kwh / told.answered),
            grams_text(told.mass("total_g").g / told.answered),
            words.THIS_BASIS.html(),
        ))  # fmt: skip
    for one in shipped_published():
        joules, emitted = one.energy_j, one.co2_g
        basis = "; ".join(text for text in (one.basis, one.boundary, one.source) if text)
        rows.append((
            escape(f"{one.name}: {one.what}"),
            kwh_text(joules / J_PER_KWH if joules == joules else None),
            grams_text(emitted if emitted == emitted else None),
            escape(basis),
        ))  # fmt: skip
    heads = (words.COL_WHO, words.COL_ENERGY, words.COL_G, words.COL_BASIS)
    note = f'<p class="soft">{words.OTHERS_NOTE.html()}</p>'
    return section(words.OTHERS, note, table(heads, rows, stacked=True, worded=True))


def missing(told: ModelMonth) -> str:
    """Whatever the sums lack."""
    figures, fleet = told.figures, told.report.total
    said = [
        words.LOST.html(
            rows=count_text(one.rows), since=str(stamp(one.since_us)),
            until=str(stamp(one.until_us)), first=str(one.first), last=str(one.last),
            writer=escape(one.writer),
        )
        for one in told.report.lost
    ]  # fmt: skip
    if figures.count("unpriced_q"):
        said.append(words.UNPRICED.html(energy=energy_text(told.energy("unpriced_q"))))
    if figures.count("unmetered"):
        said.append(words.UNMETERED.html(rows=count_text(figures.count("unmetered"))))
    unmade = told.report.unmade_hours.get(figures.group, 0)
    if unmade:
        said.append(words.UNMADE.html(hours=count_text(unmade)))
    if not fleet.count("idle_q"):
        said.append(words.NO_IDLE.html())
    if not fleet.count("gateway_q"):
        said.append(words.NO_GATEWAY.html())
    inner = "".join(f"<li>{text}</li>" for text in said)
    listed = f"<ul>{inner}</ul>" if inner else f"<p>{words.NOTHING_MISSING.html()}</p>"
    return section(words.MISSING, listed)


def again(told: ModelMonth, command: str) -> str:
    """How anybody recomputes it."""
    report = told.report
    hashed = words.HASH.html(
        count=count_text(len(report.files)), digest=f"<code>{report.digest}</code>"
    )
    rows = [
        (escape(one.name), f"{one.value:.6g} {escape(one.unit)}".strip(),
         escape(f"{one.source} ({one.how})"))
        for one in report.coefficients
    ]  # fmt: skip
    heads = (words.COL_NAME, words.COL_VALUE, words.COL_SOURCE)
    listed = table(heads, rows, worded=True)
    return section(
        words.AGAIN,
        f"<p>{words.AGAIN_NOTE.html()}</p><pre>{escape(command)}</pre>",
        f"<p>{words.FORMULA.html()}</p><p>{hashed}</p>",
        f"<p>carbon-router {escape(report.version)}</p>",
        f"<details><summary>{words.COEFFICIENTS.html()}</summary>{listed}</details>",
    )
