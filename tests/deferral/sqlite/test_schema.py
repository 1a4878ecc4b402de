import sqlite3

import pytest

from router.deferral.sqlite import schema
from router.errors import DeferralStoreError


@pytest.fixture
def database():
    made = sqlite3.connect(":memory:")
    yield made
    made.close()


def columns(database):
    return {row[1] for row in database.execute("PRAGMA table_info(batches)")}


def test_a_queue_of_the_first_version_goes_on(database):
    schema.prepare(database)
    for column in ("gco2e_answers", "saved_answers", "expired", "cancelled"):
        database.execute(f"ALTER TABLE batches DROP COLUMN {column}")
    database.execute("ALTER TABLE usage DROP COLUMN batches")
    database.execute("PRAGMA user_version=1")
    add = (
        "INSERT INTO batches (id, owner, status, terms, input_file, created_at, expires_at, times,"
        " completed, gco2e, saved_g) VALUES (?, '', 'completed', x'', '', 0, 0, x'', 3, ?, ?)"
    )
    database.execute(add, ("batch_1", 0.5, 0.0))
    schema.prepare(database)
    assert {"gco2e_answers", "saved_answers"} <= columns(database)
    counted = database.execute("SELECT gco2e_answers, saved_answers FROM batches").fetchone()
    assert counted == (3, 0)
    # Twice is as once.
    schema.prepare(database)


def test_one_of_a_newer_version_is_refused(database):
    database.execute(f"PRAGMA user_version={schema.VERSION + 1}")
    with pytest.raises(DeferralStoreError, match="newer version"):
        schema.prepare(database)


def test_a_queue_of_the_second_version_counts_its_batches(database):
    schema.prepare(database)
    for column in ("expired", "cancelled"):
        database.execute(f"ALTER TABLE batches DROP COLUMN {column}")
    database.execute("ALTER TABLE usage DROP COLUMN batches")
    database.execute("PRAGMA user_version=2")
    add = (
        "INSERT INTO batches (id, owner, status, terms, input_file, created_at, expires_at, times)"
        " VALUES (?, 'a', 'completed', x'', '', 0, 0, x'')"
    )
    for number in range(3):
        database.execute(add, (f"batch_{number}",))
    for owner in "abc":
        size = 0 if owner == "b" else 5
        database.execute("INSERT INTO usage (owner, file_bytes) VALUES (?, ?)", (owner, size))
    schema.prepare(database)
    assert schema.use(database, "a") == (5, 0, 3)
    rows = database.execute("SELECT owner FROM usage ORDER BY owner").fetchall()
    assert rows == [("a",), ("c",)]
    assert schema.use(database, "c", file_bytes=-5) == (0, 0, 0)
    assert database.execute("SELECT count(*) FROM usage").fetchone() == (1,)
