from router.lab.emulator.http.responses import KeptResponse, ResponseMemory


def kept(name, size=1):
    return KeptResponse({"id": name}, b"x" * size)


def test_the_oldest_are_forgotten_beyond_a_number_and_beyond_bytes():
    memory = ResponseMemory(most=3, most_bytes=100)
    for name in "abcd":
        memory.keep(kept(name))
    assert memory.get("a") is None and memory.get("b") == kept("b")
    memory.keep(kept("e", 99))
    assert [name for name in "abcde" if memory.get(name)] == ["d", "e"]
    memory.keep(kept("f", 101))
    assert not any(memory.get(name) for name in "abcdef")


def test_what_is_forgotten_makes_room():
    memory = ResponseMemory(most=3, most_bytes=100)
    memory.keep(kept("a", 90))
    assert memory.forget("a") and not memory.forget("a")
    memory.keep(kept("b", 90))
    memory.keep(kept("c", 10))
    assert memory.get("b") and memory.get("c")
