"""The built-in providers."""

from __future__ import annotations

import subprocess
import sys

import pytest

from router.carbon.providers.registry import BUILT_IN, providers
from router.carbon.providers.schema import ProviderSchema
from router.config.problems import tag


@pytest.mark.parametrize("schema", BUILT_IN)
def test_a_built_in_one_is_known_by_its_kind(schema: type[ProviderSchema]) -> None:
    assert providers()[str(tag(schema))] is schema
    assert schema.model_fields.keys() >= {"kind", "limits"}
    for stem in schema.credentials:
        assert schema.model_fields.keys() >= {f"{stem}_env", f"{stem}_file"}


def test_knowing_them_loads_no_client_library() -> None:
    code = (
        "import sys, router.app.loading\n"
        "heavy = {'aiohttp', 'requests', 'pandas', 'entsoe', 'numpy', 'numba', 'grpc'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
