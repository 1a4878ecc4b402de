import pyarrow as pa
import pytest

from router.core.answered import answer_of, differences
from router.errors import DataError
from router.ledger.decisions.rows import (
    SCHEMA,
    NamedSnapshot,
    RowContext,
    decision_rows,
    decision_table,
)
from tests.ledger.kept import kept_decisions

CONTEXT = RowContext("w1", "0.1.0", lambda tenant: f"t-{tenant}")


def table_of(kept):
    return decision_table(kept, [NamedSnapshot("s", "p 1")] * len(kept), CONTEXT)


@pytest.mark.parametrize("budgets", [False, True])
def test_a_row_comes_back_bit_for_bit(budgets):
    kept = list(kept_decisions(4, 400, budgets, share=0.5))
    rows = list(decision_rows(table_of(kept)))
    assert len(rows) == len(kept) > 200
    for one, row in zip(kept, rows, strict=True):
        seen, again = one.sight.seen, row.seen
        assert (row.decision_id, row.kind, row.attempt) == (one.decision_id, one.kind, one.attempt)
        assert row.probability == one.sight.probability
        assert (row.snapshot, row.policy, row.code) == ("s", "p 1", "0.1.0")
        assert differences(answer_of(one.sight.answered), row.answer) == ()
        assert again.live.tobytes() == seen.live.tobytes()
        assert again.live.flags.c_contiguous
        assert (again.cached is None) == (seen.cached is None)
        if seen.cached is not None:
            assert again.cached.tobytes() == seen.cached.tobytes()
        for name in (
            "expected", "at", "monotonic", "network_j", "tried", "pinned", "draws", "rulings",
        ):  # fmt: skip
            assert getattr(again, name) == getattr(seen, name)
        asked = seen.request
        tenant = f"t-{asked.tenant}" if asked.tenant else ""
        assert again.request == asked._replace(prefix=None, tenant=tenant)


def test_a_slice_is_its_rows_and_none_is_none():
    table = table_of(list(kept_decisions(4, 30)))
    assert [one.decision_id for one in decision_rows(table.slice(7, 3))] == [
        one.decision_id for one in list(decision_rows(table))[7:10]
    ]
    assert list(decision_rows(SCHEMA.empty_table())) == []
    assert list(decision_rows(table_of([]))) == []


def test_no_payload_and_no_key_of_a_prompt_is_kept():
    kept = [one for one in kept_decisions(4, 60) if one.sight.seen.request.prefix is not None]
    assert kept
    kinds = {field.type for field in SCHEMA}
    assert pa.list_(pa.int64()) not in kinds
    assert not any(pa.types.is_binary(kind) for kind in kinds)


def changed(table, name, values, kind=None):
    place = table.schema.get_field_index(name)
    return table.set_column(place, name, pa.array(values, kind))


def test_rows_that_are_none_are_told():
    table = table_of(list(kept_decisions(4, 3)))
    width = len(table.column("live_batch")[0])
    lists = pa.list_(pa.float64())
    bad = [
        table.drop_columns(["live_own"]),
        changed(table, "kind", ["whim"] * 3),
        changed(table, "probability", [0.0] * 3),
        changed(table, "probability", [7.0] * 3),
        changed(table, "live_own", [[1.0]] * 3, lists),
        changed(table, "live_own", [None] * 3, lists),
        changed(table, "live_own", [[None] * width] * 3, lists),
        changed(table, "rulings", ["[[1]]"] * 3),
        changed(table, "rulings", ["no JSON"] * 3),
        changed(table, "at", ["soon"] * 3),
        pa.table({"a": [1]}),
    ]
    for one in bad:
        with pytest.raises(DataError):
            list(decision_rows(one))
