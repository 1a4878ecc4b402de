"""docs/faults.md names tests that there are, and every test of a fault is named there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FAULTS = ROOT / "tests" / "e2e" / "faults"
# Of the suite's own parts.
APART = {"test_relay.py"}


def named():
    """(file, test) of each row."""
    found = set()
    for row in (ROOT / "docs" / "faults.md").read_text("utf-8").splitlines():
        for file, tests in re.findall(r"`(test_\w+\.py)`: ((?:`test_\w+`(?:, )?)+)", row):
            found.update((file, test) for test in re.findall(r"`(test_\w+)`", tests))
    return found


def there():
    """(file, test) of the folder."""
    return {
        (path.name, test)
        for path in FAULTS.glob("test_*.py")
        if path.name not in APART
        for test in re.findall(r"^async def (test_\w+)", path.read_text("utf-8"), re.M)
    }


def test_the_table_and_the_tests_are_the_same():
    assert named() == there()
    assert len(named()) > 20
