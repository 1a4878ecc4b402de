"""The whole of `tune` on small scenarios; the search alone: tests/lab/sim/tune/test_search.py."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from router import cli
from router.config.loading import parse_policy
from router.errors import ConfigError
from router.lab.sim.scenario.assemble import BASELINES
from router.lab.sim.tune.engines import Here
from router.lab.study.tune import Tuning, run_tune
from tests.lab.study.tuning import POLICY, turning


def tuned(folder: Path, **options: Any) -> Tuning:
    given: dict[str, Any] = {"trials": 20, "out": folder / "out", "train_share": 0.5, **options}
    file = folder / "scenario.yaml"
    return run_tune(file if file.exists() else turning(folder), str(folder / "ours.yaml"), **given)


def run_cli(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        cli.main(["tune", *arguments])
    shown = capsys.readouterr()
    return int(left.value.code or 0), shown.out, shown.err


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Tuning:
    return tuned(tmp_path_factory.mktemp("tune"), subject_to=["slo>=0.99"])


def test_it_finds_the_policy_that_is_known_to_be_best(once: Tuning) -> None:
    values = once.best.values if once.best else {}
    assert values["annual_mean"] is False
    assert values["spread"] == "pack"
    assert once.code == 0
    assert once.test["ours-tuned"]["gco2e"] < 0.7 * once.test["ours (untuned)"]["gco2e"]
    assert once.gain() > 0.3


def test_the_result_is_of_the_later_span(once: Tuning) -> None:
    assert (once.spans.train.duration_s, once.spans.test.duration_s) == (10_800.0, 10_800.0)
    rows = ["ours-tuned", "ours (untuned)", *BASELINES]
    assert list(once.test) == list(once.train) == rows
    assert all(once.test[row] != once.train[row] for row in rows)
    here = Here(once.spans)
    from router.lab.sim.tune.search import Evaluation

    policy = once.tuned_schema().build("ours", once.loaded.simulation.carbon_signal)
    ((_, again),) = here.run([Evaluation("test", policy)])
    assert again == once.test["ours-tuned"]


def test_the_tuned_policy_is_a_policy_with_its_evidence(once: Tuning) -> None:
    path = once.wrote["policy"]
    text = path.read_text(encoding="utf-8")
    head, body = text.split("\n\n# Ours.\n")
    schema, name = parse_policy(str(path), path)
    assert name == "ours-tuned"
    assert schema == once.tuned_schema()
    assert "What we run today." in schema.description
    assert "weights: {per_gco2e: 1.0}  # grams alone\n" in body
    assert "annual_mean: false  # a rule of thumb\n" in body
    assert body.endswith(POLICY.split("\n\n")[1])
    for piece in (
        "from ours.yaml", "Least gco2e with slo>=0.99, completed>=",
        f"SHA-256 {once.inputs.digest}", "seed 3, 20 trials in batches of 4",
        "Trained on 2022-05-12T00:00Z + 3 h; reported on 2022-05-12T03:00Z + 3 h",
        "annual_mean true -> false", "# later span", "# training span", "static-greenest",
        "less gco2e than the untuned policy", "Every demand holds there", "emulated",
        "The spans hold other hours of the day",
    ):  # fmt: skip
        assert piece in head, piece


def test_every_trial_is_written(once: Tuning) -> None:
    with once.wrote["trials"].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == [str(number) for number in range(20)]
    (chosen,) = [row for row in rows if row["chosen"] == "1"]
    assert chosen["annual_mean"] == "false"
    assert float(chosen["gco2e"]) == min(float(r["gco2e"]) for r in rows if r["feasible"] == "1")
    assert chosen["pareto"] == "1"
    assert rows[0]["near_tie"] == "0.2"


def test_the_front_is_drawn(once: Tuning) -> None:
    text = once.wrote["plot"].read_text(encoding="utf-8")
    assert text.lstrip().startswith("<?xml")
    for piece in ("later span", "training span", "ours-tuned", "round-robin", "emulated"):
        assert piece in text


def test_same_seed_same_files_whatever_the_jobs(once: Tuning, tmp_path: Path) -> None:
    again = tuned(tmp_path, subject_to=["slo>=0.99"], jobs=2)
    for what, path in once.wrote.items():
        assert again.wrote[what].read_bytes() == path.read_bytes(), what


def test_a_tuned_policy_can_be_tuned_again(once: Tuning, tmp_path: Path) -> None:
    turning(tmp_path)
    (tmp_path / "ours.yaml").write_bytes(once.wrote["policy"].read_bytes())
    (tmp_path / "ours.yaml").rename(tmp_path / "ours-tuned.yaml")
    done = run_tune(
        tmp_path / "scenario.yaml", str(tmp_path / "ours-tuned.yaml"), trials=4, seed=9,
        train_share=0.5, out=tmp_path / "out",
    )  # fmt: skip
    text = done.wrote["policy"].read_text(encoding="utf-8")
    assert done.wrote["policy"].name == "ours-tuned.yaml"
    assert text.count("# Tuned by carbon-router") == 1
    assert "seed 9" in text
    assert "\n\n# Ours.\n" in text


def test_a_demand_keeps_the_search_from_the_least_grams(tmp_path: Path) -> None:
    """Region b is always clean, and 900 ms away from most callers."""
    rtt = {"x": {"rtt_ms": {"a": 5, "b": 900}}, "y": {"rtt_ms": {"a": 5, "b": 900}}}
    turning(tmp_path, {"origins": rtt})
    rows = [f"2022-05-{10 + h // 24:02d}T{h % 24:02d}:00Z,400,50" for h in range(96)]
    (tmp_path / "grid.csv").write_text("\n".join(["datetime,A,B", *rows]) + "\n")
    (tmp_path / "ours.yaml").write_text(
        "weights: {per_gco2e: 1.0}\n"
        "free:\n  weights.per_ttft_ms: {low: 1.0e-7, high: 1.0, log: true}\n"
    )
    far = tuned(tmp_path, subject_to=["slo>=0.9"], trials=12)
    near = tuned(tmp_path, subject_to=["slo>=0.9", "ttft_p95_ms<=700"], trials=12)
    assert far.test["ours-tuned"]["ttft_p95_ms"] > 900.0
    assert near.code == 0
    assert near.test["ours-tuned"]["ttft_p95_ms"] <= 700.0
    assert near.test["ours-tuned"]["gco2e"] > 2.0 * far.test["ours-tuned"]["gco2e"]
    text = near.wrote["policy"].read_text(encoding="utf-8")
    assert "weights: {per_gco2e: 1.0, per_ttft_ms: " in text


def test_nothing_feasible_is_refused_with_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = turning(tmp_path), tmp_path / "out"
    code, shown, _ = run_cli(
        capsys, str(file), "--policy", str(tmp_path / "ours.yaml"), "--trials", "4",
        "--subject-to", "e2e_p95_ms<=50", "--out", str(out),
    )  # fmt: skip
    assert code == 1
    assert "no trial meets the demands on the training span: no policy was written" in shown
    assert "nearest: trial" in shown
    assert "e2e_p95_ms<=50 is broken: " in shown
    assert sorted(path.name for path in out.iterdir()) == ["pareto.svg", "trials.csv"]


def test_a_demand_that_breaks_later_marks_the_policy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A region is lost on the later span: of its requests, before it is noticed, those that still
    look like being answered in time are lost, minutes' worth of them; warm-up would not count them.
    """
    changes = {
        "warm_up": "0s",
        "failures": [{"region": "a", "start": "3h", "end": "6h", "noticed_after": "1h"}],
    }
    file = turning(tmp_path, changes)
    code, shown, _ = run_cli(
        capsys, str(file), "--policy", str(tmp_path / "ours.yaml"), "--trials", "4",
        "--subject-to", "completed>=0.999", "--out", str(tmp_path / "out"),
        "--train-share", "0.5",
    )  # fmt: skip
    assert code == 1
    assert "NOT FIT TO SERVE: completed>=0.999 does not hold there (0." in shown
    text = (tmp_path / "out" / "ours-tuned.yaml").read_text(encoding="utf-8")
    assert "# NOT FIT TO SERVE: completed>=0.999" in text


def test_interrupted_before_the_later_span_nothing_is_called_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(self: Here, tasks: Any) -> Any:
        if any(task.span == "test" for task in tasks):
            raise KeyboardInterrupt
        return whole(self, tasks)

    whole = Here.run
    monkeypatch.setattr(Here, "run", interrupted)
    file = turning(tmp_path)
    code, shown, _ = run_cli(
        capsys, str(file), "--policy", str(tmp_path / "ours.yaml"), "--trials", "4",
        "--out", str(tmp_path / "out"),
    )  # fmt: skip
    assert code == 130
    assert "no policy was written" in shown
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "pareto.svg", "trials.csv",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--subject-to", "slo"], "--subject-to: 'slo': write FIGURE>=NUMBER"),
        (["--minimise", "gco2"], "--minimise: unknown figure 'gco2'; did you mean 'gco2e'?"),
        (["--engine", "dask"], "--engine: 'dask' is neither local nor ray"),
        (["--train-share", "0.99"], "--train-share: spans of"),
    ],
)
def test_a_wrong_question_is_said_at_once(
    options: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = turning(tmp_path, {"duration": "1h"})
    policy = str(tmp_path / "ours.yaml")
    code, _, err = run_cli(
        capsys, str(file), "--policy", policy, "--out", str(tmp_path / "out"), *options
    )
    assert code == 2
    assert text in err


def test_a_policy_without_free_parameters_is_refused(tmp_path: Path) -> None:
    file = turning(tmp_path)
    (tmp_path / "ours.yaml").write_text("weights: {per_gco2e: 1.0}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="policy ours: free: nothing is free to be tuned"):
        run_tune(file, str(tmp_path / "ours.yaml"), out=tmp_path / "out", trials=2)


def test_a_shipped_policy_is_tuned_by_name(tmp_path: Path) -> None:
    done = run_tune(turning(tmp_path), "carbon-first", trials=2, out=tmp_path / "out")
    assert done.wrote["policy"].name == "carbon-first-tuned.yaml"
    assert "from carbon-first.yaml" in done.wrote["policy"].read_text(encoding="utf-8")


def test_ray_is_asked_for_by_name_where_it_is_missing(tmp_path: Path) -> None:
    if importlib.util.find_spec("ray") is not None:
        pytest.skip("ray is installed here; tests/real/test_ray.py tests it")
    with pytest.raises(ConfigError, match=r"--engine ray needs ray: pip install"):
        tuned(tmp_path, engine_name="ray")
