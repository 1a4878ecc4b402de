import ctypes

from router.planes.envoy import layout as lay
from tests.planes.envoy import host as hosts


@hosts.missing
def test_c_and_python_see_the_same_file(host):
    structs = (
        lay.Text, lay.FileHead, lay.SeatCount, lay.Named, lay.RegionCells, lay.EndpointCells,
        lay.ModelCells, lay.TableHead, lay.QuestionCells, lay.FoundCells, lay.RequestRecord,
    )  # fmt: skip
    offsets = (
        lay.FileHead.decided, lay.RegionCells.observed_at, lay.ModelCells.template_tokens,
        lay.TableHead.relaxed, lay.TableHead.attempts,
        lay.RequestRecord.found, lay.RequestRecord.status,
        lay.RequestRecord.cut_short, lay.RequestRecord.tail,
    )  # fmt: skip
    sizes = [ctypes.sizeof(one) for one in structs]
    assert host.layout() == [*sizes, *(one.offset for one in offsets)]
