"""The formats in which others expect to be told of pictures: COCO, Camtrap DP, Croissant."""

from __future__ import annotations
