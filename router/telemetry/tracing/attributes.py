"""What spans say: of a request, of the decision on it, of what it took. Never a payload, and a
tenant's name only as the configuration has it. What is not known is left out. Pure."""

from __future__ import annotations

import math
from typing import Final

from router.contract import Metadata
from router.http_api import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    MESSAGES,
    METHOD,
    PATH,
    RESPONSES,
    api_of,
)
from router.model import Decision, Receipt, Request, TokenProfile
from router.telemetry.tenants import kept_tenant
from router.telemetry.tracing import conventions as names
from router.telemetry.tracing.conventions import Conventions
from router.telemetry.tracing.span import Attributes

_SERVICE: Final = "inference.GRPCInferenceService"
_METHODS: Final = {False: "ModelInfer", True: "ModelStreamInfer"}
# Values of `gen_ai.operation.name`.
_OPERATIONS: Final = {
    CHAT: "chat",
    MESSAGES: "chat",
    RESPONSES: "chat",
    COMPLETIONS: "text_completion",
    EMBEDDINGS: "embeddings",
}


def call_attributes(
    metadata: Metadata, protocol: str, streamed: bool, convention: Conventions
) -> tuple[str, str, Attributes]:
    """Of the call that a request came by: its span's name, the operation on its model ("" where
    there is no word for it), and its protocol's attributes."""
    if protocol != "openai":
        method = _METHODS[streamed]
        full = f"{_SERVICE}/{method}"
        made: Attributes = {
            convention.rpc_system: names.GRPC,
            convention.rpc_method: full if convention.qualified_method else method,
        }
        if convention.rpc_service:
            made[convention.rpc_service] = _SERVICE
        return full, "", made
    named = {key: value for key, value in metadata if key in (METHOD, PATH)}
    verb = str(named.get(METHOD, "POST"))
    path = str(named.get(PATH, "/")).partition("?")[0]
    made = {names.HTTP_METHOD: verb, names.HTTP_ROUTE: path, names.URL_PATH: path}
    return f"{verb} {path}", _OPERATIONS.get(api_of(path), ""), made


def request_attributes(request: Request, tenant_style: str) -> Attributes:
    """Of what was asked for, and within which limits."""
    made: Attributes = {names.MODEL: request.model}
    tenant = kept_tenant(request.tenant, tenant_style)
    texts = ((names.REQUEST_ID, request.request_id), (names.TENANT, tenant))
    for key, text in (*texts, (names.ORIGIN, request.origin)):
        if text:
            made[key] = text
    budget = request.budget
    _put(made, names.BUDGET_TTFT_MS, budget.ttft_ms)
    _put(made, names.BUDGET_TPOT_MS, budget.tpot_ms)
    _put(made, names.BUDGET_E2E_MS, budget.e2e_ms)
    return made


def decision_attributes(decision: Decision) -> Attributes:
    """Of where a request, or an attempt, goes and why."""
    made: Attributes = {
        names.ENDPOINT: decision.endpoint.name,
        names.REGION: decision.endpoint.region,
    }
    if decision.relaxed:
        made[names.RELAXED] = tuple(str(rung) for rung in decision.relaxed)
    if decision.flags:
        made[names.FLAGS] = tuple(decision.flags)
    if decision.endpoint.emulated:
        made[names.EMULATED] = True
    _put(made, names.PREDICTED_TTFT_MS, decision.latency.ttft_ms)
    _put(made, names.PREDICTED_E2E_MS, decision.latency.e2e_ms)
    _put(made, names.G_PER_KWH, decision.run_g_per_kwh)
    if decision.intensity is not None:
        made[names.INTENSITY_KIND] = str(decision.intensity.kind)
    return made


def model_attributes(
    request: Request, decision: Decision, operation: str, convention: Conventions
) -> Attributes:
    """Of a language model's attempt, in the words of the GenAI conventions; none of another's."""
    if not isinstance(decision.served.profile, TokenProfile):
        return {}
    made: Attributes = {names.GEN_AI_REQUEST_MODEL: request.model}
    if decision.variant is not None:
        made[names.GEN_AI_RESPONSE_MODEL] = decision.variant.model
    if operation:
        made[names.GEN_AI_OPERATION] = operation
    if decision.endpoint.engine:
        made[convention.gen_ai_provider] = decision.endpoint.engine
    if 0.0 < request.max_output_tokens < math.inf:
        made[names.GEN_AI_MAX_TOKENS] = int(request.max_output_tokens)
    return made


def server_attributes(decision: Decision) -> Attributes:
    """Of the server that an attempt calls."""
    host, _, port = decision.endpoint.address.rpartition(":")
    made: Attributes = {names.SERVER_ADDRESS: host.strip("[]")}
    if port.isdigit():
        made[names.SERVER_PORT] = int(port)
    return made


def receipt_attributes(receipt: Receipt) -> Attributes:
    """Of what an attempt took: tokens, joules, grams."""
    made: Attributes = {names.GRID_ZONE: receipt.grid_zone}
    if 0.0 <= receipt.energy_j < math.inf:
        made[names.ENERGY_J] = receipt.energy_j
        made[names.ENERGY_KIND] = str(receipt.energy_kind)
    _put(made, names.GCO2E, receipt.gco2e)
    _put(made, names.G_PER_KWH, receipt.g_per_kwh)
    _put(made, names.TTFT_MS, receipt.ttft_ms)
    if isinstance(receipt.decision.served.profile, TokenProfile):
        told, stated = receipt.input_tokens, receipt.request.input_tokens
        _put_count(made, names.GEN_AI_INPUT_TOKENS, told if told > 0.0 else stated)
        if _put_count(made, names.GEN_AI_OUTPUT_TOKENS, receipt.output_tokens):
            made[names.TOKENS_KIND] = str(receipt.tokens_kind)
    return made


def outcome_attributes(receipt: Receipt) -> Attributes:
    """Of what a whole request came to, beside `receipt_attributes` of its last attempt."""
    decision = receipt.decision
    made: Attributes = {
        names.DECISION_ID: receipt.decision_id,
        names.ATTEMPTS: receipt.attempts,
        names.LATENCY_FIRST_ENDPOINT: decision.latency_first_endpoint,
    }
    _put(made, names.E2E_MS, receipt.e2e_ms)
    _put(made, names.PREDICTED_GCO2E, receipt.predicted.gco2e)
    _put(made, names.LATENCY_FIRST_GCO2E, receipt.predicted.latency_first_gco2e)
    if receipt.lost_gco2e > 0.0:
        made[names.LOST_GCO2E] = receipt.lost_gco2e
    if receipt.carbon_budget is not None:
        made[names.CARBON_BUDGET] = receipt.carbon_budget.name
        _put(made, names.CARBON_BUDGET_LEFT, receipt.carbon_budget.left)
    return made


def _put(made: Attributes, key: str, value: float) -> None:
    if 0.0 <= value < math.inf:
        made[key] = value


def _put_count(made: Attributes, key: str, value: float) -> bool:
    known = 0.0 <= value < math.inf
    if known:
        made[key] = round(value)
    return known
