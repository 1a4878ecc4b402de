"""TLS and credentials in the file: of our listeners, and towards endpoints."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from router.config.fields import EnvName, PathText, Strict
from router.config.settings import (
    ClientAuth,
    EndpointAccess,
    EndpointCredentials,
    EndpointTls,
    ListenerTls,
    PemFiles,
    SecretSpec,
)

_HEADER: Final = re.compile(r"[a-z][a-z0-9-]{0,63}")
_SERVER_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9])?")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,31}")
# What a transport writes itself, or routing reads.
_TAKEN: Final = frozenset((
    "host", "te", "user-agent", "connection", "keep-alive", "upgrade", "trailer", "expect",
    "transfer-encoding", "accept-encoding", "cookie",
))  # fmt: skip
_TAKEN_BEFORE: Final = ("content-", "grpc-", "x-carbon")


def _header(text: str) -> str:
    # Not repeated where it is no name: it may be the key itself.
    if not _HEADER.fullmatch(text) or text.endswith("-bin"):
        raise ValueError("is not a header's name; write it in lower case, such as authorization")
    if text in _TAKEN or text.startswith(_TAKEN_BEFORE):
        raise ValueError(f"{text!r} is no header for a key; use authorization or x-api-key")
    return text


def _server_name(text: str) -> str:
    if not _SERVER_NAME.fullmatch(text):
        raise ValueError(f"{text!r} is not a host's name; leave the port out")
    return text


def _scheme(text: str) -> str:
    if text and not _SCHEME.fullmatch(text):
        raise ValueError(
            "is not an authentication scheme, such as Bearer; the key has its own place"
        )
    return text


class ListenerTlsSchema(Strict):
    """TLS of what we listen on. The files are watched: what replaces them is in force for the next
    connection, without a restart."""

    cert_file: PathText = Field(
        description="PEM: our certificate, then those between it and the root"
    )
    key_file: PathText = Field(description="PEM of its key, without a passphrase")
    client_ca_file: PathText | None = Field(
        default=None, description="PEM of the authorities that sign clients' certificates"
    )
    client_auth: Literal["none", "optional", "required"] | None = Field(
        default=None,
        description="whether clients show a certificate; left out: `required` where "
        "client_ca_file is given, else `none`. gRPC cannot ask for one without requiring it: with "
        "`optional` only clients over HTTP are asked",
    )

    @property
    def client_auth_or_default(self) -> ClientAuth:
        """What is in force."""
        if self.client_auth is not None:
            return ClientAuth(self.client_auth)
        return ClientAuth.NONE if self.client_ca_file is None else ClientAuth.REQUIRED

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        asked = self.client_auth_or_default is not ClientAuth.NONE
        if asked and self.client_ca_file is None:
            raise ValueError(f"client_auth {self.client_auth} needs client_ca_file")
        if self.client_auth == "none" and self.client_ca_file is not None:
            raise ValueError("client_ca_file is for client_auth optional or required; drop one")
        return self


class EndpointTlsSchema(Strict):
    """TLS towards an endpoint; `{}` is TLS with the host's own authorities."""

    ca_file: PathText | None = Field(
        default=None,
        description="PEM of the authorities that sign its certificate; left out: the host's own",
    )
    cert_file: PathText | None = Field(
        default=None, description="PEM of the certificate that we show it (mTLS)"
    )
    key_file: PathText | None = Field(default=None, description="PEM of its key")
    server_name: Annotated[str, Field(max_length=253), AfterValidator(_server_name)] | None = Field(
        default=None,
        description="name that its certificate must have; left out: the host in its address",
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("give cert_file and key_file together")
        return self


class CredentialsSchema(Strict):
    """The key that an endpoint gets with each request, whatever its caller sent; `{}`: none."""

    header: Annotated[str, AfterValidator(_header)] = Field(
        default="authorization", description="the header that carries it"
    )
    scheme: Annotated[str, AfterValidator(_scheme)] | None = Field(
        default=None,
        description="word before the key; left out: `Bearer` in authorization, else none",
    )
    env: EnvName | None = Field(default=None, description="variable with the key")
    file: PathText | None = Field(
        default=None, description="file with it, watched: what replaces it is in force at once"
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.env is not None and self.file is not None:
            raise ValueError("give env or file, not both")
        if self.env is None and self.file is None and self.model_fields_set:
            raise ValueError("give the key by env or file; an empty mapping sends none")
        return self


class BackendsSchema(Strict):
    """How endpoints are reached that do not say so themselves."""

    tls: EndpointTlsSchema | None = Field(
        default=None, description="over TLS, unless the address says http:// or grpc://"
    )
    credentials: CredentialsSchema | None = Field(
        default=None, description="the key that they get; `credentials: {}` of an endpoint: none"
    )


def listener_tls(schema: ListenerTlsSchema | None, folder: Path) -> ListenerTls | None:
    """Settings of a checked `ListenerTlsSchema`; relative paths start at ``folder``."""
    if schema is None:
        return None
    ca = schema.client_ca_file
    files = PemFiles(
        folder / schema.cert_file, folder / schema.key_file, folder / ca if ca else None
    )
    return ListenerTls(files, schema.client_auth_or_default)


def endpoint_access(
    at: str,
    secure: bool,
    tls: EndpointTlsSchema | None,
    credentials: CredentialsSchema | None,
    defaults: BackendsSchema,
    folder: Path,
) -> EndpointAccess:
    """How one endpoint is reached. ``at``: where it stands in the file; ``secure``: over TLS."""
    own_tls, own_key = tls is not None, credentials is not None
    reached = None
    if secure:
        wanted = tls or defaults.tls or EndpointTlsSchema()
        reached = _endpoint_tls(f"{at if own_tls else 'backends'}.tls", wanted, folder)
    key = credentials if own_key else defaults.credentials
    return EndpointAccess(
        reached, _credentials(f"{at if own_key else 'backends'}.credentials", key, folder)
    )


def _endpoint_tls(at: str, schema: EndpointTlsSchema, folder: Path) -> EndpointTls:
    files = (schema.cert_file, schema.key_file, schema.ca_file)
    return EndpointTls(
        at, PemFiles(*(folder / file if file else None for file in files)), schema.server_name or ""
    )


def _credentials(
    at: str, schema: CredentialsSchema | None, folder: Path
) -> EndpointCredentials | None:
    if schema is None or (schema.env is None and schema.file is None):
        return None
    scheme = schema.scheme
    if scheme is None:
        scheme = "Bearer" if schema.header == "authorization" else ""
    file = folder / schema.file if schema.file else None
    return EndpointCredentials(at, schema.header, scheme, SecretSpec(schema.env or "", file))
