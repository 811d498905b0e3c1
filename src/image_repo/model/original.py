"""The original of an image: the object behind a name at present."""

from __future__ import annotations

from dataclasses import dataclass

from image_repo.model.names import ImageName


@dataclass(frozen=True, slots=True)
class Original:
    """The object behind a name.

    :param key: of the object, in its own spelling
    :param version: its entity tag
    :param modified: seconds since the epoch
    """

    name: ImageName
    key: str
    version: str
    size: int
    modified: float
    media_type: str
