"""The studies by name, and how they are run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from router.errors import ConfigError
from router.lab.replicate import capacity, casper, deferral, hours, hybrid, quality
from router.lab.replicate.inputs import (
    COMMAND,
    SIBLING,
    VARIABLE,
    Literature,
    find_folder,
    how_to_get,
)
from router.lab.replicate.paper import Replication

READS_DATA: Final[Mapping[str, Callable[[Literature], Replication]]] = {
    "capacity": capacity.study,
    "hours": hours.study,
    "casper": casper.study,
    "quality": quality.study,
    "deferral": deferral.study,
}
READS_NOTHING: Final[Mapping[str, Callable[[], Replication]]] = {"hybrid": hybrid.study}
STUDIES: Final = ("capacity", "hours", "casper", "hybrid", "quality", "deferral")


@dataclass(frozen=True, slots=True)
class Rerun:
    """What was re-run, and ``not_run``: studies that were left out for want of data, with why."""

    replications: tuple[Replication, ...]
    not_run: Mapping[str, str]


def replicate(
    names: Sequence[str] = (),
    data: Path | None = None,
    environment: Mapping[str, str] | None = None,
    progress: Callable[[str], None] = lambda name: None,
) -> Rerun:
    """Re-run the studies ``names``, all of them if empty, in the order of `STUDIES`.

    ``data``, ``environment``: where the folder of inputs is (`inputs.find_folder`). Without one,
    what reads nothing runs; a study that is named then is an error. ``progress`` is given each
    study's name before it runs. Raises ConfigError (a name, the folder, scipy), TraceError.
    """
    strange = [name for name in names if name not in STUDIES]
    if strange:
        text = f"no study {', '.join(strange)}; one of {', '.join(STUDIES)}"
        raise ConfigError(COMMAND, [("STUDY", text)])
    folder = find_folder(data, environment or {})
    wanted = [name for name in STUDIES if not names or name in names]
    lacking = [name for name in wanted if folder is None and name in READS_DATA]
    if lacking and names:
        raise ConfigError(COMMAND, [("--data", f"{', '.join(lacking)}: {_no_data()}")])
    literature = None if folder is None else Literature(folder)
    found = []
    for name in wanted:
        if name in READS_NOTHING:
            progress(name)
            found.append(READS_NOTHING[name]())
        elif literature is not None:
            progress(name)
            found.append(READS_DATA[name](literature))
    return Rerun(tuple(found), {name: _no_data() for name in lacking})


def _no_data() -> str:
    return f"no folder of data: give --data, or {VARIABLE}, or put one at {SIBLING}; {how_to_get()}"
