from pathlib import Path

import pytest
from pydantic import ValidationError

from router.config.receipts import ReceiptSigning, ReceiptsSchema, receipt_signing


def test_files_are_relative_to_the_configuration():
    schema = ReceiptsSchema.model_validate(
        {"sign": {"key_file": "sign.pem", "old_key_files": ["/old.pem"], "issuer": "https://a"}}
    )
    assert receipt_signing(schema, Path("/etc/a")) == ReceiptSigning(
        Path("/etc/a/sign.pem"), (Path("/old.pem"),), "https://a"
    )
    assert receipt_signing(ReceiptsSchema(), Path("/etc/a")) is None


@pytest.mark.parametrize(
    "sign", [{}, {"key_file": ""}, {"key_file": "a", "key": "b"},
             {"key_file": "a", "old_key_files": ["b"] * 33}]
)  # fmt: skip
def test_what_is_no_place_for_a_key_is_refused(sign):
    with pytest.raises(ValidationError):
        ReceiptsSchema.model_validate({"sign": sign})
