import pytest

from router.errors import TraceError
from tests.lab.sim.traffic.workload_files import read, whole, write

LOG = "time,origin,model,input_tokens,output_tokens,max_output_tokens,sample,decision_id,gco2e"
START = 1_652_486_400.0  # 2022-05-14T00:00Z
MEANS = {"m": (30.4, 40.6), "n": (5.0, 6.0)}


def log(folder, *rows, header=LOG, **options):
    path = write(folder, *rows, header=header)
    return read(path, 86_400.0, start=START, lengths=MEANS, **options)


def test_a_log_of_requests_keeps_its_hours_on_the_scenarios_first_day(tmp_path):
    found = log(
        tmp_path,
        "2026-11-28T13:30:00.250Z,x,m,100,20,,1,gw-1,0.1",
        "2026-11-28T13:29:59Z,y,n,1,5,8,1,gw-2,",
    )
    traffic = whole(found)
    assert traffic.arrival_s.tolist() == [13.5 * 3600 - 1.0, 13.5 * 3600 + 0.25]
    assert "workload.file: times are moved by -1659 days to its start" in found.notes
    assert not any("not used" in note for note in found.notes)


def test_token_counts_that_nobody_knew_are_the_models_means_and_told(tmp_path):
    found = log(
        tmp_path,
        "2022-05-14T00:00:00Z,x,m,,,,1,gw-1,",
        "2022-05-14T00:00:01Z,x,n,2,,3,1,gw-1,",
    )
    traffic = whole(found)
    assert traffic.input_tokens.tolist() == [30, 2]
    assert traffic.output_tokens.tolist() == [41, 3]
    assert any("1 requests have no input_tokens" in note for note in found.notes)
    assert any("2 requests have no output_tokens" in note for note in found.notes)


def test_a_sample_is_told(tmp_path):
    found = log(tmp_path, "2022-05-14T00:00:00Z,x,m,1,1,,0.25,gw-1,")
    assert any("a sample of 0.25" in note for note in found.notes)


def test_what_a_log_has_before_its_first_rows_day_is_left_out(tmp_path):
    found = log(
        tmp_path,
        "2022-05-14T00:00:01Z,x,m,1,1,,1,gw-1,",
        "2022-05-14T00:00:02Z,x,m,1,1,,1,gw-1,",
    )
    assert len(whole(found)) == 2
    many = ["2022-05-15T00:00:01Z,x,m,1,1,,1,gw-1,"] * 65_536
    found = log(tmp_path, *many, "2022-05-14T23:59:59Z,x,m,1,1,,1,gw-1,")
    assert len(whole(found)) == 65_536
    assert any("1 requests arrive before the start" in note for note in found.notes)


@pytest.mark.parametrize("time", ["", "13:30", "yesterday", "1652486400"])
def test_a_bad_time_of_a_log_is_named(tmp_path, time):
    with pytest.raises(TraceError, match=r"row 2, column time: .* is not a time; write UTC as"):
        log(tmp_path, f"{time},x,m,1,1,,1,gw-1,")
