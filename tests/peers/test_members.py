"""How many share a store: believed when there are more, doubted when there are fewer."""

from router.peers.members import SeenMembers


def test_more_are_believed_at_once_and_fewer_after_a_while_without_a_break():
    members = SeenMembers()
    members.seen(4, 0.0)
    assert members.count == 4
    members.seen(2, 10.0)
    members.seen(3, 20.0)
    assert members.count == 4
    members.missed()
    members.seen(1, 30.0)
    members.seen(2, 59.0)
    assert members.count == 4
    members.seen(1, 60.0)
    assert members.count == 2
    members.seen(5, 60.0)
    assert members.count == 5


def test_what_was_seen_before_a_start_holds_until_it_is_seen_otherwise():
    members = SeenMembers()
    members.assume(4)
    members.assume(2)
    assert members.count == 4
    members.seen(1, 0.0)
    assert members.count == 4
    members.seen(1, 30.0)
    assert members.count == 1
