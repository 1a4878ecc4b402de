from dataclasses import replace

import pytest

from router.errors import DataError
from router.ledger.links import (
    ChainLink,
    Gap,
    GapReason,
    decoded_links,
    encoded_links,
    hashed,
    is_intact,
)

GAP = Gap(GapReason.KILLED, 4, 9, 100.0, 105.5)
LINK = hashed(ChainLink("receipts", "gw", 2, 10, 12, 3, "d1", "before", (GAP,)))


def test_links_travel_as_json() -> None:
    assert decoded_links(encoded_links([LINK, LINK])) == (LINK, LINK)


@pytest.mark.parametrize("what", [{"rows": 4}, {"gaps": ()}, {"previous": ""}, {"writer": "a"}])
def test_a_changed_figure_is_seen(what) -> None:
    assert is_intact(LINK)
    assert not is_intact(replace(LINK, **what))


@pytest.mark.parametrize("body", [b"", b"[1]", b'[{"table": "a"}]', b"\xff", b"[" * 2000])
def test_what_are_no_links_is_said(body) -> None:
    with pytest.raises(DataError, match="not links of a ledger"):
        decoded_links(body)


def test_another_version_is_not_guessed_at() -> None:
    with pytest.raises(DataError, match="of version 3, and this program reads 1 to 2"):
        decoded_links(encoded_links([replace(LINK, version=3)]))
    with pytest.raises(DataError, match="of version 0"):
        decoded_links(encoded_links([replace(LINK, version=0)]))
    assert decoded_links(encoded_links([replace(LINK, version=1)]))[0].version == 1
