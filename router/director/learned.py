"""All that a dispatcher learned, as one plain value, and taken back from one or from many."""

from __future__ import annotations

from collections.abc import Iterable

from router.core.learned import Learned
from router.core.merging import Witness, merge
from router.core.tokens import restorable_bytes
from router.director.dispatcher import Dispatcher


def learned_by(dispatcher: Dispatcher) -> Learned:
    """As of now, of the fleet in force."""
    latency, starts = dispatcher.view.board.learned()
    return Learned(
        latency,
        starts,
        dispatcher.parts.lengths.learned(),
        dispatcher.lessons.token_bytes.learned(),
        dispatcher.lessons.prompt_bytes.learned(),
        margins=dispatcher.view.board.margins_learned(),
    )


def restore(dispatcher: Dispatcher, learned: Learned) -> None:
    """Go on from what was learned before; entry by entry, what cannot be is left out, and what is
    of models, endpoints and profiles that the fleet in force does not have."""
    dispatcher.view.board.restore(learned.latency, learned.starts)
    dispatcher.view.board.restore_margins(learned.margins)
    dispatcher.parts.lengths.restore(learned.lengths)
    models = dispatcher.view.snapshot.layout.contexts
    dispatcher.lessons.token_bytes.restore(learned.answer_bytes, models)
    dispatcher.lessons.prompt_bytes.restore(learned.prompt_bytes, models)


def take_up(dispatcher: Dispatcher, learned: Learned) -> None:
    """Go on, while requests are served, from what others learned of what is known little of here
    (`router.core.evidence`); what endpoints of one kind have in common they go on to tell each
    other."""
    dispatcher.view.board.take_up(learned.latency)
    dispatcher.view.board.restore_margins(learned.margins)
    dispatcher.parts.lengths.take_up(learned.lengths)
    models = dispatcher.view.snapshot.layout.contexts
    dispatcher.lessons.token_bytes.restore(learned.answer_bytes, models)
    dispatcher.lessons.prompt_bytes.restore(learned.prompt_bytes, models)


def restorable(dispatcher: Dispatcher, learned: Learned) -> Learned:
    """What `restore` would not leave out: so that what cannot be has no say among others."""
    latency, starts = dispatcher.view.board.restorable(learned.latency, learned.starts)
    models = dispatcher.view.snapshot.layout.contexts
    return Learned(
        latency,
        starts,
        dispatcher.parts.lengths.restorable(learned.lengths),
        restorable_bytes(learned.answer_bytes, models),
        restorable_bytes(learned.prompt_bytes, models),
        learned.skills,
        dispatcher.view.board.restorable_margins(learned.margins),
    )


def merged_for(dispatcher: Dispatcher, witnesses: Iterable[Witness]) -> Learned:
    """What many learned of the fleet in force, to be restored."""
    return merge([one._replace(learned=restorable(dispatcher, one.learned)) for one in witnesses])
