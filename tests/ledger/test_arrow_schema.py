from router.ledger.arrow_schema import arrow_schema
from router.ledger.columns import RECEIPT_COLUMNS


def test_every_column_is_a_field_that_says_its_unit() -> None:
    schema = arrow_schema(RECEIPT_COLUMNS)
    assert schema.names == [column.name for column in RECEIPT_COLUMNS]
    assert schema.field("energy_j").metadata[b"unit"] == b"J"
    assert not schema.field("seq").nullable
