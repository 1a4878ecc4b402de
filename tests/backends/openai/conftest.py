"""A backend that is closed again."""

import pytest

from router.backends.openai.backend import HttpBackend


@pytest.fixture
async def backend():
    made = HttpBackend()
    yield made
    await made.close()
