import gzip
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import TraceError
from router.lab.sim.traffic.columns import COLUMNS, NO_OUTPUT_LIMIT
from router.lab.sim.traffic.workload_file import FileWorkload
from tests.lab.sim.traffic.workload_files import NEEDED, read, whole, write

LIMITS = "ttft_budget_ms,tpot_budget_ms,e2e_budget_ms"
ALL = f"{NEEDED},{LIMITS},tenant,residency,deadline_s,max_output_tokens"


def test_every_column(tmp_path):
    path = write(
        tmp_path,
        "0.5,x,m,100,20,300,,9000,acme,eu; uk,,512",
        "2,y,n,1.0,5,,40,,,,60,",
        "2,x,m,7,8,,,,acme,\"uk,eu\",,8",
        header=ALL,
    )  # fmt: skip
    found = read(path)
    traffic = whole(found)
    names = found.names
    assert names.origins == ("x", "y") and names.models == ("m", "n")
    assert [names.tenants[t] for t in traffic.tenant] == ["acme", "", "acme"]
    assert [names.residencies[r] for r in traffic.residency] == [
        {"eu", "uk"}, frozenset(), {"eu", "uk"},
    ]  # fmt: skip
    assert names.residencies[0] == frozenset()
    assert traffic.arrival_s.tolist() == [0.5, 2.0, 2.0]
    assert traffic.input_tokens.tolist() == [100, 1, 7]
    assert traffic.ttft_budget_ms.tolist() == [300.0, math.inf, math.inf]
    assert traffic.tpot_budget_ms.tolist() == [math.inf, 40.0, math.inf]
    assert traffic.e2e_budget_ms.tolist() == [9000.0, math.inf, math.inf]
    assert traffic.deadline_s.tolist() == [math.inf, 60.0, math.inf]
    assert traffic.max_output_tokens.tolist() == [512, NO_OUTPUT_LIMIT, 8]
    assert found.notes == [
        "workload.file: 1 requests have a deadline_s, which is not used: no request is deferred"
    ]
    kinds = {name: getattr(traffic, name).dtype for name in COLUMNS}
    assert kinds["arrival_s"] == np.float64 and kinds["origin"] == np.int32


def test_only_what_is_needed_in_any_order_with_columns_besides(tmp_path):
    path = write(
        tmp_path, "20,m,why,0,x,10", header="output_tokens,model,note,arrival_s,origin,input_tokens"
    )
    found = read(path)
    traffic = whole(found)
    assert (traffic.input_tokens[0], traffic.output_tokens[0]) == (10, 20)
    assert math.isinf(traffic.e2e_budget_ms[0]) and math.isinf(traffic.deadline_s[0])
    assert found.names.tenants == ("",) and found.names.residencies == (frozenset(),)
    assert found.notes == ["workload.file: columns not used: note"]


@pytest.mark.parametrize(
    ("row", "column", "text"),
    [
        ("-1,x,m,1,1", "arrival_s", "a time in s >= 0, got -1"),
        ("nan,x,m,1,1", "arrival_s", "got nothing"),
        ("soon,x,m,1,1", "arrival_s", "'soon' is not a number"),
        (",x,m,1,1", "arrival_s", "got nothing"),
        ("1,x,m,-5,1", "input_tokens", "whole number from 1 to 10000000, got -5"),
        ("1,x,m,,1", "input_tokens", "got nothing"),
        ("1,x,m,NaN,1", "input_tokens", "got nothing"),
        ("1,x,m,1,0", "output_tokens", "(leave out requests that got no answer), got 0"),
        ("1,x,m,1,1.5", "output_tokens", "got 1.5"),
        ("1,x,m,1,inf", "output_tokens", "got inf"),
        ("1,z,m,1,1", "origin", "unknown origin 'z'"),
        ("1,,m,1,1", "origin", "is blank"),
        ("1,x,mm,1,1", "model", "did you mean 'm'?"),
    ],
)
def test_bad_rows_are_named(tmp_path, row, column, text):
    with pytest.raises(TraceError) as caught:
        read(write(tmp_path, "0,x,m,1,1", row))
    message = str(caught.value)
    assert message.startswith(f"w.csv: row 3, column {column}: ") and text in message


@pytest.mark.parametrize(
    ("cells", "column"),
    [
        ("0,,,,,,", "ttft_budget_ms"),
        (",-1,,,,,", "tpot_budget_ms"),
        (",,,,,0.5,", "deadline_s"),
        (",,,,,,0", "max_output_tokens"),
        (",,,,,,1", "max_output_tokens: must be blank, or at least output_tokens"),
    ],
)
def test_bad_limits_are_named(tmp_path, cells, column):
    with pytest.raises(TraceError, match=f"row 2, column {column}"):
        read(write(tmp_path, f"1,x,m,1,2,{cells}", header=ALL))


def test_columns_that_look_like_known_ones_are_named(tmp_path):
    found = read(write(tmp_path, "1,x,m,1,1,9,a,5", header=f"{NEEDED},e2e_budget,Tenant,zzz"))
    assert found.notes == [
        "workload.file: columns not used: e2e_budget (is it e2e_budget_ms?), Tenant "
        "(is it tenant?), zzz"
    ]


def test_prompts_that_no_endpoint_takes_are_counted(tmp_path):
    rows = ["1,x,m,9999,1", "2,x,n,50,1", "3,x,n,51,1", "101,x,n,51,1"]
    notes = read(write(tmp_path, *rows)).notes
    assert notes[1].startswith("workload.file: 1 prompts are longer than the context_tokens of ")


def test_a_default_origin_stands_in_for_a_blank_one(tmp_path):
    found = read(write(tmp_path, "1,,m,1,1", "2,x,m,1,1"), origins=None)
    assert found.names.origins == ("", "x")


def test_bad_files(tmp_path):
    with pytest.raises(TraceError, match=r"column output_tokens: required.*'output_token'"):
        read(write(tmp_path, header="arrival_s,origin,model,input_tokens,output_token"))
    with pytest.raises(TraceError, match="row 1, column model: stands in the header twice"):
        read(write(tmp_path, header=f"{NEEDED},model"))
    with pytest.raises(TraceError, match="row 2: 4 cells under a header of 5"):
        read(write(tmp_path, "1,x,m,1"))
    with pytest.raises(TraceError, match="holds no request, only a header"):
        read(write(tmp_path))
    with pytest.raises(
        TraceError, match=r"arrival_s runs from 1652313600 to 1652313700.5; write sec"
    ):
        read(write(tmp_path, "1652313600,x,m,1,1", "1652313700.5,x,m,1,1"))
    with pytest.raises(TraceError, match=r"column arrival_s: required.*; separate cells by commas"):
        read(write(tmp_path, header=NEEDED.replace(",", ";")))
    with pytest.raises(TraceError, match=r"arrival_s: required.*, which holds 1, x, m, 2, 3"):
        read(write(tmp_path, header="1,x,m,2,3"))
    (tmp_path / "bytes.csv").write_bytes(NEEDED.encode() + b"\n1,\xff,m,1,1\n")
    with pytest.raises(TraceError, match="not UTF-8"):
        read(tmp_path / "bytes.csv")
    (tmp_path / "no.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(TraceError, match="cannot be read"):
        read(tmp_path / "no.csv.gz")
    (tmp_path / "no.parquet").write_bytes(b"no parquet")
    pytest.importorskip("pyarrow")
    with pytest.raises(TraceError, match="not a readable Parquet"):
        read(tmp_path / "no.parquet")


def test_unsorted_rows_are_sorted_and_said_where_they_fit_and_refused_where_not(tmp_path):
    path = write(tmp_path, "5,x,m,1,1", "3,y,m,2,2", "3,x,m,3,3", "4,x,m,4,4")
    found = read(path)
    assert whole(found).input_tokens.tolist() == [2, 3, 4, 1]
    assert found.notes == ["workload.file: not in order of arrival (first at row 3); sorted"]
    with pytest.raises(TraceError, match=r"row 3, column arrival_s: .*sort the file"):
        read(path, kept_rows=2)


def test_what_comes_after_the_end_is_left_out_and_said(tmp_path):
    path = write(tmp_path, "1,x,m,1,1", "100,x,m,2,2", "99.9,x,m,3,3", "101,x,m,4,4")
    found = read(path)
    assert whole(found).input_tokens.tolist() == [1, 3] and found.rows == 2
    assert found.notes == [
        "workload.file: 2 requests arrive at or after the end (100 s) and are left out; "
        "the last one at 101 s"
    ]


def test_a_large_file_is_read_again_at_every_pass(tmp_path):
    rows = [f"{i / 10},{'xy'[i % 2]},m,{i + 1},{i + 2}" for i in range(500)]
    path = write(tmp_path, *rows, name="w.csv.gz")
    kept, reread = read(path), read(path, kept_rows=10)
    for _ in range(2):
        for name in COLUMNS:
            one, other = getattr(whole(kept), name), getattr(whole(reread), name)
            assert (one == other).all()
    assert reread.notes == []


def test_parquet_holds_the_same(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        "arrival_s": [0, 2, 3],
        "origin": pyarrow.array(["x", "y", "x"]).dictionary_encode(),
        "model": ["m", "m", "n"],
        "input_tokens": pyarrow.array([5, 6, 7], pyarrow.int16()),
        "output_tokens": [1.0, 2.0, 3.0],
        "e2e_budget_ms": [None, math.nan, 50.0],
        "tenant": [None, "t", ""],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "w.parquet")
    found = read(tmp_path / "w.parquet")
    traffic = whole(found)
    assert traffic.e2e_budget_ms.tolist() == [math.inf, math.inf, 50.0]
    assert [found.names.tenants[t] for t in traffic.tenant] == ["", "t", ""]
    assert traffic.input_tokens.tolist() == [5, 6, 7]
    columns["output_tokens"] = [1, 2, None]
    parquet.write_table(pyarrow.table(columns), tmp_path / "w.parquet")
    with pytest.raises(TraceError, match=r"row 3, column output_tokens: .*got nothing"):
        read(tmp_path / "w.parquet")
    columns["output_tokens"] = [["a"], ["b"], ["c"]]
    parquet.write_table(pyarrow.table(columns), tmp_path / "w.parquet")
    with pytest.raises(TraceError, match="column output_tokens: holds list"):
        read(tmp_path / "w.parquet")


@given(st.text(max_size=200))
@settings(max_examples=150, deadline=None)
def test_any_text_is_read_or_refused_with_a_trace_error(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("fuzz") / "w.csv"
    path.write_text(f"{NEEDED}\n1,x,m,1,1\n{text}", encoding="utf-8")
    try:
        assert len(whole(read(path))) >= 1
    except TraceError as error:
        assert "w.csv" in str(error)


def test_names_of_blocks_become_chains(tmp_path):
    path = write(
        tmp_path, '0,x,m,900,9,"[7, 8]"', "1,x,m,9,9,", "2,y,m,900,9,7 9",
        header=f"{NEEDED},hash_ids",
    )  # fmt: skip
    workload = read(path, block_tokens=256)
    chains = whole(workload).chains
    assert chains.lengths.tolist() == [2, 0, 2]
    assert chains.keys[0] == chains.keys[2] and chains.keys[1] != chains.keys[3]
    assert workload.names.block_tokens == 256
    assert workload.notes == []


def test_blocks_that_are_none_are_named(tmp_path):
    path = write(tmp_path, "0,x,m,9,9,1 2", "1,x,m,9,9,a b", header=f"{NEEDED},hash_ids")
    with pytest.raises(TraceError, match="row 3, column hash_ids: 'a b' names no blocks"):
        read(path)


MOONCAKE = (
    '{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, 48]}',
    "",
    '{"timestamp": 30535, "input_length": 6472, "output_length": 26, "hash_ids": [46, 47, 50]}',
)


@pytest.mark.parametrize("name", ["trace.jsonl", "trace.jsonl.gz"])
def test_a_mooncake_trace_is_read_as_it_is(tmp_path, name):
    path = tmp_path / name
    data = "\n".join(MOONCAKE).encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    workload = FileWorkload(path, 100.0, None, {"m": math.inf})
    traffic = whole(workload)
    assert traffic.arrival_s.tolist() == [27.482, 30.535]
    assert traffic.input_tokens.tolist() == [6955, 6472]
    assert traffic.output_tokens.tolist() == [52, 26]
    assert traffic.chains.keys[1] == traffic.chains.keys[4] != traffic.chains.keys[5]
    assert workload.names.origins == ("",) and workload.names.models == ("m",)


def test_a_trace_without_models_needs_a_fleet_of_one(tmp_path):
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(MOONCAKE))
    with pytest.raises(TraceError, match="column model: required"):
        FileWorkload(path, 100.0, None, {"m": math.inf, "n": math.inf})
    with pytest.raises(TraceError, match="column origin: required"):
        FileWorkload(path, 100.0, ("x",), {"m": math.inf})


@pytest.mark.parametrize(
    ("line", "text"), [("{", "row 1: not JSON"), ("[1]", "row 1: not a JSON object")]
)
def test_bad_lines_are_named(tmp_path, line, text):
    path = tmp_path / "trace.jsonl"
    path.write_text(line)
    with pytest.raises(TraceError, match=text):
        read(path)
