"""Sequences of one process."""

from router.core.pins import Pins


def test_a_sequence_is_found_where_it_was_kept_until_it_is_dropped():
    pins = Pins()
    pins.keep("llama", "s", "a")
    pins.keep("llama", "s", "b")
    assert pins.find("llama", "s") == "b"
    assert pins.find("image", "s") == ""
    pins.drop("llama", "s")
    pins.drop("llama", "s")
    assert pins.find("llama", "s") == ""


def test_the_least_recently_used_are_forgotten_before_memory_is():
    pins = Pins(most=10)
    for name in (*map(str, range(10)), "0", "new"):
        pins.keep("llama", name, "a")
    kept = [name for name in (*map(str, range(10)), "new") if pins.find("llama", name)]
    assert kept == ["0", *map(str, range(2, 10)), "new"]
