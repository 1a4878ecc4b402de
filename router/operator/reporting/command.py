"""`carbon-router report`: gathers a month, and writes it where it is asked to."""

from __future__ import annotations

import shlex
from pathlib import Path

from router.operator.reporting.gather import Report, ReportQuestion, gather
from router.operator.reporting.writing import files_of, write_files


def make_report(question: ReportQuestion, out: Path | None) -> Report:
    """Raises ConfigError, DataError, MixedBasisError and OSError."""
    report = gather(question)
    if out is not None:
        write_files(files_of(report, command_of(question)), out)
    return report


def command_of(question: ReportQuestion) -> str:
    """What makes the same report of the same ledger. Folders are left out: they differ."""
    name = str(question.ledger).rstrip("/").rpartition("/")[2]
    words = ["carbon-router", "report", name or "LEDGER"]
    words += ["--month", str(question.month), "--per", str(question.per)]
    words += ["--factors", str(question.factors)]
    for option, path in (
        ("--pue", question.pue), ("--embodied", question.embodied), ("--market", question.market),
    ):  # fmt: skip
        if path is not None:
            words += [option, path.name]
    for model, (unit, of_one) in sorted(question.units.items()):
        name = unit.name.lower().replace("_", "-")
        words += ["--unit", f"{model}={name}:{of_one:g}"]
    return shlex.join([*words, "--out", "OUT"])
