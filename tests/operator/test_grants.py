"""What `check` says of who may call."""

import pytest
import yaml

from router.app.loading import load
from router.operator.grants import identity_line, identity_notes
from tests.config.samples import write
from tests.identity.support import AUDIENCE, ISSUER, RSA_KEY, jwk, jwks


def configured(folder, principals=(), changes=None, **identity):
    (folder / "keys.yaml").write_text(
        yaml.safe_dump({"version": 1, "principals": list(principals)})
    )
    said = {"identity": {"keys_file": "keys.yaml", **identity}, **(changes or {})}
    return load(write(folder, said))


def notes(folder, changes=None, **may):
    return identity_notes(configured(folder, [{"name": "chat", **may}], changes))


def test_left_out_nobody_is_asked(tmp_path):
    config = load(write(tmp_path))
    assert identity_line(config) == "identity: nobody is asked who calls"
    assert identity_notes(config) == []


def test_every_way_to_be_known_is_told(tmp_path):
    (tmp_path / "jwks.json").write_bytes(jwks(jwk(RSA_KEY, "r1")))
    key = {"id": "a" * 12, "sha256": "0" * 64}
    config = configured(
        tmp_path,
        [{"name": "chat", "keys": [key]}, {"name": "idle"}],
        jwt={"issuer": ISSUER, "audience": AUDIENCE, "jwks_file": "jwks.json"},
        mtls={"principals": [{"name": "batch", "dns": "batch.example"}]},
    )
    line = identity_line(config)
    assert "1 keys of 2 principals in" in line
    assert f"tokens of {ISSUER} (RS256, ES256; keys: jwks.json)" in line
    assert "1 kinds of client certificates" in line
    assert identity_notes(config) == []


def test_keys_in_a_store_are_told(tmp_path):
    redis = {"state": {"redis": {"url": "unix:///nowhere"}}}
    config = configured(tmp_path, changes=redis, keys_in_store=True)
    assert identity_line(config).endswith("keys in the store of state.redis")


@pytest.mark.parametrize(
    ("may", "note"),
    [
        ({"residency": ["us", "mars"]}, "no region lies in mars"),
        ({"origins": ["moon"]}, "no origin is called moon"),
        ({"models": ["llama-*", "gpt-*"]}, "no model is called gpt-*"),
    ],
)
def test_what_is_granted_and_cannot_be_had_is_told(tmp_path, may, note):
    assert notes(tmp_path, **may) == [f"identity: chat: {note}"]


def test_a_tenant_that_is_refused_anyway_is_told(tmp_path):
    listed = {"tenants": {"acme": {"residency": ["us"]}}}
    assert notes(tmp_path, listed, tenant="acme") == []
    assert notes(tmp_path, listed, tenant="*") == []
    (note,) = notes(tmp_path, listed, tenant="rival")
    assert "all of its requests are refused" in note
    assert notes(tmp_path, {**listed, "unlisted_tenants": "serve"}, tenant="rival") == []
