from router.core.prefixes import CHUNK_BYTES
from router.lab.emulator.work import chain_of, tokens_of


def test_a_token_is_four_bytes_and_a_part_of_one_counts():
    assert [tokens_of(size) for size in (0, 1, 4, 5)] == [0.0, 1.0, 1.0, 2.0]


def test_only_whole_blocks_have_keys():
    one = chain_of(b"x" * (2 * CHUNK_BYTES + 1)).tolist()
    other = chain_of(b"x" * 2 * CHUNK_BYTES).tolist()
    assert one == other and len(set(one)) == 2
    assert chain_of(b"x" * (CHUNK_BYTES - 1)).tolist() == []
