import json

from router.trust.jws import key_set
from tests.cli.command_line import run
from tests.operator.test_receipt_checking import DOCUMENT, KEYS, sealed


def test_a_receipt_that_holds_is_0_and_one_that_does_not_is_1(tmp_path, capsys):
    keys, file = tmp_path / "keys", tmp_path / "receipt"
    keys.write_bytes(key_set(KEYS.values()))
    file.write_bytes(sealed(DOCUMENT))
    assert run("receipt", "verify", str(file), "--keys", str(keys)) == 0
    assert "gco2e = facility_energy_j" in capsys.readouterr().out
    file.write_bytes(sealed(DOCUMENT, gco2e=0.0, **{"a\x1b[31m": 1}))
    assert run("receipt", "verify", str(file), "--keys", str(keys)) == 1
    told = capsys.readouterr().out
    assert "FAILS  gco2e: is not what was signed" in told and "\x1b" not in told
    assert run("receipt", "verify", str(file), "--keys", str(keys), "--json") == 1
    assert json.loads(capsys.readouterr().out)["holds"] is False
    for body in (b"", b"{}"):
        file.write_bytes(body)
        assert run("receipt", "verify", str(file), "--keys", str(keys)) == 1
    assert run("receipt", "verify", str(tmp_path / "absent"), "--keys", str(keys)) == 1
