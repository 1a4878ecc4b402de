"""A small scenario on the grid that ships with the package."""

import tempfile
from functools import cache
from importlib import resources
from pathlib import Path

from router.lab.sim.scenario.loading import load

GRID = resources.files("router") / "data" / "demo_grid.csv"
TEXT = """
name: small
start: 2022-05-14T07:00Z
duration: 6h
seed: 5
warm_up: 5m
carbon: {{file: {grid}}}
signal: {{kind: persistence, publication_lag: 1h}}
gateways: {{count: 3, staleness: 1s}}
autoscaling: {{release_after: 60s, wake: 20s, wake_w: 700}}
failures: [{{region: texas, start: 2h, end: 3h}}]
workload:
  generate:
    mean_rps: {rps}
    origins: {{west: {{share: 2, utc_offset_h: -7}}, east: {{share: 3, utc_offset_h: -4}}}}
    classes:
      - model: llama-3.1-8b
        share: 9
        input_tokens: {{mean: 180, p95: 400}}
        output_tokens: {{mean: 100, p95: 240}}
        max_output_tokens: {longest}
        budget: {{ttft_ms: {ttft_ms}, tpot_ms: {tpot_ms}}}
      - model: llama-3.1-8b
        input_tokens: {{mean: 180, p95: 400}}
        output_tokens: {{mean: 60, p95: 120}}
        tenants: {{acme: 1}}
        residency: [us-west]
        budget: {{e2e_ms: 10000}}
origins:
  west: {{rtt_ms: {{california: 4, texas: 36, new-york: 66}}}}
  east: {{rtt_ms: {{california: 62, texas: 30, new-york: 8}}}}
default_origin: east
regions:
  california: {{grid_zone: US-CAL-CISO, pue: 1.1, residency: [us, us-west]}}
  texas: {{grid_zone: US-TEX-ERCO, pue: 1.2, residency: [us]}}
  new-york: {{grid_zone: US-NY-NYIS, pue: 1.3, residency: [us]}}
models:
  llama-3.1-8b: {{input_tokens: 180, output_tokens: 92, output_tokens_p95: 220}}
endpoints:
  - name: 8b
    replicas: {{california: 2, texas: 2, new-york: 2}}
    max_in_flight: 9
    models: [{{name: llama-3.1-8b, profile: llama-3.1-8b@1xh100, context_tokens: 8192}}]
"""


@cache
def small(rps=30, longest=600, ttft_ms=400, tpot_ms=20):
    """Six hours as a `Simulation`; its own policy is carbon-first."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.yaml"
        asked = {"rps": rps, "longest": longest, "ttft_ms": ttft_ms, "tpot_ms": tpot_ms}
        path.write_text(TEXT.format(grid=GRID, **asked))
        return load(path).simulation
