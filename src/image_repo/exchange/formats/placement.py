"""Where things of an original lie in the picture that was made of it: boxes and outlines. Pure.

A box is told in pixels of the upright original; an export may have scaled, cropped or padded it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from image_repo.errors import BadParameter
from image_repo.exchange.base import File
from image_repo.model.recipe import Recipe
from image_repo.render.geometry import Size, cover_box, plan

#: left, top, width, height
Box = tuple[float, float, float, float]
Point = tuple[float, float]
#: decimals that are kept of a pixel
_DIGITS = 2


@dataclass(frozen=True, slots=True)
class Placement:
    """How pixels of the original are carried over to the exported picture: ``x * sx + dx``, then cut to its edges."""

    size: Size
    sx: float = 1.0
    sy: float = 1.0
    dx: float = 0.0
    dy: float = 0.0
    #: left, top, right, bottom: where there is anything of the original in it
    shown: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

    def box(self, box: Box) -> Box | None:
        """What is left of a box in the exported picture; None where nothing is."""
        x, y, width, height = box
        left, top = max(self.shown[0], x * self.sx + self.dx), max(self.shown[1], y * self.sy + self.dy)
        right = min(self.shown[2], (x + width) * self.sx + self.dx)
        bottom = min(self.shown[3], (y + height) * self.sy + self.dy)
        left, top, right, bottom = (round(side, _DIGITS) for side in (left, top, right, bottom))
        if right <= left or bottom <= top:
            return None
        return left, top, round(right - left, _DIGITS), round(bottom - top, _DIGITS)

    def outline(self, polygon: Sequence[float]) -> list[float] | None:
        """What is left of a polygon ``x1, y1, x2, y2, …``; None where nothing is."""
        points = [(x * self.sx + self.dx, y * self.sy + self.dy) for x, y in _pairs(polygon)]
        for axis, edge, keeps in ((0, 0, 1), (1, 1, 1), (0, 2, -1), (1, 3, -1)):
            points = _cut(points, axis, self.shown[edge], keeps)
        points = [(round(x, _DIGITS), round(y, _DIGITS)) for x, y in points]
        # a corner that lies on an edge is found twice
        points = [here for here, there in zip(points, (*points[1:], *points[:1]), strict=True) if here != there]
        return [value for point in points for value in point] if area(points) > 0 else None


def place(document: Mapping[str, Any], file: File) -> Placement | None:
    """How the exported picture shows its original; None where that cannot be told."""
    original = document.get("width"), document.get("height")
    width, height = original
    if not isinstance(width, int) or not isinstance(height, int) or width < 1 or height < 1:
        return None
    exported = (file.width, file.height)
    if file.recipe is None or file.recipe.is_original:
        return Placement(exported, shown=(0.0, 0.0, float(width), float(height))) if exported == original else None
    return _planned(file.recipe, (width, height), exported)


def area(points: Sequence[Point]) -> float:
    """The area that a polygon encloses (the shoelace formula)."""
    following = (*points[1:], *points[:1])
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(points, following, strict=True))) / 2


def _planned(recipe: Recipe, original: Size, exported: Size) -> Placement | None:
    """By the same plan as the renderer's. Where that gives another size, the document is of another version."""
    if recipe.flip or recipe.rotate:
        return None
    try:
        planned = plan(recipe, original)
    except BadParameter:
        return None
    if (planned.canvas or planned.size) != exported:
        return None
    left, top, right, bottom = (float(side) for side in planned.region)
    if recipe.fit == "cover":
        if recipe.focus is None or recipe.focus == "smart":
            return None
        left, top, right, bottom = cover_box(planned.region, planned.size, recipe.focus)
    width, height = planned.size
    sx, sy = width / (right - left), height / (bottom - top)
    # `contain` lies in the middle of its box
    x, y = ((exported[0] - width) // 2, (exported[1] - height) // 2) if planned.canvas else (0, 0)
    return Placement(exported, sx, sy, x - left * sx, y - top * sy, (x, y, x + width, y + height))


def _pairs(polygon: Sequence[float]) -> list[Point]:
    return list(zip(polygon[::2], polygon[1::2], strict=True))


def _cut(points: list[Point], axis: int, edge: float, keeps: int) -> list[Point]:
    """The part of a polygon on one side of a line (Sutherland and Hodgman, 1974).

    :param keeps: 1 for what is beyond the edge, -1 for what is before it
    """
    kept: list[Point] = []
    for here, there in zip(points, (*points[1:], *points[:1]), strict=True):
        inside, next_inside = (keeps * (point[axis] - edge) >= 0 for point in (here, there))
        if inside:
            kept.append(here)
        if inside != next_inside:
            share = (edge - here[axis]) / (there[axis] - here[axis])
            other = here[1 - axis] + share * (there[1 - axis] - here[1 - axis])
            kept.append((edge, other) if axis == 0 else (other, edge))
    return kept
