"""All that a dispatcher learned comes back, and only of what the fleet has."""

import math
from dataclasses import replace

from router.core.learned import BytesLearned, LengthsLearned
from router.core.merging import Witness
from router.director.learned import learned_by, merged_for, restorable, restore
from tests.director.support import Room, Says, report
from tests.factories import endpoint, fleet, request, served

LONG = Says(b"a" * 400, trailers=report(output_tokens=100.0, input_tokens=50.0), end_s=1.5)


async def taught():
    room = Room({"a": LONG})
    for _ in range(30):
        await room.infer(tenant="acme", prompt_bytes=300)
    return room.dispatcher


async def test_what_one_learned_another_goes_on_with():
    before, after = await taught(), Room({}).dispatcher
    restore(after, learned_by(before))
    assert learned_by(after) == learned_by(before)
    asked = request(tenant="acme", input_tokens=math.nan, prompt_bytes=300)
    assert after.expect(asked) == before.expect(asked)
    assert after.lessons.token_bytes.of("llama") == before.lessons.token_bytes.of("llama")
    assert after.view.board.seats["a"].latency_errors == before.view.board.seats["a"].latency_errors


async def test_every_part_is_learned():
    learned = learned_by(await taught())
    assert [one.endpoint for one in learned.latency] == ["a"]
    assert {one.tenant for one in learned.lengths} == {None, "acme"}
    assert [(one.endpoint, one.waits) for one in learned.margins] == [("a", False)]
    assert len(learned.starts) == len(learned.answer_bytes) == len(learned.prompt_bytes) == 1


async def test_of_a_fleet_that_serves_other_models_nothing_is_taken_up():
    learned = learned_by(await taught())
    other = served(name="other")
    room = Room({}, fleet(endpoint("a", "near", other)))
    fresh = learned_by(room.dispatcher)
    restore(room.dispatcher, learned)
    assert learned_by(room.dispatcher) == fresh


async def test_one_entry_that_cannot_be_spoils_no_other():
    learned = learned_by(await taught())
    broken = (BytesLearned("llama", math.inf, 1.0, 1), *learned.answer_bytes)
    lengths = (LengthsLearned("llama", "acme", (), 1), *learned.lengths)
    after = Room({}).dispatcher
    restore(after, type(learned)(learned.latency, learned.starts, lengths, broken))
    assert learned_by(after).lengths == learned.lengths
    assert learned_by(after).answer_bytes == learned.answer_bytes


async def test_what_would_not_be_taken_has_no_say_among_others():
    learned = learned_by(await taught())
    after = Room({}).dispatcher
    assert restorable(after, learned) == learned
    (latency,), (start,), (margins,) = learned.latency, learned.starts, learned.margins
    lies = replace(
        learned,
        latency=(
            replace(latency, wait=(*latency.wait[:-1], math.nan)),
            replace(latency, endpoint="elsewhere"),
            replace(latency, kind="of another profile"),
            replace(latency, wait_lessons=-1),
        ),
        starts=(replace(start, wait=(math.inf,) * 4), replace(start, kind="other")),
        lengths=tuple(replace(one, lengths=(1e30,) * 5) for one in learned.lengths),
        answer_bytes=(replace(learned.answer_bytes[0], sd=-1.0),),
        prompt_bytes=(replace(learned.prompt_bytes[0], model="other"),),
        margins=(
            replace(margins, logs=(math.inf,) * len(margins.logs)),
            replace(margins, endpoint="elsewhere"),
            replace(margins, kind="of another profile"),
        ),
    )
    nothing = restorable(after, lies)
    assert nothing == type(learned)()
    merged = merged_for(after, [Witness(lies, 0.0)] * 9 + [Witness(learned, 0.0)])
    restore(after, merged)
    assert set(learned_by(after).lengths) == set(learned.lengths)
    assert learned_by(after).latency == learned.latency
