import ctypes
import re

from router.planes.envoy import known_file as known
from router.planes.envoy import layout as lay
from router.planes.envoy.module import SOURCE
from router.planes.envoy.support import MAX_ATTEMPTS
from tests.planes.envoy import host as hosts


@hosts.missing
def test_c_and_python_see_the_same_file(host):
    structs = (
        lay.Text, lay.FileHead, lay.SeatCount, lay.Named, lay.RegionCells, lay.EndpointCells,
        lay.ModelCells, lay.TableHead, lay.QuestionCells, lay.FoundCells, lay.RequestRecord,
        lay.SightHead,
    )  # fmt: skip
    offsets = (
        lay.FileHead.sight_head, lay.RegionCells.observed_at, lay.ModelCells.template_tokens,
        lay.TableHead.relaxed, lay.TableHead.attempts,
        lay.RequestRecord.found, lay.RequestRecord.status,
        lay.RequestRecord.cut_short, lay.RequestRecord.tail,
    )  # fmt: skip
    of_callers = [
        *map(ctypes.sizeof, (known.KnownHead, known.KnownEntry, known.UseCells)),
        *map(ctypes.sizeof, (known.AccountCells, lay.BudgetCells, lay.RunCells)),
        lay.RequestRecord.is_greenest.offset, lay.TableHead.green_relaxed.offset,
        known.KnownEntry.text.offset, known.UseCells.peak.offset,
        lay.RequestRecord.reserved_tokens.offset, known.KnownHead.looked_s.offset,
    ]  # fmt: skip
    sizes = [ctypes.sizeof(one) for one in structs]
    assert host.layout() == [*sizes, *(one.offset for one in offsets), *of_callers]


def test_limits_have_the_same_numbers_in_c():
    text = "".join(one.read_text() for one in sorted(SOURCE.glob("*.h")))
    said = {name: int(number) for name, number in re.findall(r"#define (MAX_\w+) (\d+)", text)}
    limits = ("RUNGS", "GREENS", "NAME", "TAIL", "REPORT", "RESIDENCY")
    for name in (f"MAX_{one}" for one in limits):
        assert said[name] == getattr(lay, name)
    assert said["MAX_ATTEMPTS"] == MAX_ATTEMPTS
    assert said["MAX_BUDGETS"] == known.MAX_BUDGETS
