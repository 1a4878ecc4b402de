import dataclasses

import msgspec
import pytest

from router.core.layout import Layout
from router.errors import DataError, MixedBasisError
from router.ledger.decisions.documents import (
    MOST_BYTES,
    document_id,
    fleet_document,
    fleet_of,
    policy_hash,
    snapshot_document,
    snapshot_fleet,
    snapshot_of,
)
from router.model import (
    Alias,
    Basis,
    Factors,
    HttpJudge,
    QualityFloors,
    RulesJudge,
    Signal,
    Variant,
)
from tests.core.drifting import Drift
from tests.factories import policy


def documents(drift, tenant_name=str):
    fleet = fleet_document(drift.snapshot.layout, tenant_name)
    return fleet, snapshot_document(drift.snapshot, document_id(fleet))


@pytest.mark.parametrize("seed", range(5))
def test_a_snapshot_comes_back_column_for_column(seed):
    drift = Drift(seed)
    fleet, body = documents(drift)
    kept = snapshot_of(body, fleet_of(fleet))
    was, found = drift.snapshot, kept.snapshot
    assert kept.is_same
    assert snapshot_fleet(body) == document_id(fleet)
    assert (found.policy, found.built_at, found.version) == (was.policy, was.built_at, was.version)
    assert found.forecasts == was.forecasts
    assert found.annual_means == was.annual_means
    assert found.residency == was.residency
    assert found.columns.keys() == was.columns.keys()
    for key, columns in was.columns.items():
        assert (columns.table == found.columns[key].table).all()
        assert (columns.candidates.labels == found.columns[key].candidates.labels).all()
        names = [one.name for one in columns.candidates.endpoints]
        assert [one.name for one in found.columns[key].candidates.endpoints] == names
        profiles = [one.profile for one in columns.candidates.served]
        again = [one.profile for one in found.columns[key].candidates.served]
        # A bound that is not known is a NaN, and none is equal to another.
        assert list(map(repr, again)) == list(map(repr, profiles))


def test_the_same_fleet_has_the_same_bytes_and_no_address():
    drift = Drift(2)
    fleet, _ = documents(drift)
    assert fleet == documents(drift)[0]
    assert b"127.0.0.1" not in fleet
    assert fleet != documents(Drift(3))[0]


def test_tenants_bear_the_names_that_the_ledger_gives_them():
    fleet, _ = documents(Drift(1), lambda name: f"hash of {name}")
    assert b"acme" not in fleet.replace(b"hash of acme", b"")
    assert list(fleet_of(fleet).tenants) == ["hash of acme"]


@pytest.mark.parametrize("judge", [None, RulesJudge(("sorry",)), HttpJudge("http://10.1.2.3", 1)])
def test_an_alias_comes_back_without_whom_it_asks_of_answers(judge):
    layout = Drift(1).snapshot.layout
    alias = Alias("any", (Variant("m", 0.7),), "ours", QualityFloors(0.5, 0.6), window_s=60.0)
    asked = dataclasses.replace(alias, judge=judge, tenants={"acme": QualityFloors(0.7)})
    fleet = dataclasses.replace(layout.fleet, aliases={"any": asked})
    body = fleet_document(Layout(fleet, layout.stated), str)
    assert b"10.1.2.3" not in body and b"sorry" not in body
    assert fleet_of(body).fleet.aliases == {"any": alias}


def test_another_policy_is_laid_over_the_same_data():
    drift = Drift(4)
    fleet, body = documents(drift)
    kept = snapshot_of(body, fleet_of(fleet))
    other = drift.a_policy(annual_mean=True)
    assert kept.by(other).policy == other
    marginal = Signal(Basis.MARGINAL, Factors.NONE)
    means = {
        zone: dataclasses.replace(one, signal=marginal)
        for zone, one in kept.snapshot.annual_means.items()
    }
    mixed = dataclasses.replace(kept.snapshot, annual_means=means)
    with pytest.raises(MixedBasisError):
        dataclasses.replace(kept, snapshot=mixed).by(other)


def test_a_changed_column_is_told():
    drift = Drift(5)
    fleet, body = documents(drift)
    plain = msgspec.msgpack.decode(body)
    plain["columns"] = "0" * 32
    assert not snapshot_of(msgspec.msgpack.encode(plain), fleet_of(fleet)).is_same


def test_policies_that_decide_alike_have_one_hash():
    assert policy_hash(policy()) == policy_hash(policy())
    assert policy_hash(policy()) != policy_hash(policy(near_tie=0.1))


def test_bad_documents_are_told_and_nothing_else_happens():
    drift = Drift(1)
    fleet, body = documents(drift)
    layout = fleet_of(fleet)
    plain = msgspec.msgpack.decode(body)
    bad = [
        b"", b"\xc1", body[:99], fleet, b"\x81" * 2000, b"\x00" * 9,
        msgspec.msgpack.encode({**plain, "format": 2}),
        msgspec.msgpack.encode({**plain, "built_at": "soon"}),
        msgspec.msgpack.encode({**plain, "forecasts": [{}]}),
        bytes(MOST_BYTES + 1),
    ]  # fmt: skip
    for one in bad:
        with pytest.raises(DataError):
            snapshot_of(one, layout)
    broken = msgspec.msgpack.decode(fleet)
    for change in ({"endpoints": [{**broken["endpoints"][0], "region": "nowhere"}]},
                   {"token_profiles": [], "task_profiles": []}):  # fmt: skip
        with pytest.raises(DataError):
            fleet_of(msgspec.msgpack.encode({**broken, **change}))
