"""The ``S3_*`` variables as defaults of the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from image_repo.config import PersistentStoreConfiguration
from image_repo.config.loading import S3, S3_BUCKET, excluded_credentials
from image_repo.errors import ConfigurationError


def resolve(settings: PersistentStoreConfiguration, environ: Mapping[str, str]) -> PersistentStoreConfiguration:
    """Return the settings, of S3 where ``auto`` stands for it, with what is left open from the environment.

    :raises ConfigurationError: where ``auto`` may be Swift as well
    """
    bucket = environ.get(S3_BUCKET)
    if settings.kind == "auto" and bucket:
        if settings.credentials.authurl or environ.get("OS_AUTH_URL"):
            expected = f"expected s3 or swift: both {S3_BUCKET} and OS_AUTH_URL are set"
            raise ConfigurationError([f"persistent_store_configuration.kind: {expected}"])
        settings = replace(settings, kind="s3", container=bucket)
    if settings.kind != "s3":
        return settings
    credentials = {name: getattr(settings.credentials, name) for name in S3}
    excluded = excluded_credentials(credentials)
    from_environment = {
        name: environ[variable]
        for name, (variable,) in S3.items()
        if environ.get(variable) and credentials[name] is None and name not in excluded
    }
    return replace(settings, credentials=replace(settings.credentials, **from_environment))  # type: ignore[arg-type]
