"""What emulated servers say that a call cost: as ORCA reports, and as the draft of GWF has it.

Joules are those of GPUs and host, without PUE.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from router.lab.replay.replica import Ended

# Of the report as a trailer of gRPC and as a header of HTTP; the binary form is gRFC A51's.
ORCA_BINARY: Final = "endpoint-load-metrics-bin"
ORCA_TEXT: Final = "endpoint-load-metrics"
# With which a request of HTTP asks for the server's load.
ORCA_FORMAT: Final = "endpoint-load-metrics-format"


class RequestCost(NamedTuple):
    """The maps of an ORCA report, by metric name.

    ``request_cost``: ``energy_j`` attributional, ``marginal_energy_j`` short-run marginal.
    ``named_metrics``: ``output_tokens``, ``cached_tokens`` of the prompts, and ``batch`` at the
    end of the last request. ``utilization``: slots in use then, 0 to 1.
    """

    request_cost: dict[str, float]
    named_metrics: dict[str, float]
    utilization: float

    @classmethod
    def of(cls, records: Sequence[Ended], max_batch: int) -> RequestCost:
        """Of one call: summed over its requests, one at least."""
        return cls(
            {
                "energy_j": math.fsum(record.energy_j for record in records),
                "marginal_energy_j": math.fsum(record.marginal_energy_j for record in records),
            },
            {
                "output_tokens": math.fsum(record.output_tokens for record in records),
                "cached_tokens": math.fsum(record.cached_tokens for record in records),
                "batch": float(records[-1].batch),
            },
            records[-1].batch / max_batch,
        )

    def beside(self, queued: float, kv_fraction: float) -> RequestCost:
        """With the server's load in the words of vLLM, which tells of no running requests."""
        load = {"num_requests_waiting": queued, "kv_cache_usage_perc": kv_fraction}
        return self._replace(named_metrics={**self.named_metrics, **load})

    def as_text(self) -> str:
        """The report's ``TEXT`` form."""
        pairs = [f"request_cost.{name}={value!r}" for name, value in self.request_cost.items()]
        pairs += [f"named_metrics.{name}={value!r}" for name, value in self.named_metrics.items()]
        return f"TEXT {','.join(pairs)}"

    def as_json(self) -> str:
        """The report's ``JSON`` form."""
        report = {
            "application_utilization": self.utilization,
            "request_cost": self.request_cost,
            "named_metrics": self.named_metrics,
        }
        return f"JSON {json.dumps(report)}"

    def as_comment(self) -> bytes:
        """``: energy {json}``, the comment that a stream of server-sent events tells it in.

        ``joules``, ``source``: names of the Green Web Foundation's draft; ``marginal_joules`` ours.
        """
        said = {
            "joules": self.request_cost["energy_j"],
            "marginal_joules": self.request_cost["marginal_energy_j"],
            "source": "emulated",
        }
        return f": energy {json.dumps(said)}\n\n".encode()
