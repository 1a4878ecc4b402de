"""Keys made, listed and revoked in a file."""

import stat
import threading

import pytest
import yaml

from router.errors import ConfigError
from router.identity.keys_file import key_table, read_keys
from router.operator.key_places import KeysInFile
from router.operator.keys import listed_keys, make_key, revoke_key
from tests.identity.support import NOW

CHAT = {"name": "chat", "tenant": "acme", "models": ["llama-*"], "roles": ["infer", "receipts"]}


def test_a_key_that_was_made_is_valid_and_its_text_is_nowhere(tmp_path):
    file = tmp_path / "keys.yaml"
    made = make_key(CHAT, None, NOW + 100.0, KeysInFile(file))
    text = file.read_text()
    assert made.text not in text and made.text.split("_", 2)[2] not in text
    assert made.text not in made.entry
    found = key_table(read_keys(file)).find(made.text, NOW)
    assert (found.name, found.tenant, found.models) == ("chat", "acme", ("llama-*",))
    # What is printed may be put into a file by hand.
    by_hand = tmp_path / "hand.yaml"
    by_hand.write_text(f"version: 1\nprincipals:\n{made.entry}")
    assert key_table(read_keys(by_hand)).find(made.text, NOW).name == "chat"


def test_a_file_is_for_its_owner_alone_and_stays_as_it_was_made(tmp_path):
    file = tmp_path / "keys.yaml"
    make_key(CHAT, None, None, KeysInFile(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o640)
    make_key({"name": "chat"}, None, None, KeysInFile(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert sorted(one.name for one in tmp_path.iterdir()) == ["keys.yaml", "keys.yaml.lock"]


def test_a_key_takes_over_from_another(tmp_path):
    file = tmp_path / "keys.yaml"
    old = make_key(CHAT, None, NOW + 100.0, KeysInFile(file))
    new = make_key({"name": "chat"}, NOW + 50.0, None, KeysInFile(file))
    states = [(one.principal, one.state) for one in listed_keys(KeysInFile(file), NOW)]
    assert states == [("chat", "valid"), ("chat", "not yet")]
    table = key_table(read_keys(file))
    for key in (old, new):
        assert table.find(key.text, NOW + 60.0).tenant == "acme"
    (first, second) = listed_keys(KeysInFile(file), NOW + 200.0)
    assert (first.state, second.state) == ("expired", "valid")
    assert first.expires.startswith("2027") and second.expires == ""
    assert revoke_key(KeysInFile(file), first.key_id) == "chat"
    assert [one.key_id for one in listed_keys(KeysInFile(file), NOW)] == [second.key_id]


def test_what_a_person_wrote_into_a_file_stays(tmp_path):
    file = tmp_path / "keys.yaml"
    own = {"name": "own", "weight": 3.0, "limits": {"requests_per_s": 5.0}, "origins": ["a"]}
    file.write_text(yaml.safe_dump({"version": 1, "principals": [own]}))
    make_key(CHAT, None, None, KeysInFile(file))
    said = yaml.safe_load(file.read_text())
    assert said["principals"][0] == {**own, "keys": []}


@pytest.mark.parametrize(
    ("principal", "told"),
    [
        ({"name": "chat", "roles": ["admin"]}, "must be one of infer"),
        ({"name": "a b"}, "not a usable name"),
        ({**CHAT, "tenant": "rival"}, "is there with another tenant"),
    ],
)
def test_what_is_wrong_is_told_and_the_file_stays(tmp_path, principal, told):
    file = tmp_path / "keys.yaml"
    make_key(CHAT, None, None, KeysInFile(file))
    before = file.read_text()
    with pytest.raises(ConfigError, match=told):
        make_key(principal, None, None, KeysInFile(file))
    assert file.read_text() == before


def test_an_id_that_is_not_there_is_told_and_not_repeated(tmp_path):
    file = tmp_path / "keys.yaml"
    make_key(CHAT, None, None, KeysInFile(file))
    with pytest.raises(ConfigError, match="no key has this id") as told:
        revoke_key(KeysInFile(file), "crk_whole_s3cret")
    assert "s3cret" not in str(told.value)


def test_commands_at_the_same_time_lose_no_key(tmp_path):
    file = tmp_path / "keys.yaml"
    threads = [
        threading.Thread(
            target=make_key, args=({"name": f"p{i % 3}"}, None, None, KeysInFile(file))
        )
        for i in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(listed_keys(KeysInFile(file), NOW)) == 12
