"""Names of blocks as files hold them, and the chains that they become."""

import pytest

from router.lab.sim.traffic.chained import MOST_BLOCKS, chains_of, parsed_names


@pytest.mark.parametrize("text", ["46 47 48", "[46, 47, 48]", "46;47;48", " [46,47,48] "])
def test_names_are_written_in_any_usual_way(text):
    assert parsed_names(text) == [46, 47, 48]


def test_a_blank_names_nothing_and_other_text_is_none():
    assert parsed_names("") == parsed_names("[]") == []
    assert parsed_names("46 x") is None
    assert parsed_names("1.5") is None
    assert parsed_names(str(2**63)) is None


def test_prompts_that_begin_alike_share_the_keys_of_as_many_blocks():
    chains = chains_of([[1, 2, 3], [], [1, 2, 4], [2, 3]])
    first, nothing, second, other = (
        chains.keys[a:b].tolist() for a, b in zip(chains.starts, chains.starts[1:], strict=False)
    )
    assert first[:2] == second[:2]
    assert nothing == []
    # The same names, after something else.
    assert len({*first, *second, *other}) == 6


def test_of_endless_chains_the_beginning_is_kept():
    assert chains_of([range(5000)]).lengths.tolist() == [MOST_BLOCKS]
