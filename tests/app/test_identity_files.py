"""What ``identity:`` names is looked at when a configuration is read."""

import pytest
import yaml

from router.app.identity_files import check_identity
from router.app.loading import load
from router.errors import ConfigError
from tests.config.samples import sample
from tests.identity.support import RSA_KEY, jwk, jwks, jwt_said, key_text, write_keys

FIRST = key_text("first")


def loaded(tmp_path, **identity):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**sample(), "identity": identity}))
    return load(path)


def test_what_a_configuration_names_is_looked_at_when_it_is_read(tmp_path):
    write_keys(tmp_path, FIRST)
    config = loaded(tmp_path, keys_file="keys.yaml")
    assert config.settings.identity.authenticates
    assert config.settings.identity.keys_file == tmp_path / "keys.yaml"
    with pytest.raises(ConfigError, match=r"missing.yaml: cannot be read"):
        loaded(tmp_path, keys_file="missing.yaml")
    with pytest.raises(ConfigError, match=r"identity.jwt.jwks_file: .* cannot be read"):
        loaded(tmp_path, jwt=jwt_said(jwks_file="jwks.json"))
    (tmp_path / "jwks.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"identity.jwt.jwks_file: .* no list"):
        loaded(tmp_path, jwt=jwt_said(jwks_file="jwks.json"))
    (tmp_path / "jwks.json").write_bytes(jwks(jwk(RSA_KEY, "r1")))
    check_identity(loaded(tmp_path, jwt=jwt_said(jwks_file="jwks.json")))


@pytest.mark.parametrize(
    ("identity", "told"),
    [
        ({"jwt": jwt_said()}, "one of jwks_url and jwks_file"),
        ({"jwt": jwt_said(jwks_url="http://issuer.example/k")}, "must be https"),
        ({"jwt": jwt_said(jwks_url="https://u:s3cret@issuer.example/k")}, "alone"),
        ({"jwt": jwt_said(jwks_url="file:///etc/passwd")}, "is not a URL"),
        ({"jwt": jwt_said(jwks_file="a", algorithms=["none"])}, "must be one of"),
        ({"jwt": jwt_said(jwks_file="a", algorithms=[])}, "must not be empty"),
        ({"keys": "keys.yaml"}, "did you mean 'keys_file'"),
        ({"mtls": {"principals": [{"name": "a"}]}}, "exactly one of"),
        (
            {"mtls": {"principals": [{"name": "a", "dns": "a"}, {"name": "a", "dns": "b"}]}},
            "given twice",
        ),
    ],
)
def test_what_is_wrong_with_a_configuration_is_told(tmp_path, identity, told):
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, **identity)
    assert told in str(error.value)
    assert "s3cret" not in str(error.value)
