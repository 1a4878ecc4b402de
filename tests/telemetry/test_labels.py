"""The bound on label values holds for any history."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.errors import ShedError, UpstreamTimeoutError
from router.telemetry.labels import OTHER, LabelGuard, error_reasons


def test_reasons_come_from_the_whole_error_tree() -> None:
    reasons = error_reasons()
    assert {"internal", ShedError.reason, UpstreamTimeoutError.reason} <= reasons


@given(
    st.lists(st.lists(st.text(max_size=3), max_size=6), max_size=10),
    st.lists(st.text(max_size=3), max_size=20),
    st.integers(0, 8),
)
def test_never_more_labels_than_the_limit(
    learned: list[list[str]], asked: list[str], limit: int
) -> None:
    guard = LabelGuard(limit=limit)
    for names in learned:
        guard.learn(names)
    seen = [name for names in learned for name in names]
    passed = {guard(name) for name in seen + asked} - {OTHER}
    assert len(passed) <= limit
    assert passed <= set(seen)
    first = list(dict.fromkeys(seen))[:limit]
    assert all(guard(name) == name for name in first)
