"""Composition root: configuration → live parts; here alone concrete classes are chosen.

Each part is given its own settings.
"""

from __future__ import annotations

from image_repo.wiring.access import check_login, provider_keys, watermark
from image_repo.wiring.catalogue import open_index, other_writer
from image_repo.wiring.daemon import start_daemon
from image_repo.wiring.folders import own_folder
from image_repo.wiring.node import nodes
from image_repo.wiring.repository import build, build_artifacts, build_partial_uploads, purge_request
from image_repo.wiring.requests import defaults, render_budget, request_rules, request_signer
from image_repo.wiring.stores import Stores, build_lifecycle, build_stores, prepare, rendition_lifetime

__all__ = [
    "Stores",
    "build",
    "build_artifacts",
    "build_lifecycle",
    "build_partial_uploads",
    "build_stores",
    "check_login",
    "defaults",
    "nodes",
    "open_index",
    "other_writer",
    "own_folder",
    "prepare",
    "provider_keys",
    "purge_request",
    "render_budget",
    "rendition_lifetime",
    "request_rules",
    "request_signer",
    "start_daemon",
    "watermark",
]
