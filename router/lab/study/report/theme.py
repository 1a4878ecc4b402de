"""The look of a report: one style sheet, light and dark by the reader's setting, no script."""

from __future__ import annotations

from typing import Final

# Okabe and Ito's colours (2008); darker yellow on white, lighter blue on black, for contrast.
_LIGHT: Final = ("#0072B2", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#D55E00", "#8a7a00",
                 "#6b4fa0")  # fmt: skip
_DARK: Final = ("#4aa3e0", "#2fc49a", "#f0b429", "#e09cc4", "#8fd0f5", "#ff8a4c", "#d8cb3c",
                "#b49ae0")  # fmt: skip
# Clean to dirty, blue to brown: told apart by every kind of eye, on white and on black.
_CLASSES: Final = ("#0b5394", "#4a90c2", "#a3cbe0", "#f0d9a8", "#d9994b", "#8c4a0f")
_DASHES: Final = ("", "7 4", "2 3", "9 3 2 3", "12 4", "4 2", "1 2", "6 2 1 2")
_LEVELS: Final = 12


def style_sheet() -> str:
    """All of it."""
    light = "".join(f"--c{i}:{colour};" for i, colour in enumerate(_LIGHT))
    dark = "".join(f"--c{i}:{colour};" for i, colour in enumerate(_DARK))
    regions = "".join(
        f".area.r{i}{{fill:var(--c{i})}}.line.r{i}{{stroke:var(--c{i});stroke-dasharray:"
        f"{_DASHES[i] or 'none'}}}.chip.r{i}{{background:var(--c{i})}}"
        for i in range(len(_LIGHT))
    )
    policies = "".join(
        f".line.p{i}{{stroke:var(--c{i});stroke-dasharray:{_DASHES[i] or 'none'};"
        f"stroke-width:{2.6 if i == 0 else 1.8}}}.dot.p{i}{{fill:var(--c{i});stroke:var(--c{i})}}"
        for i in range(len(_LIGHT))
    )
    classes = "".join(
        f".area.g{i}{{fill:{colour}}}.chip.g{i}{{background:{colour}}}"
        for i, colour in enumerate(_CLASSES)
    )
    heat = "".join(
        f".h{i}{{fill-opacity:{0.06 + 0.94 * i / _LEVELS:.2f}}}" for i in range(_LEVELS + 1)
    )
    page = _PAGE.replace("/*light*/", light).replace("/*dark*/", dark)
    return page + regions + policies + classes + heat


_PAGE: Final = """
:root{color-scheme:light dark;--ink:#1d2430;--soft:#5a6472;--paper:#fff;--card:#f5f7f9;
--rule:#d9dee4;--good:#00724f;--warn:#8a4b00;/*light*/}
@media (prefers-color-scheme:dark){:root{--ink:#e8ebef;--soft:#a3adba;--paper:#12161c;
--card:#1b2129;--rule:#343c47;--good:#4fd3a4;--warn:#ffb65c;/*dark*/}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1060px;padding:28px 24px 60px;background:var(--paper);
color:var(--ink);font:15px/1.5 system-ui,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
h1{font-size:26px;margin:0 0 4px}h2{font-size:19px;margin:40px 0 6px}
p{margin:6px 0;max-width:78ch}.soft,figcaption{color:var(--soft)}.warn{color:var(--warn)}
code{font-size:13px;overflow-wrap:anywhere}
figure{margin:12px 0 4px}figcaption{font-size:13.5px;max-width:90ch;margin-top:4px}
svg{width:100%;height:auto;display:block;font:12px system-ui,"Segoe UI",Roboto,sans-serif}
.tiles{display:flex;flex-wrap:wrap;gap:12px;margin:18px 0}
.tile{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:10px 16px;
min-width:170px;flex:1}.tile b{display:block;font-size:24px;font-weight:650}
.tile span{font-size:13px;color:var(--soft);display:block}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;
font-size:13.5px}th,td{padding:5px 10px;text-align:right;border-bottom:1px solid var(--rule);
white-space:nowrap;vertical-align:top}th{font-weight:600;color:var(--soft);white-space:normal}
th:first-child,td:first-child,.words td,.words th{text-align:left}
.words td{white-space:normal}.words td:first-child{min-width:200px}tr.asked td{font-weight:650}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:13px;margin:6px 0}
.legend svg{display:inline-block;width:30px;height:12px;vertical-align:-1px;margin-right:6px}
.chip{display:inline-block;width:12px;height:12px;border-radius:2px;margin-right:6px;
vertical-align:-1px}
svg text{fill:var(--ink)}svg .tick{fill:var(--soft);font-size:11.5px}svg .label{font-size:12.5px;
font-weight:600}svg .note{font-size:11.5px}svg .row{font-size:13px;font-weight:600}
svg .middle{text-anchor:middle}svg .end{text-anchor:end}
svg .grid{stroke:var(--rule);stroke-width:.6}svg .axis{stroke:var(--soft);stroke-width:1}
svg .line{fill:none;stroke-width:2;stroke-linejoin:round}svg .thin{stroke-width:.7;opacity:.6}
svg .line.rest{stroke:var(--soft)}.area{stroke:var(--paper);stroke-width:.7}
.area.rest{fill:var(--soft);fill-opacity:.55}.chip.rest{background:var(--soft);opacity:.55}
svg .budget{stroke:var(--ink);stroke-width:1.2;stroke-dasharray:5 4}
svg .limit{stroke:var(--ink);stroke-width:3}svg .line.limit-line{stroke:var(--ink);
stroke-width:1.6;stroke-dasharray:2 2}
.bar.own{fill:var(--c0)}.bar.busy{fill:var(--c1)}.bar.idle{fill:var(--c1);fill-opacity:.35}
.bar.wake{fill:var(--c5)}.chip.own{background:var(--c0)}.chip.busy{background:var(--c1)}
.chip.idle{background:var(--c1);opacity:.35}.chip.wake{background:var(--c5)}
.chip.limit-chip{background:var(--ink);width:4px}
.dot{stroke-width:2}svg .dot.hollow{fill:var(--paper)}.heat{fill:var(--c0)}
details{margin:8px 0}summary{cursor:pointer;color:var(--soft)}
@media print{body{max-width:none}.tile{break-inside:avoid}figure{break-inside:avoid}}
"""
