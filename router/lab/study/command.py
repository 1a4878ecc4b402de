"""``carbon-router simulate``: run a study and leave its files in a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from router.lab.study.execute import Study, TaskProgress, run_study
from router.lab.study.report.page import html
from router.lab.study.rows import REPLICAS, REQUESTS, folder_of
from router.lab.study.summary import dumps, summarise

SUMMARY: Final = "summary.json"
REPORT: Final = "report.html"


class Written(NamedTuple):
    """A study that is done, its figures, and the folder that holds them."""

    study: Study
    summary: Mapping[str, Any]
    folder: Path


def default_folder(file: Path) -> Path:
    """Where the files of a scenario go unless told otherwise."""
    return Path("out") / file.name.removesuffix(".yaml").removesuffix(".yml")


def simulate(
    file: Path,
    policies: Sequence[str] = (),
    *,
    folder: Path | None = None,
    rows: bool = True,
    fluid: bool = False,
    plans: bool = False,
    seed: int | None = None,
    seeds: int = 1,
    jobs: int | None = None,
    progress: TaskProgress = TaskProgress(),  # noqa: B008
) -> Written:
    """Run a scenario and write ``summary.json``, ``report.html`` and, with ``rows``, what each
    policy did with every request and replica.

    ``folder``: None: ``out/NAME``. Files of an earlier run there are replaced, and without ``rows``
    those that would no longer belong to the summary are removed. ``seeds`` and ``plans``: see
    `run_study`. Raises what `run_study` raises, and OSError.
    """
    into = folder or default_folder(file)
    into.mkdir(parents=True, exist_ok=True)
    study = run_study(
        file, policies, seed=seed, seeds=seeds, folder=into, rows=rows, fluid=fluid, plans=plans,
        jobs=jobs, progress=progress,
    )  # fmt: skip
    summary = summarise(study)
    if fluid or not rows:
        for policy in study.policies:
            for name in (REQUESTS, REPLICAS):
                (into / folder_of(policy.name) / name).unlink(missing_ok=True)
    _replace(into / REPORT, html(study, summary))
    _replace(into / SUMMARY, dumps(summary))
    return Written(study, summary, into)


def _replace(path: Path, text: str) -> None:
    """Whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8", newline="\n")
    part.replace(path)
