"""What budgets have spent, from one process to the next, and from some workers to others."""

import logging

import pytest

from router.app.budget_keeping import SpentKeeper
from router.config.settings import CarbonBudgetSettings
from router.core.carbon_budgets import CarbonBudgets
from router.peers.spending import WorkerSpending, spending_nbytes
from router.units import DAY_S
from tests.core.test_carbon_budgets import budget
from tests.factories import NOW, SIGNAL, request

FILE = "state.json"


def opened(alone=True, now=NOW):
    made = CarbonBudgets(CarbonBudgetSettings((budget(limit_ug=10_000),)), SIGNAL)
    made.is_alone = alone
    made.turn(now)
    return made


def spend(budgets, ug, tenant="acme", now=NOW):
    budgets.hold(budgets.judge(request(tenant=tenant), ug, now), now).settle(ug / 1e6, "measured")


def spent(budgets, tenant="acme", now=NOW):
    (entry,) = budgets.judge(request(tenant=tenant), 1, now).entries
    return entry.account.spent_ug


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_next_process_goes_on_where_the_last_one_ended(tmp_path):
    before = opened()
    spend(before, 700)
    SpentKeeper(tmp_path / FILE, before).close(0.0, 3)
    assert names(tmp_path) == ["state.json.budget"]
    after = opened()
    assert SpentKeeper(tmp_path / FILE, after).restore(1) == 3
    assert spent(after) == 700


def test_what_is_under_way_is_kept_as_spent(tmp_path):
    before = opened()
    before.hold(before.judge(request(tenant="acme"), 300, NOW), NOW)
    keeper = SpentKeeper(tmp_path / FILE, before)
    keeper.write(keeper.due(0.0, 1))
    after = opened()
    SpentKeeper(tmp_path / FILE, after).restore(1)
    assert spent(after) == 300


def test_another_day_begins_with_nothing(tmp_path):
    before = opened()
    spend(before, 700)
    SpentKeeper(tmp_path / FILE, before).close(0.0, 3)
    after = opened(now=NOW + DAY_S)
    assert SpentKeeper(tmp_path / FILE, after).restore(1) == 3
    assert spent(after, now=NOW + DAY_S) == 0


def test_it_is_written_now_and_then_where_something_changed(tmp_path):
    budgets = opened()
    keeper = SpentKeeper(tmp_path / FILE, budgets)
    assert keeper.due(0.0, 1) is None
    spend(budgets, 1)
    assert keeper.due(1.0, 1) is None
    assert keeper.due(5.0, 1) is not None
    assert keeper.due(20.0, 1) is None
    spend(budgets, 1)
    assert keeper.due(21.0, 1) is None
    assert keeper.due(25.0, 1) is not None


def test_without_a_file_nothing_is_kept():
    budgets = opened()
    spend(budgets, 1)
    keeper = SpentKeeper(None, budgets)
    assert keeper.restore(1) == 0
    assert keeper.due(100.0, 1) is None
    keeper.close(100.0, 1)


def test_each_worker_keeps_its_own(tmp_path):
    for row, ug in ((1, 100), (2, 200)):
        before = opened()
        spend(before, ug)
        SpentKeeper(tmp_path / FILE, before, row).close(0.0, 1)
    assert names(tmp_path) == ["state.json.budget.1", "state.json.budget.2"]
    for row, ug in ((1, 100), (2, 200)):
        after = opened()
        SpentKeeper(tmp_path / FILE, after, row).restore(2)
        assert spent(after) == ug


def test_what_the_workers_beside_it_spent_counts_before_they_are_there_to_say_so(tmp_path):
    for row, ug in ((1, 100), (2, 200), (3, 400)):
        before = opened()
        spend(before, ug)
        SpentKeeper(tmp_path / FILE, before, row).close(0.0, 1)
    memory = bytearray(spending_nbytes(2))
    one, two = opened(), opened()
    for row, budgets in ((1, one), (2, two)):
        budgets.shared = WorkerSpending(memory, 2, row)
        SpentKeeper(tmp_path / FILE, budgets, row).restore(2)
    (entry,) = two.judge(request(tenant="acme"), 1, NOW).entries
    assert (entry.account.spent_ug, entry.account.others_ug) == (200, 500)
    # What was taken up is shown to the others before anybody asks for it.
    assert two.shared.others_ug(entry.account.key, two.day) == 500
    spend(one, 50)
    (entry,) = two.judge(request(tenant="acme"), 1, NOW).entries
    assert entry.account.others_ug == 550


@pytest.mark.parametrize(
    ("before", "workers", "row", "taken"),
    [
        ((1, 2, 3), 2, 1, (1, 3)), ((1, 2, 3), 2, 2, (2,)), ((0,), 2, 1, (0,)), ((0,), 2, 2, ()),
        ((1, 2), 1, 0, (1, 2)), ((0, 1, 2), 1, 0, (0, 1, 2)),
    ],
)  # fmt: skip
def test_what_workers_left_that_are_no_more_the_first_takes_over(
    tmp_path, before, workers, row, taken
):
    for one in before:
        budgets = opened()
        spend(budgets, 10 ** (one + 1))
        SpentKeeper(tmp_path / FILE, budgets, one).close(0.0, 1)
    (tmp_path / "state.json.budget.bak").write_text("an operator's")
    files = names(tmp_path)
    after = opened()
    keeper = SpentKeeper(tmp_path / FILE, after, row)
    keeper.restore(workers)
    assert spent(after) == sum(10 ** (one + 1) for one in taken)
    assert names(tmp_path) == files
    # Once it stands in its own file, theirs go.
    keeper.close(0.0, 1)
    gone = {f"state.json.budget{f'.{one}' if one else ''}" for one in taken if one != row}
    assert set(files) - set(names(tmp_path)) == gone


def test_with_a_shared_counter_only_what_that_does_not_know_is_taken_up(tmp_path):
    before = opened(alone=False)
    spend(before, 700)
    (account,) = before.accounts()
    account.counted(650, 900, 0.0)
    SpentKeeper(tmp_path / FILE, before).close(0.0, 3)
    after = opened(alone=False)
    SpentKeeper(tmp_path / FILE, after).restore(1)
    assert spent(after) == 50
    (account,) = after.accounts()
    assert account.total_ug == 900


def test_a_file_that_is_none_is_said_once_and_replaced(tmp_path, caplog):
    (tmp_path / "state.json.budget").write_text("{")
    budgets = opened()
    keeper = SpentKeeper(tmp_path / FILE, budgets)
    with caplog.at_level(logging.WARNING):
        assert keeper.restore(1) == 0
    assert "what budgets spent before is not known" in caplog.text
    spend(budgets, 5)
    keeper.close(0.0, 1)
    after = opened()
    SpentKeeper(tmp_path / FILE, after).restore(1)
    assert spent(after) == 5


def test_a_disk_that_is_full_is_said_once_until_it_is_not(tmp_path, caplog):
    budgets = opened()
    keeper = SpentKeeper(tmp_path / "missing" / FILE, budgets)
    with caplog.at_level(logging.ERROR):
        for ticks in (5.0, 10.0, 15.0):
            spend(budgets, 1)
            keeper.write(keeper.due(ticks, 1))
    assert len(caplog.records) == 1
    (tmp_path / "missing").mkdir()
    keeper.close(20.0, 1)
    assert names(tmp_path / "missing") == ["state.json.budget"]
