"""What spans and their attributes are called: the only place that knows.

Names are those of OpenTelemetry's semantic conventions in one release each; a test holds every one
against the constants that are published with it. What those conventions have no word for is under
``carbon_router.`` (no attribute of carbon or of a request's energy is among them as of 1.44).
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Conventions(NamedTuple):
    """Names of one release. ``gen_ai_provider``: of whose model it is; ``rpc_system``, whose
    values are the same in both. ``qualified_method``: whether ``rpc_method`` holds the service,
    too, which then has no name of its own (``rpc_service`` ""). ``open_descriptors``: the metric
    of a process's open file descriptors."""

    release: str
    gen_ai_provider: str
    rpc_system: str
    rpc_service: str
    rpc_method: str
    qualified_method: bool
    open_descriptors: str

    @property
    def schema_url(self) -> str:
        """Where the release is described."""
        return f"https://opentelemetry.io/schemas/{self.release}"


# What tools that are deployed read: the last release before RPC and GenAI were renamed.
DEPLOYED: Final = Conventions(
    "1.36.0", "gen_ai.system", "rpc.system", "rpc.service", "rpc.method", False,
    "process.open_file_descriptor.count",
)  # fmt: skip
# What comes after it; RPC is a release candidate in it, GenAI in development.
LATEST: Final = Conventions(
    "1.44.0", "gen_ai.provider.name", "rpc.system.name", "", "rpc.method", True,
    "process.unix.file_descriptor.count",
)  # fmt: skip
BY_NAME: Final = {"deployed": DEPLOYED, "latest": LATEST}

# The same in both.
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
HTTP_METHOD: Final = "http.request.method"
HTTP_ROUTE: Final = "http.route"
URL_PATH: Final = "url.path"
GEN_AI_OPERATION: Final = "gen_ai.operation.name"
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
GEN_AI_RESPONSE_MODEL: Final = "gen_ai.response.model"
GEN_AI_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
GEN_AI_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
GRPC: Final = "grpc"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_STACK: Final = "exception.stacktrace"

# Ours.
OURS: Final = "carbon_router."
DECISION_ID: Final = "carbon_router.decision_id"
REQUEST_ID: Final = "carbon_router.request_id"
TENANT: Final = "carbon_router.tenant"
MODEL: Final = "carbon_router.model"
POLICY: Final = "carbon_router.policy"
ORIGIN: Final = "carbon_router.origin"
REGION: Final = "carbon_router.region"
GRID_ZONE: Final = "carbon_router.grid_zone"
ENDPOINT: Final = "carbon_router.endpoint"
OUTCOME: Final = "carbon_router.outcome"
REASON: Final = "carbon_router.reason"
ATTEMPTS: Final = "carbon_router.attempts"
ATTEMPT: Final = "carbon_router.attempt"
RELAXED: Final = "carbon_router.relaxed"
FLAGS: Final = "carbon_router.flags"
BUDGET_TTFT_MS: Final = "carbon_router.budget.ttft_ms"
BUDGET_TPOT_MS: Final = "carbon_router.budget.tpot_ms"
BUDGET_E2E_MS: Final = "carbon_router.budget.e2e_ms"
CARBON_BUDGET: Final = "carbon_router.carbon_budget.name"
CARBON_BUDGET_LEFT: Final = "carbon_router.carbon_budget.left_ratio"
PREDICTED_TTFT_MS: Final = "carbon_router.predicted.ttft_ms"
PREDICTED_E2E_MS: Final = "carbon_router.predicted.e2e_ms"
PREDICTED_GCO2E: Final = "carbon_router.predicted.gco2e_g"
LATENCY_FIRST_ENDPOINT: Final = "carbon_router.latency_first.endpoint"
LATENCY_FIRST_GCO2E: Final = "carbon_router.latency_first.gco2e_g"
TTFT_MS: Final = "carbon_router.ttft_ms"
E2E_MS: Final = "carbon_router.e2e_ms"
ENERGY_J: Final = "carbon_router.energy_j"
ENERGY_KIND: Final = "carbon_router.energy_kind"
GCO2E: Final = "carbon_router.gco2e_g"
LOST_GCO2E: Final = "carbon_router.lost_gco2e_g"
G_PER_KWH: Final = "carbon_router.g_per_kwh"
INTENSITY_KIND: Final = "carbon_router.intensity_kind"
TOKENS_KIND: Final = "carbon_router.tokens_kind"
EMULATED: Final = "carbon_router.emulated"
