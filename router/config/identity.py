"""``identity:`` as pydantic models, and the file of keys that it names."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from router.config.fields import Jurisdiction, Name, PathText, Seconds, Strict, Text, UnixTime

# Any tenant: for a proxy that is trusted to say whose request it is.
ANY_TENANT = "*"
_KEY_ID = re.compile(r"[a-z2-7]{12}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")

RoleName = Literal["infer", "control", "receipts", "operator"]
Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
Glob = Annotated[str, Field(min_length=1, max_length=256)]
Claim = Annotated[str, Field(min_length=1, max_length=256)]


def _jwks_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        host, bare = parts.hostname, not (parts.username or parts.password or parts.fragment)
    except ValueError:
        host, bare = None, True
    if not bare:
        # Not repeated: it may hold a password.
        raise ValueError("must be scheme, host, path and query alone")
    if not host or parts.scheme not in ("https", "http"):
        raise ValueError(f"{text!r} is not a URL; write https://host/path")
    if parts.scheme == "http" and host not in _LOOPBACK:
        raise ValueError("must be https, unless it is of this host: who changes it makes tokens")
    return text


def _tenant(text: str) -> str:
    if text and text != ANY_TENANT and not (text.isascii() and text.isprintable()):
        raise ValueError("use printable ASCII, as x-tenant does")
    return text.strip()


def _key_id(text: str) -> str:
    # Not repeated, and nor is a hash: somebody may have put the key itself there.
    if not _KEY_ID.fullmatch(text):
        raise ValueError("is no id of a key: 12 of a-z and 2-7, as `carbon-router key new` says")
    return text


def _sha256(text: str) -> str:
    if not _SHA256.fullmatch(text):
        raise ValueError("is no SHA-256: 64 hexadecimal digits in lower case")
    return text


def _inferring() -> list[RoleName]:
    return ["infer"]


def _usual_algorithms() -> list[Algorithm]:
    return ["RS256", "ES256"]


KeyId = Annotated[str, AfterValidator(_key_id)]
Sha256 = Annotated[str, AfterValidator(_sha256)]


class PrincipalLimitsSchema(Strict):
    """What one principal may use, at all gateways together; left out: no limit."""

    requests_per_s: float | None = Field(
        default=None, gt=0, le=1e6, description="requests, messages of streams included"
    )
    tokens_per_min: float | None = Field(
        default=None, gt=0, le=1e12, description="of prompts and answers together"
    )
    max_concurrent: int | None = Field(
        default=None, ge=1, le=1_000_000, description="requests at once"
    )


class GrantSchema(Strict):
    """What a principal may. Headers of a call narrow it, and never widen it."""

    tenant: Annotated[str, Field(max_length=128), AfterValidator(_tenant)] = Field(
        default="",
        description="on whose account it calls; `*`: as x-tenant says, for a proxy that is trusted",
    )
    models: list[Glob] = Field(
        default_factory=lambda: ["*"],
        min_length=1,
        max_length=256,
        description="patterns of models it may use: `llama-*`",
    )
    residency: list[Jurisdiction] = Field(
        default_factory=list, description="jurisdictions its requests may run in; empty: any"
    )
    origins: list[Name] = Field(
        default_factory=list,
        description="what x-origin may be, the first where it is left out; empty: any",
    )
    roles: list[RoleName] = Field(
        default_factory=_inferring,
        min_length=1,
        description="`infer`: requests; `control`: Decide, Explain, ListEndpoints, WatchRegions, "
        "reflection; `receipts`: of its tenant; `operator`: all of these",
    )
    limits: PrincipalLimitsSchema = Field(
        default_factory=PrincipalLimitsSchema, description="what it may use"
    )
    weight: float = Field(
        default=1.0, gt=0, le=1000, description="its share of places when they are scarce"
    )


class ApiKeySchema(Strict):
    """One key, of which only the hash is kept."""

    id: KeyId = Field(description="what the key begins with, after `crk_`")
    sha256: Sha256 = Field(description="of the whole key, hexadecimal")
    not_before: UnixTime | None = Field(default=None, description="not valid before, UTC")
    expires: UnixTime | None = Field(default=None, description="not valid from then on, UTC")

    @model_validator(mode="after")
    def _valid_at_some_time(self) -> ApiKeySchema:
        since = 0.0 if self.not_before is None else self.not_before
        if self.expires is not None and self.expires <= since:
            raise ValueError("expires before it is valid")
        return self


class KeyedPrincipalSchema(GrantSchema):
    """One principal and its keys; several while one takes over from another."""

    name: Name = Field(description="unique; for limits and the audit log")
    keys: list[ApiKeySchema] = Field(
        default_factory=list, max_length=64, description="any of them will do"
    )


class KeysFileSchema(Strict):
    """The file that `identity.keys_file` names; `carbon-router key` writes it."""

    version: Literal[1] = Field(description="format of this file, 1")
    principals: list[KeyedPrincipalSchema] = Field(
        default_factory=list, max_length=100_000, description="who may call"
    )


class ClaimsSchema(Strict):
    """Which claims of a token say what; one that is not named here says nothing."""

    name: Claim = Field(default="sub", description="text: who calls")
    tenant: Claim | None = Field(default=None, description="text: on whose account")
    roles: Claim | None = Field(default=None, description="list, or text with spaces: of `grants`")
    models: Claim | None = Field(default=None, description="likewise: patterns of models")
    residency: Claim | None = Field(default=None, description="likewise: jurisdictions")
    origins: Claim | None = Field(default=None, description="likewise")


class JwtSchema(Strict):
    """Tokens of one issuer (RFC 7519), signed by one of its public keys."""

    issuer: Text = Field(description="`iss`, exactly")
    audience: Text = Field(description="one of `aud`, exactly")
    jwks_url: Annotated[str, Field(max_length=2048), AfterValidator(_jwks_url)] | None = Field(
        default=None, description="where its keys are published; https, unless of this host"
    )
    jwks_file: PathText | None = Field(
        default=None, description="or a file, relative to the configuration file"
    )
    algorithms: list[Algorithm] = Field(
        default_factory=_usual_algorithms,
        min_length=1,
        description="that signatures may be of; those with shared secrets are never among them",
    )
    clock_skew_s: float = Field(
        default=30.0, ge=0, le=300, description="by which clocks may differ, s"
    )
    max_lifetime_s: float = Field(
        default=86_400.0,
        gt=0,
        le=31_536_000,
        description="a token that is valid for longer from now on is refused, s",
    )
    refresh_s: Seconds = Field(
        default=300.0, ge=1, description="between two looks for new keys of the issuer, s"
    )
    claims: ClaimsSchema = Field(default_factory=ClaimsSchema, description="which claims say what")
    grants: GrantSchema = Field(
        default_factory=GrantSchema, description="what any of its tokens may at most"
    )

    @model_validator(mode="after")
    def _keys_once(self) -> JwtSchema:
        if (self.jwks_url is None) == (self.jwks_file is None):
            raise ValueError("give the issuer's keys by one of jwks_url and jwks_file")
        return self


class CertificateSchema(GrantSchema):
    """Who calls with which client certificate: by exactly one of its names."""

    name: Name = Field(description="unique; for limits and the audit log")
    uri: Glob | None = Field(
        default=None, description="pattern of a URI name, such as spiffe://corp/ns/chat/*"
    )
    dns: Glob | None = Field(default=None, description="pattern of a DNS name")
    subject: Text | None = Field(default=None, description="the subject, exactly (RFC 4514)")
    fingerprint: Sha256 | None = Field(default=None, description="SHA-256 of the certificate")

    @model_validator(mode="after")
    def _by_one_name(self) -> CertificateSchema:
        given = (self.uri, self.dns, self.subject, self.fingerprint)
        if sum(one is not None for one in given) != 1:
            raise ValueError("give exactly one of uri, dns, subject and fingerprint")
        return self


class MtlsSchema(Strict):
    """Client certificates, which TLS has verified. The first that fits decides."""

    principals: list[CertificateSchema] = Field(
        min_length=1, max_length=10_000, description="who may call"
    )


class IdentitySchema(Strict):
    """Who may call; left out: anybody who reaches the address, with every role."""

    keys_file: PathText | None = Field(
        default=None,
        description="hashed keys, relative to the configuration file; read again when it changes",
    )
    keys_in_store: bool = Field(
        default=False,
        description="hashed keys that `carbon-router key new --store` puts into the store of "
        "`state.redis`, which is then needed; beside `keys_file`, whose entry counts where an id "
        "is in both",
    )
    jwt: JwtSchema | None = Field(default=None, description="tokens of an issuer")
    mtls: MtlsSchema | None = Field(default=None, description="client certificates")

    @model_validator(mode="after")
    def _names_once(self) -> IdentitySchema:
        names = [one.name for one in self.mtls.principals] if self.mtls else []
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"mtls.principals: {', '.join(sorted(twice))} given twice")
        return self
