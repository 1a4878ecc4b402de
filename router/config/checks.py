"""What one key of the configuration means for another: references, uniqueness, files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from router.config.endpoints import EndpointSchema, ServedSchema
from router.config.fields import split_remote
from router.config.meters import check_calibration, check_meters
from router.config.policy import PolicySchema
from router.config.problems import Problem, key_path, unknown
from router.config.schema import ConfigSchema
from router.config.sources import CarbonSchema
from router.model import Profile, TokenProfile

# As many as a decision tells apart (``router.core.layout``).
MAX_RESIDENCY_SETS = 62


def check_references(schema: ConfigSchema, profiles: Mapping[str, Profile]) -> list[Problem]:
    """Every name that is used exists, and every name that is given is given once."""
    problems: list[Problem] = []
    if not schema.endpoints and not schema.discovery:
        text = "must not be empty: list the model servers, or give discovery, which finds them"
        problems.append(("endpoints", text))
    names: dict[str, int] = {}
    addresses: dict[str, int] = {}
    for index, endpoint in enumerate(schema.endpoints):
        at = f"endpoints[{index}]"
        if endpoint.region not in schema.regions:
            problems.append((f"{at}.region", unknown("region", endpoint.region, schema.regions)))
        problems += _given_once(f"{at}.name", endpoint.name, names, index)
        shared = _given_once(f"{at}.address", endpoint.host_port, addresses, index)
        if shared:
            text = f"{shared[0][1]}; list both models under one endpoint"
            problems.append((f"{at}.address", text))
        problems += _check_scheme(at, endpoint)
    for at, _, models in _serving(schema):
        problems += _check_models(schema, at, models, profiles)
    problems += _check_protocols(schema)
    problems += check_meters(
        [(e.name, e.meter, e.metrics.url if e.metrics else "") for e in schema.endpoints]
    )
    problems += _check_calibrations(schema)
    served = served_models(schema)
    for name in schema.models:
        if name not in served:
            text = f"no endpoint serves it; {unknown('model', name, served)}"
            problems.append((key_path(["models", name]), text))
    return problems


def _check_scheme(at: str, endpoint: EndpointSchema) -> list[Problem]:
    """What an address says of protocol and TLS is what its endpoint says."""
    scheme = split_remote(endpoint.address)[0]
    if not scheme:
        return []
    if scheme.startswith("grpc") != (endpoint.protocol == "oip"):
        fitting = "grpc:// or grpcs://" if endpoint.protocol == "oip" else "http:// or https://"
        text = f"{endpoint.protocol} is not spoken over {scheme}://; write host:port, {fitting}"
        return [(f"{at}.address", text)]
    if scheme in ("http", "grpc") and endpoint.tls is not None:
        return [(f"{at}.tls", f"but the address says {scheme}://, which is without; drop one")]
    return []


def served_models(schema: ConfigSchema) -> set[str]:
    """Every model that an endpoint serves, or that one which discovery finds will."""
    return {model.name for _, _, models in _serving(schema) for model in models}


def spoken_protocols(schema: ConfigSchema) -> dict[str, str]:
    """By model, of each that is served, the protocol."""
    return {model.name: protocol for _, protocol, models in _serving(schema) for model in models}


def _serving(schema: ConfigSchema) -> Iterator[tuple[str, str, Sequence[ServedSchema]]]:
    """Where it stands, the protocol and the models: of each endpoint, and of each template."""
    for index, endpoint in enumerate(schema.endpoints):
        yield f"endpoints[{index}]", endpoint.protocol, endpoint.models
    for index, place in enumerate(schema.discovery):
        yield f"discovery[{index}].template", place.template.protocol, place.template.models


def _check_protocols(schema: ConfigSchema) -> list[Problem]:
    """A model is served over one protocol, and what speaks HTTP has a front that does."""
    problems: list[Problem] = []
    spoken: dict[str, tuple[str, str]] = {}
    for at, speaks, models in _serving(schema):
        for place, model in enumerate(models):
            protocol, first = spoken.setdefault(model.name, (speaks, at))
            if protocol != speaks:
                text = (
                    f"{model.name!r} is served over {protocol} by {first} and over "
                    f"{speaks} here: give it another name where it speaks another "
                    "protocol"
                )
                problems.append((f"{at}.models[{place}].name", text))
        server = schema.server
        if speaks == "openai" and server.http is None and server.picker is None:
            text = (
                "openai needs server.http, the address that callers ask over HTTP, or "
                "server.picker, which proxies ask; set one"
            )
            problems.append((f"{at}.protocol", text))
    return problems


def _check_calibrations(schema: ConfigSchema) -> list[Problem]:
    problems: list[Problem] = []
    for index, one in enumerate(schema.endpoints):
        at, engine = f"endpoints[{index}]", one.metrics.engine if one.metrics else ""
        problems += check_calibration(at, one.meter, engine, len(one.models))
        wanted = one.meter is not None and one.meter.calibrate is not None
        is_kept = schema.state.file is not None or schema.state.redis is not None
        if wanted and schema.server.workers > 1 and not is_kept:
            text = "one worker fits, and the others read it of state.file or state.redis: set one"
            problems.append((f"{at}.meter.calibrate", text))
    return problems


def _given_once(where: str, value: str, seen: dict[str, int], index: int) -> list[Problem]:
    first = seen.setdefault(value, index)
    if first == index:
        return []
    return [(where, f"{value!r} is already used by endpoints[{first}]")]


def _check_models(
    schema: ConfigSchema,
    where: str,
    models: Sequence[ServedSchema],
    profiles: Mapping[str, Profile],
) -> list[Problem]:
    problems: list[Problem] = []
    seen: set[tuple[str, str]] = set()
    for place, model in enumerate(models):
        at = f"{where}.models[{place}]"
        profile = profiles.get(model.profile)
        if profile is None:
            text = unknown("profile", model.profile, profiles)
            text += " (`carbon-router profiles` lists them; one of your own goes under `profiles`)"
            problems.append((f"{at}.profile", text))
        elif isinstance(profile, TokenProfile) and not _has_lengths(schema, model.name):
            known = model.name in schema.models
            hint = (
                "its lengths are missing" if known else unknown("model", model.name, schema.models)
            )
            text = (
                f"{hint}; a token profile needs models.{model.name} with input_tokens, "
                "output_tokens and output_tokens_p95"
            )
            problems.append((f"{at}.name", text))
        elif not isinstance(profile, TokenProfile) and model.prefix_cache_tokens:
            text = f"{model.profile} is no token profile: no prompts are read there, none are kept"
            problems.append((f"{at}.prefix_cache_tokens", text))
        if (model.name, model.version) in seen:
            version = f" version {model.version!r}" if model.version else ""
            problems.append((f"{at}.name", f"{model.name!r}{version} is listed twice here"))
        seen.add((model.name, model.version))
    return problems


def check_origins(schema: ConfigSchema, origins: Iterable[str]) -> list[Problem]:
    """``default_origin`` and ``server.origin`` name a known origin or none."""
    known = set(origins)
    given = (("default_origin", schema.default_origin), ("server.origin", schema.server.origin))
    wrong = ((key, name) for key, name in given if name and name not in known)
    return [(key, unknown("origin", name, known)) for key, name in wrong]


def check_profiles(own: Iterable[str], shipped: Mapping[str, Profile]) -> list[Problem]:
    """No own profile takes the name of a shipped one: a name means one thing on every receipt."""
    return [
        (key_path(["profiles", name]), "is the name of a shipped profile; choose another")
        for name in own
        if name in shipped
    ]


def check_residency(schema: ConfigSchema, policy: PolicySchema) -> list[Problem]:
    """Every jurisdiction that limits something is one that a region lies in."""
    sets = {frozenset(region.residency) for region in schema.regions.values()}
    problems: list[Problem] = []
    if len(sets) > MAX_RESIDENCY_SETS:
        text = (
            f"{len(sets)} different residency lists; at most {MAX_RESIDENCY_SETS} are told apart: "
            "leave out jurisdictions that no request and no rule names, so that regions share lists"
        )
        problems.append(("regions", text))
    known = {name for one in sets for name in one}
    for where, names in _limits(schema, policy):
        for place, name in enumerate(names):
            if name not in known:
                text = (
                    unknown("jurisdiction", name, known)
                    if known
                    else (f"{name!r}: no region has a residency; give it under regions")
                )
                problems.append((f"{where}[{place}]", text))
    return problems


def _limits(schema: ConfigSchema, policy: PolicySchema) -> Iterator[tuple[str, Sequence[str]]]:
    yield "policy.residency", policy.residency or ()
    for name, model in schema.models.items():
        yield key_path(["models", name, "residency"]), model.residency or ()
    for name, tenant in schema.tenants.items():
        yield key_path(["tenants", name, "residency"]), tenant.residency


def _has_lengths(schema: ConfigSchema, model: str) -> bool:
    return model in schema.models and schema.models[model].input_tokens is not None


def check_numbers(schema: ConfigSchema) -> list[Problem]:
    """Pairs of numbers that contradict each other."""
    problems: list[Problem] = []
    server, load, health = schema.server, schema.load, schema.health
    if server.listen == server.admin and not server.listen.endswith(":0"):
        problems.append(("server.admin", f"{server.admin!r} is server.listen too; choose another"))
    taken = {server.listen: "server.listen", server.admin: "server.admin"}
    others = {
        "server.http": server.http,
        "server.picker": server.picker,
        "server.scaler": server.scaler,
    }
    for key, address in others.items():
        if address is None or address.endswith(":0"):
            continue
        if address in taken:
            problems.append((key, f"{address!r} is {taken[address]} too; choose another"))
        taken[address] = key
    if load.stale_after_s < load.scrape_s:
        text = f"must be at least load.scrape_s ({load.scrape_s:g} s), got {load.stale_after_s:g}"
        problems.append(("load.stale_after_s", text))
    if health.max_ejection_s < health.base_ejection_s:
        text = (
            f"must be at least health.base_ejection_s ({health.base_ejection_s:g} s), "
            f"got {health.max_ejection_s:g}"
        )
        problems.append(("health.max_ejection_s", text))
    return problems


def check_identity(schema: ConfigSchema) -> list[Problem]:
    """Keys in a store have one."""
    if schema.identity.keys_in_store and schema.state.redis is None:
        text = "needs state.redis, the store that they are in; give it, or use keys_file"
        return [("identity.keys_in_store", text)]
    return []


def check_log(schema: ConfigSchema, folder: Path) -> list[Problem]:
    """The file of requests has a folder to be in, and is a file."""
    wanted = schema.log.requests
    if wanted is None:
        return []
    path = folder / wanted.file
    if not path.parent.is_dir():
        return [("log.requests.file", f"{path.parent}: no such folder; make it")]
    if path.exists() and not path.is_file():
        return [("log.requests.file", f"{path}: not a file that can be rotated")]
    return []


def check_signal(policy: PolicySchema, carbon: CarbonSchema) -> list[Problem]:
    """A policy written for one signal is not run on another."""
    wanted = policy.signal
    if wanted is None or (wanted.basis, wanted.factors) == (carbon.basis, carbon.factors):
        return []
    text = (
        f"written for {wanted.basis}/{wanted.factors} intensities, but carbon provides "
        f"{carbon.basis}/{carbon.factors}; change carbon.basis and carbon.factors, or the policy"
    )
    return [("policy.signal", text)]
