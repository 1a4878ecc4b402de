"""What a failure is put down to, and which promises a run has broken."""

import statistics

from tests.e2e.faults.fronts import IN_BAND, OK, TORN

# What no gateway can help: an answer that had begun cannot be begun anew elsewhere, and with a
# process goes what it had.
CUT, KILLED = "cut in mid-stream, and told so", "with a gateway that was killed"
UNAVOIDABLE = (CUT, KILLED)
LEAVES_S = 2.0
RETRIES_SHARE, RETRIES_FIRST = 0.2, 10.0
# Caches fill and arenas grow before this share of a run.
WARM_UP = 0.25
GROWTH_MIB = 40.0
# The kernel tells a client of a death a moment after the fact.
_MOMENT_S = 0.5


def cause_of(outcome, downs):
    """Why a request failed, "" of one that did not; in UNAVOIDABLE or a breach."""
    ended = outcome.ended
    if ended.status == OK:
        return ""
    if ended.status == TORN and any(
        down.killed
        and down.gateway == outcome.gateway
        and ended.sent_at <= down.at <= ended.ended_at + _MOMENT_S
        for down in downs
    ):
        return KILLED
    if ended.status == IN_BAND and ended.messages:
        seen = ended.messages if outcome.front == "oip" else ended.seen_bytes
        if ended.came == seen:
            return CUT
        return f"mid-stream loss that says {ended.came} of {seen}"
    return f"{ended.status} {ended.reason}".strip()


def breaches(run, slack=2.0):
    """Sentences on what was promised and not kept; ``run``: see `tests.e2e.faults.soak.report`.

    ``slack``: times that are promised may be as many times as long, on a machine where all of it
    shares two cores.
    """
    found = [
        f"{count} requests lost: {cause}"
        for cause, count in sorted(run.failures().items())
        if cause not in UNAVOIDABLE
    ]
    for fault in run.faults:
        if fault.left_s > slack * LEAVES_S:
            found.append(f"traffic left after {fault.left_s:.1f} s: {fault.kind} of {fault.target}")
    for number, end in enumerate(run.ends):
        if end.retries > RETRIES_SHARE * end.requests + RETRIES_FIRST:
            found.append(f"gateway {number}: {end.retries:.0f} retries of {end.requests:.0f}")
        found += [f"gateway {number}: {what}" for what in end.left]
    grown = growth_mib(run.samples, 0)
    if grown > GROWTH_MIB:
        found.append(f"gateway 0 grew by {grown:.0f} MiB")
    return found


def growth_mib(samples, gateway):
    """By how much the last quarter of a run lies above the one after the warm-up; of a gateway
    that lived through all of it."""
    sizes = [sample.rss_mib[gateway] for sample in samples if gateway in sample.rss_mib]
    quarter = int(len(sizes) * WARM_UP)
    if not quarter:
        return 0.0
    early = statistics.median(sizes[quarter : 2 * quarter])
    return statistics.median(sizes[-quarter:]) - early
