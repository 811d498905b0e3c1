"""Configuration → what requests for renditions may say, and what they leave open."""

from __future__ import annotations

from image_repo.access.request_rules import RequestRules, RequestSigner
from image_repo.concurrency.rate_limiter import RateLimiter
from image_repo.config import Config
from image_repo.model.recipe import Defaults, read_request
from image_repo.repository.repository import Repository
from image_repo.wiring.folders import own_folder


def defaults(config: Config) -> Defaults:
    """Return the defaults of requests."""
    quality = config.image_default_quality
    return Defaults(
        kind=config.image_default_format,
        auto=config.image_auto_formats,
        quality={"jpg": quality.jpg, "webp": quality.webp, "avif": quality.avif, "jp2": quality.jp2},
        background=config.image_default_background,
        thumbnail_size=config.thumbnail_default_size,
        thumbnail_sharpen=1.0 if config.thumbnail_sharpen else 0.0,
        thumbnail_equalise=config.thumbnail_equalise,
        keep_copyright=config.keep_copyright,
        steps=config.requests.steps if config.requests.mode == "steps" else (),
        presets={
            name: read_request((key, str(value)) for key, value in values.items())[0]
            for name, values in config.presets.items()
        },
    )


def request_rules(config: Config) -> RequestRules:
    """Return which requests for renditions are accepted."""
    return RequestRules(config.requests.mode, list(config.presets), request_signer(config))


def request_signer(config: Config) -> RequestSigner:
    """Return what signs requests; without a key it raises."""
    return RequestSigner([str(key) for key in (config.requests.key, config.requests.key_2) if key])


def render_budget(config: Config, repo: Repository) -> RateLimiter | None:
    """Return what counts the renders of each client on this node; None where nothing bounds them.

    It is closed with the repository.
    """
    quota = config.requests.renders_per_minute
    if not quota:
        return None
    own = own_folder(config, repo.origin)
    limiter = RateLimiter(quota, own and own / "renders")
    repo.resources.callback(limiter.close)
    return limiter
