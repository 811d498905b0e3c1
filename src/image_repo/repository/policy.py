"""The policy of serving and writing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Policy:
    """Decisions of the configuration about serving and writing.

    :param spool: folder of temporary files for uploads and originals; the system's own where None
    :param most_upload: in bytes
    """

    spool: Path | None
    most_upload: int
    overwrite: bool
    serve_originals: bool
    url_lifetime: int
    url_lifetime_most: int
    url_lifetime_slack: int
