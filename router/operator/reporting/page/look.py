"""How the page looks: light, dark and on paper, on a phone and on a desk; no script, no font."""

from __future__ import annotations

from typing import Final

# Told apart by every kind of eye, on white and on black (Okabe and Ito, 2008).
PARTS: Final = ("#0072B2", "#56B4E9", "#E69F00", "#8c4a0f", "#D55E00", "#CC79A7", "#009E73")
# Clean to dirty, blue to brown.
CLASSES: Final = ("#0b5394", "#4a90c2", "#a3cbe0", "#f0d9a8", "#d9994b", "#8c4a0f")
CLASSES_G_PER_KWH: Final = (50.0, 150.0, 300.0, 450.0, 600.0)

STYLE: Final = (
    """
:root{color-scheme:light dark;--ink:#1b222c;--soft:#596270;--paper:#fff;--card:#f4f6f8;
--rule:#d7dce2;--warn:#8a4b00;--mark:#00623f}
@media (prefers-color-scheme:dark){:root{--ink:#e8ebef;--soft:#a7b0bc;--paper:#12161c;
--card:#1b2129;--rule:#39414c;--warn:#ffb65c;--mark:#4fd3a4}}
*{box-sizing:border-box}[lang=ko]{word-break:keep-all}
body{margin:0 auto;max-width:940px;padding:20px 18px 56px;background:var(--paper);
color:var(--ink);font:16px/1.55 system-ui,"Segoe UI",Roboto,"Noto Sans KR","Apple SD Gothic Neo",
"Malgun Gothic",sans-serif}
h1{font-size:clamp(22px,5vw,30px);line-height:1.25;margin:10px 0 6px;overflow-wrap:anywhere}
h2{font-size:20px;margin:38px 0 8px;line-height:1.3}
p,li{max-width:70ch}p{margin:6px 0}ul{padding-left:20px;margin:6px 0}
.soft,figcaption,caption{color:var(--soft)}.warn{color:var(--warn)}
figcaption,caption{font-size:14px;text-align:left;padding:4px 0}
code{font-size:13px;overflow-wrap:anywhere}
pre{background:var(--card);border:1px solid var(--rule);border-radius:6px;padding:10px 12px;
font-size:13px;white-space:pre-wrap;overflow-wrap:anywhere;margin:8px 0}
.choice{position:absolute;opacity:0}.languages{text-align:right;font-size:15px}
.languages label{display:inline-block;padding:8px 14px;border:1px solid var(--rule);
border-radius:999px;cursor:pointer;margin-left:6px}
#en:checked~.languages label[for=en],#ko:checked~.languages label[for=ko]{background:var(--ink);
color:var(--paper)}
#en:focus-visible~.languages label[for=en],#ko:focus-visible~.languages label[for=ko]{
outline:3px solid var(--mark)}
#en:checked~main [lang=ko],#ko:checked~main [lang=en]{display:none}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:10px;
margin:16px 0}
.tile{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:10px 14px}
.tile b{display:block;font-size:23px;line-height:1.3;font-weight:650}
.tile span{font-size:14px;color:var(--soft)}
.beside{display:grid;grid-template-columns:repeat(auto-fit,minmax(200px,1fr));gap:10px}
.scroll{overflow-x:auto;margin:8px 0}
table{border-collapse:collapse;width:100%;font-size:15px;font-variant-numeric:tabular-nums}
th,td{padding:6px 10px 6px 0;text-align:right;border-bottom:1px solid var(--rule);
vertical-align:top}
th{font-weight:600;color:var(--soft)}th:first-child,td:first-child,.words td,.words th{
text-align:left}
td:last-child,th:last-child{padding-right:0}tr.sum td{font-weight:650;border-top:2px solid
var(--rule)}
.chip{display:inline-block;width:12px;height:12px;border-radius:2px;margin-right:8px;
vertical-align:-1px;print-color-adjust:exact;-webkit-print-color-adjust:exact}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:14px;margin:6px 0}
figure{margin:10px 0}svg{display:block;width:100%;height:auto;font:15px system-ui,sans-serif;
print-color-adjust:exact;-webkit-print-color-adjust:exact}
svg.hours{max-width:700px}
svg text{fill:var(--ink)}svg .tick{fill:var(--soft)}svg .field{fill:var(--card)}
.head{display:none;font-style:normal;text-align:left}
.stack td:not(:last-child):not(:first-child){white-space:nowrap}
details{margin:10px 0}summary{cursor:pointer;padding:6px 0;color:var(--soft)}
@media (max-width:520px){.stack thead{display:none}.stack tr{display:block;padding:8px 0;
border-bottom:1px solid var(--rule)}.stack td{display:flex;justify-content:space-between;gap:14px;
border:0;padding:2px 0;text-align:right}.stack .head{color:var(--soft);display:inline}
.stack td:first-child{font-weight:600;text-align:left}.stack td:empty{display:none}}
@media print{:root{color-scheme:light;--ink:#000;--soft:#444;--paper:#fff;--card:#f6f6f6;
--rule:#bbb}body{max-width:none;padding:0;font-size:11pt}.languages{display:none}
h2,h2+p{break-after:avoid}h2{margin-top:22px}figure,.tiles,tr,pre{break-inside:avoid}
.scroll{overflow:visible}details>*{display:block}}
"""
    + "".join(f".p{at}{{background:{colour}}}" for at, colour in enumerate(PARTS))
    + "".join(f"svg .p{at}{{fill:{colour}}}" for at, colour in enumerate(PARTS))
    + "".join(f".c{at}{{background:{colour}}}" for at, colour in enumerate(CLASSES))
    + "".join(f"svg .c{at}{{fill:{colour}}}" for at, colour in enumerate(CLASSES))
    + "svg .c-{fill:none;stroke:var(--soft)}"
)


def intensity_class(g_per_kwh: float) -> int:
    """Which of `CLASSES` it is of."""
    return sum(g_per_kwh >= edge for edge in CLASSES_G_PER_KWH)


def class_name(at: int) -> str:
    """The bounds of a class, g/kWh."""
    edges = [f"{edge:.0f}" for edge in CLASSES_G_PER_KWH]
    if at == 0:
        return f"< {edges[0]}"
    return f"≥ {edges[-1]}" if at == len(edges) else f"{edges[at - 1]}–{edges[at]}"
