"""The figures of a simulated policy by name, and the constraints on them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from router.config.problems import unknown
from router.errors import ConfigError
from router.lab.sim.histogram import Histogram
from router.lab.sim.result import PolicyResult

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a `PolicyResult`; NaN where there is none. ``share``: lies in 0..1."""

    label: str
    read: Callable[[PolicyResult], float]
    share: bool = False


def _quantile(
    which: Callable[[PolicyResult], Histogram], q: float
) -> Callable[[PolicyResult], float]:
    return lambda result: which(result).quantile(q)


def _latencies() -> dict[str, Figure]:
    found = {}
    for name, label, which in (
        ("ttft", "TTFT", lambda result: result.ttft_ms),
        ("e2e", "end-to-end", lambda result: result.e2e_ms),
    ):
        for percent in (50, 95, 99):
            read = _quantile(which, percent / 100.0)
            found[f"{name}_p{percent}_ms"] = Figure(f"{label} p{percent}, ms", read)
    return found


def _moved(result: PolicyResult) -> float:
    shares = [share for _, share in result.moved]
    return math.fsum(shares) / len(shares) if shares else 0.0


def _of_offered(count: float, result: PolicyResult) -> float:
    return count / result.offered if result.offered else math.nan


FIGURES: Final[Mapping[str, Figure]] = {
    "gco2e": Figure("gCO2e, attributional", lambda o: o.gco2e),
    "gco2e_marginal": Figure("gCO2e, short-run marginal", lambda o: o.marginal_gco2e),
    "gco2e_consequential": Figure("gCO2e of the fleet", lambda o: o.fleet.total_g),
    "energy_j": Figure("J, attributional", lambda o: o.energy_j),
    "energy_j_consequential": Figure("J of the fleet", lambda o: o.fleet.total_j),
    **_latencies(),
    "slo": Figure("SLO attainment", lambda o: o.met, share=True),
    "completed": Figure("completed", lambda o: _of_offered(o.completed, o), share=True),
    "moved_share": Figure("moved at an update, mean", _moved, share=True),
    "peak_over_cap": Figure("peak over cap", lambda o: o.peak_over_cap),
}
"""By the name that `--minimise` and `--subject-to` take."""

_CONSTRAINT = re.compile(r"\s*([A-Za-z0-9_]+)\s*(<=|>=|=<|=>|==|=|<|>)\s*([^\s<>=]+)\s*")


def figures(result: PolicyResult) -> dict[str, float]:
    """Every figure of ``result`` by name."""
    return {name: float(figure.read(result)) for name, figure in FIGURES.items()}


@dataclass(frozen=True, slots=True)
class Constraint:
    """``figure`` at least (``least``) or at most ``limit``. ``own``: made by the tuner itself."""

    figure: str
    least: bool
    limit: float
    own: bool = False

    def excess(self, values: Figures) -> float:
        """How far ``values`` break it, relative to the limit; <= 0 where they hold it."""
        value = values[self.figure]
        if math.isnan(value):
            return math.inf
        gap = self.limit - value if self.least else value - self.limit
        # A share's distance is judged as such: 0.98 against 0.99 is as far as 0.01 against 0.02.
        return gap if FIGURES[self.figure].share else gap / max(abs(self.limit), 1e-9)

    def __str__(self) -> str:
        return f"{self.figure}{'>=' if self.least else '<='}{self.limit:.6g}"


def parse_figure(name: str, option: str) -> str:
    """``name`` if it is a figure. Raises ConfigError naming ``option`` and the nearest ones."""
    if name not in FIGURES:
        text = f"{unknown('figure', name, FIGURES)}; all: {', '.join(FIGURES)}"
        raise ConfigError(option, [("", text)])
    return name


def parse_constraint(text: str) -> Constraint:
    """Such as ``slo>=0.99`` or ``e2e_p95_ms<=2000``. Raises ConfigError saying what is wrong."""
    option = "--subject-to"
    found = _CONSTRAINT.fullmatch(text)
    if found is None:
        fix = "write FIGURE>=NUMBER or FIGURE<=NUMBER, such as slo>=0.99 (quoted, for the shell)"
        raise ConfigError(option, [("", f"{text!r}: {fix}")])
    name, sign, number = found.groups()
    parse_figure(name, option)
    if sign not in ("<=", ">="):
        raise ConfigError(option, [("", f"{text!r}: {sign} is not known; write >= or <=")])
    try:
        limit = float(number)
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit):
        raise ConfigError(option, [("", f"{text!r}: {number!r} is not a finite number")])
    if FIGURES[name].share and not 0.0 <= limit <= 1.0:
        what = f"{text!r}: {name} is a share, from 0 to 1, not {limit:g}"
        raise ConfigError(option, [("", what)])
    return Constraint(name, sign == ">=", limit)


def parse_constraints(texts: Sequence[str]) -> tuple[Constraint, ...]:
    """Each of ``texts``. Raises ConfigError when two bound the same side of a figure."""
    constraints = tuple(parse_constraint(text) for text in texts)
    sides = [(constraint.figure, constraint.least) for constraint in constraints]
    for side in sides:
        if sides.count(side) > 1:
            text = f"{side[0]} is limited twice in the same direction; give it once"
            raise ConfigError("--subject-to", [("", text)])
    return constraints
