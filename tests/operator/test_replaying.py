import math
import random

import numpy as np
import pyarrow as pa
import pytest

from router.core.answered import KeptAnswer
from router.core.seen import DecisionKind, decide_again
from router.errors import ConfigError, DataError
from router.ledger.decisions.code_version import code_version
from router.ledger.decisions.documents import rebuilt
from router.ledger.decisions.files import decision_files
from router.ledger.decisions.reading import DecisionLedger
from router.ledger.decisions.rows import SCHEMA
from router.operator.replaying import OtherPolicy, replay, tell
from router.operator.show.replay import render_replay, render_told
from tests.ledger.kept import kept_decisions, write_all, writer_of

SHARE = 0.25


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ledger")
    kept = [
        one
        for seed in range(4)
        for one in kept_decisions(seed, 1000, seed % 2 == 1, share=SHARE, every=3)
    ]
    write_all(writer_of(folder, code_version()), kept)
    return folder, kept


def test_by_the_same_code_nothing_is_otherwise(ledger):
    folder, kept = ledger
    found = replay(DecisionLedger(folder))
    assert found.decisions == len(kept)
    assert found.unreplayable == 0
    (code,) = found.codes
    assert (code.decisions, code.otherwise, code.columns_otherwise) == (len(kept), 0, 0)
    assert code.is_this
    assert found.is_exact
    assert found.requests == pytest.approx(
        sum(1.0 / one.sight.probability for one in kept if one.kind is DecisionKind.FIRST)
    )
    assert found.first == min(one.sight.seen.at for one in kept)
    assert len(found.policies) == 4


def altered(reads, change):
    for read in reads:
        yield read._replace(row=change(read.row))


def test_a_difference_is_told_with_who_made_it(ledger):
    folder, _ = ledger

    def other(row):
        if row.seen.at % 2.0 < 1.0:
            return row
        answer = row.answer
        if answer.figures:
            figures = (*answer.figures[:-1], 12.5)
            answer = answer._replace(figures=figures, endpoint="elsewhere")
        return row._replace(code="0.0.9+beef", answer=answer)

    found = replay(altered(DecisionLedger(folder), other))
    this, that = sorted(found.codes, key=lambda one: not one.is_this)
    assert (this.otherwise, that.code) == (0, "0.0.9+beef")
    assert 0 < that.elsewhere == that.otherwise <= that.decisions
    assert len(that.examples) == 5
    assert "endpoint" in that.examples[0].what
    # Another version may decide otherwise; this one may not.
    assert found.is_exact
    wrong = replay(
        altered(DecisionLedger(folder), lambda row: row._replace(answer=KeptAnswer("whim")))
    )
    assert not wrong.is_exact


def test_what_cannot_be_taken_again_is_counted(ledger):
    folder, kept = ledger
    reads = (read._replace(kept=None) for read in DecisionLedger(folder))
    found = replay(reads)
    assert found.unreplayable == found.decisions == len(kept)
    narrow = (
        read._replace(
            row=read.row._replace(
                seen=read.row.seen._replace(live=read.row.seen.live[:, :1].copy())
            )
        )
        for read in DecisionLedger(folder)
    )
    assert replay(narrow).unreplayable == len(kept)


def test_another_policy_by_hand(ledger):
    """Against sums over the kept decisions, made here again."""
    folder, kept = ledger
    found = replay(DecisionLedger(folder), OtherPolicy("latency-first"))
    effect = found.effect
    first = [one for one in kept if one.kind is DecisionKind.FIRST]
    other, built = OtherPolicy("latency-first"), {}
    total = moved = refused = refused_then = 0.0
    ttft = []
    for one in first:
        sight = one.sight
        if id(sight.snapshot) not in built:
            policy = other.policy(sight.snapshot.policy.signal)
            built[id(sight.snapshot)] = rebuilt(sight.snapshot, policy)
        now = decide_again(sight.seen, built[id(sight.snapshot)]).decision
        then, weight = sight.answered.decision, 1.0 / sight.probability
        total += weight
        refused += weight * (now is None)
        refused_then += weight * (then is None)
        if now and then:
            moved += weight * (
                (now.endpoint.name, now.served.version) != (then.endpoint.name, then.served.version)
            )
            ttft += [now.ttft_ms] * round(weight)
    all_of_it = effect.total
    assert all_of_it.requests == pytest.approx(total)
    assert all_of_it.elsewhere.share == pytest.approx(moved / total)
    assert all_of_it.elsewhere.low < all_of_it.elsewhere.share < all_of_it.elsewhere.high
    assert (all_of_it.refused_now, all_of_it.refused_then) == (refused, refused_then)
    assert all_of_it.ttft_now_ms[0] == pytest.approx(np.median(ttft), rel=0.02)
    assert sum(one.requests for one in effect.models) == pytest.approx(total)
    assert sum(one.requests_now for one in effect.regions) == pytest.approx(total - refused)
    assert sum(one.grams_now for one in effect.models) == pytest.approx(all_of_it.grams_now)
    assert 0.0 < all_of_it.grams_then < all_of_it.grams_now
    assert any("quantiles" in note for note in effect.notes)


def test_its_own_policy_moves_nobody(ledger, tmp_path):
    folder, kept = ledger
    policy = kept[0].sight.snapshot.policy
    own = OtherPolicy("carbon-first")
    own.policy = lambda signal: policy
    reads = (
        read for read in DecisionLedger(folder) if read.row.policy.startswith(f"{policy.name} ")
    )
    effect = replay(reads, own).effect
    assert effect.total.elsewhere.share == 0.0
    assert effect.total.grams_then == effect.total.grams_now > 0.0
    assert effect.total.ttft_then_ms == effect.total.ttft_now_ms
    assert effect.total.refused_then == effect.total.refused_now
    assert not any("quantiles" in note for note in effect.notes)


def test_one_model(ledger):
    folder, kept = ledger
    found = replay(DecisionLedger(folder), OtherPolicy("latency-first"), "image")
    assert found.decisions == sum(one.sight.seen.request.model == "image" for one in kept)
    assert [one.name for one in found.effect.models] == ["image"]
    nothing = replay(DecisionLedger(folder), OtherPolicy("latency-first"), "none")
    assert (nothing.decisions, nothing.effect.models) == (0, ())
    assert math.isnan(nothing.effect.total.elsewhere.share)


def test_a_policy_of_another_signal_is_refused(ledger, tmp_path):
    folder, _ = ledger
    file = tmp_path / "marginal.yaml"
    file.write_text(
        "weights: {per_gco2e: 1}\nsignal: {basis: marginal, factors: none}\n", encoding="utf-8"
    )
    with pytest.raises(ConfigError, match="wants marginal/none"):
        replay(DecisionLedger(folder), OtherPolicy(str(file)))
    with pytest.raises(ConfigError, match="carbon-frist"):
        OtherPolicy("carbon-frist")


def test_a_decision_is_told_with_every_candidate(ledger):
    folder, kept = ledger
    one = next(one for one in kept if one.sight.answered.decision and one.attempt == 1)
    (told,) = tell(DecisionLedger(folder), one.decision_id)
    assert told.otherwise == ()
    assert told.explanation.decision.endpoint.name == one.sight.answered.decision.endpoint.name
    assert len(told.explanation.candidates) == one.sight.seen.live.shape[1]
    with pytest.raises(DataError, match="no such decision was kept"):
        tell(DecisionLedger(folder), "d-9-9")
    bare = (read._replace(kept=None) for read in DecisionLedger(folder))
    with pytest.raises(DataError, match="snapshot is not in the ledger"):
        tell(bare, one.decision_id)


WILD = (math.nan, math.inf, -math.inf, 0.0, -1.0, 1e300, -1e300, 5e-324)


def broken(table, rng):
    """The same with some cells of one column of anything."""
    place = rng.randrange(table.num_columns)
    kind, cells = table.schema.field(place).type, table.column(place).to_pylist()
    for row in rng.sample(range(len(cells)), 10):
        if pa.types.is_list(kind):
            cells[row] = [rng.choice(WILD) for _ in cells[row] or ()]
        elif pa.types.is_floating(kind):
            cells[row] = rng.choice(WILD)
        elif pa.types.is_integer(kind):
            cells[row] = rng.choice([-5, 2**31 - 1])
        elif not (pa.types.is_boolean(kind) or pa.types.is_timestamp(kind)):
            cells[row] = rng.choice(["", "x", "a;b", "east-0", "\0", "llama", '[["a",true,[]]]'])
    kind = pa.string() if pa.types.is_dictionary(kind) else kind
    return table.set_column(place, table.schema.field(place).name, pa.array(cells, kind))


def test_cells_of_anything_are_told_or_taken(tmp_path):
    write_all(writer_of(tmp_path, code_version()), kept_decisions(1, 60, True))
    files, rng, refused = decision_files(tmp_path), random.Random(5), 0
    (path,) = files.paths("decisions", -math.inf, math.inf)
    folder, _, name = path.removeprefix(f"{files.root}/").rpartition("/")
    whole = pa.concat_tables(files.read(path, SCHEMA))
    names = [name for name in whole.column("decision_id").to_pylist() if name]
    for _ in range(25):
        files.write(folder, name.removesuffix(".parquet"), broken(whole, rng))
        try:
            render_replay(replay(DecisionLedger(tmp_path), OtherPolicy("latency-first")))
            render_told(tell(DecisionLedger(tmp_path), rng.choice(names)))
        except DataError:
            refused += 1
    assert 0 < refused < 13
