"""One process under test beside others: what it uses of the processor, and the table of them all.

The figure to compare is CPU time of a proxy's processes (user + system, from /proc): requests a
second on few cores mostly measure the load generator. Linux only.
"""

from __future__ import annotations

import contextlib
import os
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rich.table import Table

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Sent(NamedTuple):
    """What one round of load came to: calls, and seconds that they took."""

    calls: int
    elapsed_s: float


@dataclass
class Contender:
    """One process under test, with its figures by method, one a round."""

    name: str
    address: str
    pid: int
    cpu_us: dict[str, list[float]] = field(default_factory=dict)
    per_s: dict[str, list[float]] = field(default_factory=dict)

    def measure(self, method: str, load: Callable[[str], Sent], parts: int = 1) -> None:
        """Put ``load`` on its address; note CPU microseconds a part, of which each call has
        ``parts``, and calls a second."""
        before_s = cpu_s(self.pid)
        sent = load(self.address)
        used_us = (cpu_s(self.pid) - before_s) * 1e6
        self.cpu_us.setdefault(method, []).append(used_us / (sent.calls * parts))
        self.per_s.setdefault(method, []).append(sent.calls / sent.elapsed_s)


def cpu_s(pid: int) -> float:
    """User plus system seconds of a process and its descendants, in ticks of usually 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own_s = (int(fields[11]) + int(fields[12])) / TICKS_PER_S  # utime, stime
    children: list[str] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        # A thread may end between the two.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            children += (task / "children").read_text().split()
    return own_s + sum(cpu_s(int(child)) for child in children)


def table(title: str, method: str, contenders: Iterable[Contender], floor: str) -> Table:
    """Medians over the rounds; the ratio is the median of each round's own ratio to the one that is
    called ``floor``."""
    contenders = [one for one in contenders if one.cpu_us.get(method)]
    out = Table(title=title, title_justify="left")
    for heading in ("proxy", "CPU us", "lowest-highest", "calls/s", "CPU to floor"):
        out.add_column(heading, justify="left" if heading == "proxy" else "right")
    base = next((one.cpu_us[method] for one in contenders if one.name == floor), [])
    for one in contenders:
        cpu_us = one.cpu_us[method]
        ratios = [own / under for own, under in zip(cpu_us, base, strict=False) if under]
        out.add_row(
            one.name,
            figure(statistics.median(cpu_us)),
            f"{figure(min(cpu_us))}-{figure(max(cpu_us))}",
            f"{statistics.median(one.per_s[method]):,.0f}",
            f"{statistics.median(ratios):.2f}x" if ratios else "-",
        )
    return out


def figure(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100.0 else f"{value:.3g}"
