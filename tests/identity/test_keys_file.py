"""The file of hashed keys."""

import os

import pytest

from router.errors import ConfigError
from router.identity.keys_file import WatchedFile, key_table, read_keys
from router.identity.principal import PrincipalLimits, Role
from tests.identity.support import NOW, key_text

KEY = key_text("right")
DIGEST = "91c2b5e0a2d9c05a2d0b3b0b2a1b2d3f4e5a6b7c8d9e0f1a2b3c4d5e6f708192"


def written(folder, text):
    path = folder / "keys.yaml"
    path.write_text(text)
    return path


def problems(folder, text):
    with pytest.raises(ConfigError) as told:
        read_keys(written(folder, text))
    return str(told.value)


def test_a_file_says_who_may_what(tmp_path):
    import hashlib

    digest = hashlib.sha256(KEY.encode()).hexdigest()
    path = written(
        tmp_path,
        f"""
version: 1
principals:
  - name: chat
    tenant: acme
    models: ["llama-*"]
    residency: [EU]
    origins: [eu-west]
    roles: [infer, receipts]
    weight: 2
    limits: {{requests_per_s: 5, tokens_per_min: 600, max_concurrent: 3}}
    keys:
      - {{id: {KEY[4:16]}, sha256: {digest}, expires: 2100-01-01T00:00Z}}
  - name: idle
""",
    )
    table = key_table(read_keys(path))
    assert len(table) == 1
    found = table.find(KEY, NOW)
    assert (found.name, found.tenant, found.weight) == ("chat", "acme", 2.0)
    assert (found.residency, found.origins) == ({"eu"}, ("eu-west",))
    assert found.roles == {Role.INFER, Role.RECEIPTS}
    assert found.limits == PrincipalLimits(5.0, 600.0, 3.0)
    assert found.may_use("llama-3") and not found.may_use("gpt")
    assert found.credential == f"key {KEY[4:16]}"


def test_json_will_do(tmp_path):
    text = '{"version": 1, "principals": [{"name": "a", "keys": []}]}'
    assert read_keys(written(tmp_path, text)).principals[0].roles == ["infer"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "a mapping"),
        ("version: 2", "version"),
        ("version: 1\nprincipal: []", "did you mean 'principals'"),
        ("version: 1\nprincipals: [{name: a}, {name: a}]", "given twice"),
        ("version: 1\nprincipals: [{name: a, roles: [admin]}]", "must be one of infer"),
        ("version: 1\nprincipals: [{name: a, models: []}]", "must not be empty"),
        ("version: 1\nprincipals: [{name: a, weight: 0}]", "weight"),
        (
            "version: 1\nprincipals: [{name: a, keys: [{id: crk_abc_s3cret, sha256: s3cret}]}]",
            "is no SHA-256",
        ),
        ("\x00", "not YAML"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(tmp_path, text, told):
    said = problems(tmp_path, text)
    assert told in said
    assert "s3cret" not in said


def test_an_id_stands_for_one_key(tmp_path):
    key = f"{{id: {KEY[4:16]}, sha256: {'a' * 64}}}"
    text = f"version: 1\nprincipals: [{{name: a, keys: [{key}]}}, {{name: b, keys: [{key}]}}]"
    assert "is given twice" in problems(tmp_path, text)


def test_a_key_that_is_never_valid_is_a_mistake(tmp_path):
    key = (
        f"{{id: {KEY[4:16]}, sha256: {'a' * 64}, not_before: 2030-01-01T00:00Z, "
        "expires: 2029-01-01T00:00Z}"
    )
    said = problems(tmp_path, f"version: 1\nprincipals: [{{name: a, keys: [{key}]}}]")
    assert "expires before it is valid" in said


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_keys(tmp_path / "keys.yaml")


def test_a_change_is_seen_once_and_through_links(tmp_path):
    first, second = tmp_path / "1.yaml", tmp_path / "2.yaml"
    first.write_text("version: 1")
    second.write_text("version: 1  ")
    link = tmp_path / "keys.yaml"
    link.symlink_to(first)
    watched = WatchedFile(link)
    assert not watched.changed()
    aside = tmp_path / "aside"
    aside.symlink_to(second)
    aside.replace(link)
    assert watched.changed()
    assert not watched.changed()
    os.utime(second, ns=(1, 1))
    assert watched.changed()
    link.unlink()
    assert not watched.changed()
