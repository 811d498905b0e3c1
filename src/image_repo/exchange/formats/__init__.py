"""The formats in which others expect metadata of pictures: COCO, Camtrap DP, Croissant, CSV, Parquet."""

from __future__ import annotations

from image_repo.exchange.formats.base import FormatWriter
from image_repo.exchange.formats.camtrap import Camtrap
from image_repo.exchange.formats.coco import Coco
from image_repo.exchange.formats.croissant import Croissant
from image_repo.exchange.formats.flat import Csv, Parquet

#: what an export can have beside its pictures and ``metadata.jsonl``
FORMATS: tuple[type[FormatWriter], ...] = (Coco, Camtrap, Croissant, Csv, Parquet)
