"""Transform boxes and outlines of an original to the exported picture. Pure.

Boxes are in pixels of the upright original; an export may have scaled, cropped or padded it.
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
#: decimals of a pixel
_DIGITS = 2


@dataclass(frozen=True, slots=True)
class Placement:
    """The transform from the original to the exported picture: ``x * sx + dx``, then clipped.

    :param visible: left, top, right, bottom of the original in the exported picture
    """

    size: Size
    sx: float = 1.0
    sy: float = 1.0
    dx: float = 0.0
    dy: float = 0.0
    visible: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

    def box(self, box: Box) -> Box | None:
        """Return the visible part of a box; None if nothing is visible."""
        x, y, width, height = box
        left, top = max(self.visible[0], x * self.sx + self.dx), max(self.visible[1], y * self.sy + self.dy)
        right = min(self.visible[2], (x + width) * self.sx + self.dx)
        bottom = min(self.visible[3], (y + height) * self.sy + self.dy)
        left, top, right, bottom = (round(side, _DIGITS) for side in (left, top, right, bottom))
        if right <= left or bottom <= top:
            return None
        return left, top, round(right - left, _DIGITS), round(bottom - top, _DIGITS)

    def outline(self, polygon: Sequence[float]) -> list[float] | None:
        """Return the visible part of a polygon ``x1, y1, x2, y2, …``; None if nothing is visible."""
        pairs = zip(polygon[::2], polygon[1::2], strict=True)
        points = [(x * self.sx + self.dx, y * self.sy + self.dy) for x, y in pairs]
        for axis, edge, side in ((0, 0, 1), (1, 1, 1), (0, 2, -1), (1, 3, -1)):
            points = _clip(points, axis, self.visible[edge], side)
        points = [(round(x, _DIGITS), round(y, _DIGITS)) for x, y in points]
        # a corner on an edge appears twice
        points = [here for here, there in zip(points, (*points[1:], *points[:1]), strict=True) if here != there]
        return [value for point in points for value in point] if area(points) > 0 else None


def place(document: Mapping[str, Any], file: File) -> Placement | None:
    """Return the transform from the original to the exported picture; None if it is unknown."""
    original = document.get("width"), document.get("height")
    width, height = original
    if not isinstance(width, int) or not isinstance(height, int) or width < 1 or height < 1:
        return None
    exported = (file.width, file.height)
    if file.recipe is None or file.recipe.is_original:
        return Placement(exported, visible=(0.0, 0.0, float(width), float(height))) if exported == original else None
    return _planned(file.recipe, (width, height), exported)


def area(points: Sequence[Point]) -> float:
    """Return the area of a polygon (the shoelace formula)."""
    following = (*points[1:], *points[:1])
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(points, following, strict=True))) / 2


def _planned(recipe: Recipe, original: Size, exported: Size) -> Placement | None:
    """Return the transform by the plan of the renderer; another size means another version of the original."""
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


def _clip(points: list[Point], axis: int, edge: float, side: int) -> list[Point]:
    """Return the part of a polygon on one side of a line (Sutherland and Hodgman, 1974).

    :param side: 1 for the part beyond the edge, -1 for the part before it
    """
    clipped: list[Point] = []
    for here, there in zip(points, (*points[1:], *points[:1]), strict=True):
        inside, next_inside = (side * (point[axis] - edge) >= 0 for point in (here, there))
        if inside:
            clipped.append(here)
        if inside != next_inside:
            share = (edge - here[axis]) / (there[axis] - here[axis])
            other = here[1 - axis] + share * (there[1 - axis] - here[1 - axis])
            clipped.append((edge, other) if axis == 0 else (other, edge))
    return clipped
