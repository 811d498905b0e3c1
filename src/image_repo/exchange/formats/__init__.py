"""The formats in which others expect to be told of pictures: COCO, Camtrap DP, Croissant."""

from __future__ import annotations

from image_repo.exchange.base import Format
from image_repo.exchange.formats.camtrap import Camtrap
from image_repo.exchange.formats.coco import Coco
from image_repo.exchange.formats.croissant import Croissant

#: what an export can have beside its pictures and ``metadata.jsonl``
FORMATS: tuple[Format, ...] = (Coco(), Camtrap(), Croissant())
