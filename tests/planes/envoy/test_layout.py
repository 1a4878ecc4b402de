import ctypes
import re

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
    sizes = [ctypes.sizeof(one) for one in structs]
    assert host.layout() == [*sizes, *(one.offset for one in offsets)]


def test_limits_have_the_same_numbers_in_c():
    text = "".join(one.read_text() for one in sorted(SOURCE.glob("*.h")))
    said = {name: int(number) for name, number in re.findall(r"#define (MAX_\w+) (\d+)", text)}
    for name in ("MAX_RUNGS", "MAX_NAME", "MAX_TAIL", "MAX_REPORT", "MAX_RESIDENCY"):
        assert said[name] == getattr(lay, name)
    assert said["MAX_ATTEMPTS"] == MAX_ATTEMPTS
