"""Whether the files that ``identity:`` names are there and can be used; loads no front."""

from __future__ import annotations

from router.config.settings import Config
from router.errors import ConfigError, DataError
from router.identity.jwks import parse_jwks
from router.identity.keys_file import read_keys
from router.identity.tokens import require_jwt


def check_identity(config: Config) -> None:
    """Raises ConfigError where what ``identity:`` names is missing or wrong."""
    settings, file = config.settings.identity, str(config.file)
    if settings.keys_file is not None:
        read_keys(settings.keys_file)
    jwt = settings.schema.jwt
    if jwt is None:
        return
    require_jwt(file)
    if jwt.jwks_file is not None:
        path = settings.folder / jwt.jwks_file
        try:
            parse_jwks(path.read_bytes(), jwt.algorithms)
        except OSError as error:
            problem = f"{path}: cannot be read: {error.strerror}"
            raise ConfigError(file, [("identity.jwt.jwks_file", problem)]) from None
        except DataError as error:
            raise ConfigError(file, [("identity.jwt.jwks_file", f"{path}: {error}")]) from None
