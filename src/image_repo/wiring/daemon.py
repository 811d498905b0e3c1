"""What a node does beside its requests."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from image_repo.caches.container import PREFIX
from image_repo.config import Config
from image_repo.model.names import ImageName
from image_repo.repository.repository import Repository
from image_repo.sync import membership
from image_repo.sync.daemon import CatalogueDaemon
from image_repo.sync.expiry import ExpirySweeper, UploadSweeper
from image_repo.wiring.catalogue import open_notices
from image_repo.wiring.folders import own_folder
from image_repo.wiring.node import nodes
from image_repo.wiring.repository import build_artifacts, build_partial_uploads
from image_repo.wiring.stores import build_stores, rendition_lifetime

if TYPE_CHECKING:
    from image_repo.catalogue.postgres_notices import NoticeListener, PostgresNotices

#: seconds after which the note of a node that has ended is of no use
_NOTE_AGE_S = 86_400.0


def start_daemon(config: Config, repo: Repository) -> Callable[[], None]:
    """Start what a node does beside its requests: the catalogue daemon, and the sweepers of what has expired.

    Each is started where the configuration has a use for it and there is a place for its files.

    :returns: what ends them
    """
    own = own_folder(config, repo.origin)
    if own is None:
        return lambda: None
    resources = ExitStack()
    stores = build_stores(config)
    resources.callback(stores.close)
    if stores.cache is not None and not stores.cache.capabilities.drops_expired:
        ages = {PREFIX: float(rendition_lifetime(config)), membership.PREFIX: _NOTE_AGE_S}
        sweeper = ExpirySweeper(stores.cache, ages, own)
        resources.callback(sweeper.close)
        sweeper.start()
    tidying = UploadSweeper(build_partial_uploads(config, repo))
    resources.callback(tidying.close)
    tidying.start()
    notices = open_notices(config, stores.origin)
    if notices is not None:
        listener = _follow_notices(notices, repo)
        resources.callback(notices.close)
        resources.callback(listener.close)
        listener.start()
    if config.catalogue.enabled:
        artifacts = build_artifacts(config, repo)
        daemon = CatalogueDaemon(
            repo, own, every=config.catalogue.reconcile, nodes=nodes(config, stores), artifacts=artifacts
        )
        resources.callback(daemon.close)
        daemon.start()
    return resources.close


def _follow_notices(notices: PostgresNotices, repo: Repository) -> NoticeListener:
    """Return what drops here, and resolves anew, the images that another node has replaced, deleted or purged."""
    from image_repo.catalogue.postgres_notices import NoticeListener  # noqa: PLC0415, most have no use for it

    def received(text: str) -> None:
        name = ImageName.of_key(text)
        if name is not None:
            repo.epochs.mark(name.text)
            repo.renditions.drop(name)

    return NoticeListener(notices, received)
