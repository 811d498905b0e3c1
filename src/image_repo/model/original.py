"""The original of an image: which object a name stands for now."""

from __future__ import annotations

from dataclasses import dataclass

from image_repo.model.names import ImageName


@dataclass(frozen=True, slots=True)
class Original:
    """Which object a name stands for.

    :param key: the object that holds the original, in its own spelling
    :param version: its entity tag
    :param modified: seconds since the epoch
    """

    name: ImageName
    key: str
    version: str
    size: int
    modified: float
    media_type: str
