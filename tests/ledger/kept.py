"""Decisions of drifting fleets as a gateway keeps them, and a ledger's folder with them."""

from router.director.recording import Recorder
from router.errors import RefusedError
from router.ledger.decisions.files import decision_files
from router.ledger.decisions.rows import RowContext
from router.ledger.decisions.writer import DecisionWriter
from tests.core.drifting import Drift


class StillClock:
    """Always the same time."""

    def now(self):
        return 1_700_000_000.0

    def monotonic(self):
        return 5.0


def kept_decisions(seed, count, budgets=False, share=1.0, every=1):
    """So many requests' decisions as a `Recorder` keeps them, one after the other; ``every``: of so
    many, the board moves on once."""
    drift, found = Drift(seed, budgets), []
    recorder = Recorder(found.append, share, drift.rng)
    for number in range(count):
        if number % 500 == 499:
            drift.refresh()
        arguments = drift.arguments()
        attempt = 2 if arguments["tried"] else 1
        decision = None
        try:
            decided = recorder.decide(
                snapshot=drift.snapshot, board=drift.board, rng=drift.rng, **arguments
            )
        except RefusedError as error:
            recorder.refused(error, attempt=attempt)
        else:
            decision = decided.decision
            recorder.stood(decided.sight, f"d-{seed}-{number}", attempt)
            if decided.need is not None:
                decided.need.teach(drift.board)
        if number % every == 0:
            drift.happen(decision, arguments)
        yield from found
        found.clear()


def writer_of(folder, code="code", name="w1", tenant_name=str, **options):
    context = RowContext(name, code, tenant_name)
    return DecisionWriter(decision_files(folder), context, StillClock(), **options)


def write_all(writer, kept):
    for number, one in enumerate(kept, 1):
        writer.keep(one)
        if number % 4096 == 0:
            writer.flush()
    writer.flush()
