"""Records of the ring, as Envoy's module would have written them."""

from router.planes.envoy.layout import RequestRecord


def record(**fields):
    """``row``, ``nearest`` and ``rtt_row`` are of the parts that have them."""
    made = RequestRecord(grpc_status=-1)
    within = {
        "row": (made.found, "row"), "nearest": (made.found, "first_row"),
        "rtt_row": (made.asked, "rtt_row"),
    }  # fmt: skip
    for name, value in fields.items():
        setattr(*within.get(name, (made, name)), value)
    return made
