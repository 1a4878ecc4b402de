from router.core import kernel_rows as k


def test_every_live_row_has_its_name():
    assert [getattr(k, name.upper()) for name in k.LIVE_NAMES] == list(range(k.LIVE_ROWS))
