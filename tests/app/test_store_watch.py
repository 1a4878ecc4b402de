"""What is said of a store that fails."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from router.app.store_watch import sharing, store_notes
from router.clock import WallClock
from router.state.watched import StoreHealth, WatchedStore


def test_without_a_store_nothing_is_watched() -> None:
    runtime: Any = SimpleNamespace(notes=[])
    assert sharing(None, runtime, "me") == {}
    assert runtime.notes == []


def test_readiness_says_that_it_fails_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    store = WatchedStore(None, WallClock(), "me")  # type: ignore[arg-type]
    assert store_notes(store) == ()
    monkeypatch.setattr(store, "health", lambda: StoreHealth(7.2, "state store: full"))
    (note,) = store_notes(store)
    assert (note.reason, note.blocking) == ("state_store_failing", False)
    assert note.detail == "state store: full, for 7 s: this gateway knows of itself alone"
    runtime: Any = SimpleNamespace(notes=[])
    assert set(sharing(store, runtime, "me")) == {"state_store", "fleet"}
    assert [one for notes in runtime.notes for one in notes()] == [note]
