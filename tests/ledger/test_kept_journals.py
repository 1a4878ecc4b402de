"""What was in journals that are removed."""

import numpy as np

from router.ledger.kept_journals import KeptJournals, runs_of
from router.ledger.links import Gap, GapReason


def test_what_was_in_one_that_is_removed_is_told_once(tmp_path) -> None:
    kept = KeptJournals()
    first, second = tmp_path / "a", tmp_path / "b"
    for path in (first, second):
        path.touch()
        kept.begun(path, 5.0)
    kept.wrote(first, 1, 2)
    kept.wrote(second, 3, 3)
    kept.wrote(first, 4, 5)
    kept.wrote(first, 6, 9)
    assert kept.removed(7.0) == {}
    first.unlink()
    gaps = tuple(Gap(GapReason.REMOVED, *run, 5.0, 7.0) for run in ((1, 2), (4, 9)))
    assert kept.removed(7.0) == {first: gaps}
    assert kept.removed(7.0) == {}
    kept.done(second)
    second.unlink()
    assert kept.removed(7.0) == {}


def test_runs_are_told_apart() -> None:
    assert runs_of(np.array([2, 3, 5, 9, 10])) == [(2, 3), (5, 5), (9, 10)]
    assert runs_of(np.array([], np.int64)) == []
