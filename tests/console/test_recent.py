"""The last minutes as they were shown: whole, thinned, and bounded."""

import random

from router.console.recent import EVERY_S, KEPT_S, RecentScenes


def test_a_scene_is_the_last_before_with_what_stood_then():
    recent = RecentScenes(2**20)
    assert recent.scene(5.0) is None and recent.span is None
    recent.stand("fleet", {"policy": "a"})
    recent.keep(0.0, 100.0, {"at": 100.0}, [100.0, 1.0])
    recent.stand("fleet", {"policy": "b"})
    # One in so long.
    recent.keep(1.0, 101.0, {"at": 101.0}, [101.0, 1.5])
    recent.keep(2.0, 102.0, {"at": 102.0}, [102.0, 2.0])
    assert recent.span == (100.0, 102.0)
    assert recent.scene(99.9) is None and recent.scene(120.0, within_s=15.0) is None
    then = recent.scene(101.9).document()
    assert (then["at"], then["tick"], then["fleet"]) == (100.0, {"at": 100.0}, {"policy": "a"})
    assert (then["history"], then["before"]) == ([[100.0, 1.0]], [])
    now = recent.scene(1e9).document()
    assert now["fleet"] == {"policy": "b"} and now["before"] == [{"at": 100.0}]
    assert now["history"] == [[100.0, 1.0], [102.0, 2.0]]


def test_a_day_takes_no_more_than_it_may():
    rng, recent = random.Random(1), RecentScenes(200_000)
    for second in range(86_400):
        if second % 60 == 0:
            recent.stand("grid", {"g": [rng.random() for _ in range(100)]})
        recent.keep(float(second), 1e9 + second, {"x": [rng.random() for _ in range(20)]}, None)
        if second % 5000 == 0:
            assert recent._bytes <= 200_000
    first, last = recent.span
    assert last - first <= KEPT_S
    held = {id(part): len(part) for scene in recent._scenes for part in scene.parts.values()}
    assert recent._bytes == sum(held.values())
    assert len(recent._scenes) <= KEPT_S / EVERY_S + 1


def test_where_one_scene_is_too_much_the_last_is_kept():
    recent = RecentScenes(10)
    for second in range(0, 20, 2):
        recent.keep(float(second), float(second), {"x": "y" * 1000}, None)
    assert recent.span == (18.0, 18.0)
