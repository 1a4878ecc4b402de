"""A run of the soak as tables and as a plot."""

from collections import Counter
from typing import NamedTuple

from rich.console import Group
from rich.table import Table
from rich.text import Text

from tests.e2e.faults.fronts import OK
from tests.e2e.faults.soak.verdict import UNAVOIDABLE, breaches, cause_of, growth_mib

_ROWS = 12
_DPI = 120


class Sample(NamedTuple):
    """What gateways held at a moment of the loop, by number, of those that run."""

    at: float
    rss_mib: dict
    files: dict


class End(NamedTuple):
    """A gateway when all was over. ``left``: sentences on what it has not given back."""

    requests: float
    retries: float
    left: tuple


class Run(NamedTuple):
    """Everything that was seen, with times of the loop; ``began`` and ``ended``: of the load."""

    seed: int
    began: float
    ended: float
    outcomes: list
    faults: list
    downs: list
    samples: list
    ends: list

    def failures(self):
        """How many failed, by cause."""
        causes = Counter(cause_of(outcome, self.downs) for outcome in self.outcomes)
        del causes[""]
        return causes


def quantile_ms(outcomes, share):
    """Of the answers among these, milliseconds; NaN of none."""
    took = sorted(one.ended.took_s for one in outcomes if one.ended.status == OK)
    return 1e3 * took[int(share * (len(took) - 1))] if took else float("nan")


def render(run):
    """Every table, and whether what was promised was kept."""
    found = breaches(run)
    lines = [Text(f"BROKEN: {sentence}", style="bold red") for sentence in found]
    verdict = lines or [Text("Every promise was kept.", style="bold green")]
    grown = f"gateway 0, which was never ended, grew by {growth_mib(run.samples, 0):+.1f} MiB"
    return Group(_over_time(run), _failures(run), _faults(run), Text(grown), *verdict)


def _over_time(run):
    table = Table(
        title=f"Soak of {(run.ended - run.began) / 60:.1f} min, seed {run.seed}: three gateways on "
        "one Redis, emulated servers",
        title_justify="left",
    )
    columns = ["s", "requests", "cut, killed", "breaches", "p50 ms", "p99 ms", "faults"]
    gateways = sorted({number for sample in run.samples for number in sample.rss_mib})
    columns += [f"MiB {number}" for number in gateways] + [f"files {number}" for number in gateways]
    for name in columns:
        table.add_column(name, justify="right")
    step_s = (run.ended - run.began) / _ROWS
    for row in range(_ROWS):
        since = run.began + row * step_s
        table.add_row(*_row(run, since, since + step_s, gateways))
    table.add_section()
    table.add_row(*_row(run, run.began, run.ended + 3600.0, gateways))
    return table


def _row(run, since, until, gateways):
    within = [one for one in run.outcomes if since <= one.ended.sent_at < until]
    causes = Counter(cause_of(one, run.downs) for one in within)
    unavoidable = sum(causes[cause] for cause in UNAVOIDABLE)
    lost = len(within) - causes[""] - unavoidable
    faults = sum(fault.began < until and fault.ended >= since for fault in run.faults)
    seen = [sample for sample in run.samples if since <= sample.at < until]

    def most(what, number):
        figures = [getattr(one, what)[number] for one in seen if number in getattr(one, what)]
        return f"{max(figures):.0f}" if figures else "-"

    return [
        f"{since - run.began:.0f}" if until <= run.ended + 1.0 else "all",
        f"{len(within):,}", f"{unavoidable}", f"{lost}",
        f"{quantile_ms(within, 0.5):.0f}", f"{quantile_ms(within, 0.99):.0f}", f"{faults}",
        *(most("rss_mib", number) for number in gateways),
        *(most("files", number) for number in gateways),
    ]  # fmt: skip


def _failures(run):
    table = Table(title="Requests that failed, by cause", title_justify="left")
    table.add_column("cause")
    table.add_column("requests", justify="right")
    causes = run.failures()
    for cause in dict.fromkeys((*UNAVOIDABLE, *sorted(causes))):
        table.add_row(cause, f"{causes[cause]}", style=None if cause in UNAVOIDABLE else "red")
    return table


def _faults(run):
    table = Table(title="Faults", title_justify="left")
    table.add_column("what")
    table.add_column("of")
    for name in ("times", "s in all", "traffic left after, most"):
        table.add_column(name, justify="right")
    kinds = {}
    for fault in run.faults:
        kinds.setdefault((fault.target.partition(" ")[0], fault.kind), []).append(fault)
    for (target, kind), faults in sorted(kinds.items()):
        left_s = max(fault.left_s for fault in faults)
        lasted_s = sum(fault.ended - fault.began for fault in faults)
        left = f"{left_s:.1f} s" if left_s else ""
        table.add_row(kind, target, f"{len(faults)}", f"{lasted_s:.0f}", left)
    return table


def draw(run, path):
    """Write the PNG; its path. Raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (load, latency, memory, files) = pyplot.subplots(
        4, 1, figsize=(10, 10), sharex=True, layout="constrained"
    )
    step_s = max(1.0, (run.ended - run.began) / 120.0)
    edges = [run.began + n * step_s for n in range(int((run.ended - run.began) / step_s))]
    buckets = [
        [one for one in run.outcomes if edge <= one.ended.sent_at < edge + step_s] for edge in edges
    ]
    at = [edge - run.began for edge in edges]
    load.step(at, [len(bucket) / step_s for bucket in buckets], where="post", color="#5d7bb5")
    failed = [(one, cause_of(one, run.downs)) for one in run.outcomes]
    for label, color, chosen in (
        ("unavoidable", "#d08a2e", [one for one, why in failed if why in UNAVOIDABLE]),
        ("breach", "#b3261e", [one for one, why in failed if why and why not in UNAVOIDABLE]),
    ):
        places = [one.ended.sent_at - run.began for one in chosen]
        load.plot(places, [0.5] * len(places), "|", color=color, label=f"{label}: {len(chosen)}")
    load.set_ylabel("requests/s")
    load.set_ylim(bottom=0, top=1.3 * load.get_ylim()[1])
    load.legend(loc="upper right", frameon=False, ncols=2)
    for share, color in ((0.5, "#1b7f5c"), (0.99, "#d08a2e")):
        shown = [quantile_ms(bucket, share) for bucket in buckets]
        latency.plot(at, shown, color=color, label=f"p{share * 100:g}")
    latency.set_yscale("log")
    latency.set_ylabel("answers, ms")
    latency.legend(loc="upper right", frameon=False, ncols=2)
    for panel, what, label in (
        (memory, "rss_mib", "resident, MiB"),
        (files, "files", "descriptors"),
    ):
        for number in sorted({n for sample in run.samples for n in getattr(sample, what)}):
            times = [s.at - run.began for s in run.samples]
            values = [getattr(s, what).get(number, float("nan")) for s in run.samples]
            panel.plot(times, values, label=f"gateway {number}")
        panel.set_ylabel(label)
        panel.set_ylim(bottom=0, top=1.2 * panel.get_ylim()[1])
        panel.legend(loc="lower right", frameon=False, ncols=3)
    colors = {"server": "#9e9e9e", "region": "#b3261e", "gateway": "#5d7bb5", "redis": "#d08a2e"}
    for fault in run.faults:
        color = colors[fault.target.partition(" ")[0]]
        for panel in (load, latency, memory, files):
            panel.axvspan(fault.began - run.began, fault.ended - run.began, color=color, alpha=0.12)
    files.set_xlabel(
        "seconds; grey: a server is broken, red: a region, blue: a gateway, orange: Redis"
    )
    figure.savefig(path, dpi=_DPI)
    pyplot.close(figure)
    return path
