"""How large, and which part: the geometry of a recipe, in whole numbers of pixels. Pure.

Everything refers to the upright picture first, then carried over to the picture as it is
stored, because shrinking first and turning the small picture is cheaper.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from image_repo.errors import BadParameter, OverBudget
from image_repo.model.operations import Region
from image_repo.model.recipe import Recipe

Size = tuple[int, int]
Box = tuple[float, float, float, float]
#: EXIF orientations under which width and height change places
SIDEWAYS = frozenset((5, 6, 7, 8))
#: pixels that are rotated by an angle beside quarter turns: the result has up to twice as many, held in three copies
_MAX_TILTED_PX = 16_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of an upright picture, before flipping and rotating.

    :param region: the part that is looked at, in pixels of the upright picture: left, top, right, bottom
    :param size: to which the part (for ``cover``: a part of the part) is scaled
    :param canvas: the size that it is padded to, None where it is not
    """

    region: tuple[int, int, int, int]
    size: Size
    canvas: Size | None = None


def plan(recipe: Recipe, upright: Size) -> Plan:
    """Decide sizes.

    :param upright: width and height of the upright original
    :raises BadParameter: when the region lies outside of the picture
    :raises OverBudget: when more pixels are to be turned by another angle than a quarter than are held at once
    """
    region = _region(recipe.region, upright)
    sideways = recipe.rotate in (90, 270)
    box = (recipe.height, recipe.width) if sideways else (recipe.width, recipe.height)
    size, canvas = fit(recipe, (region[2] - region[0], region[3] - region[1]), box)
    if recipe.rotate % 90 and size[0] * size[1] > _MAX_TILTED_PX:
        raise OverBudget(
            f"At most {_MAX_TILTED_PX:,} pixels are rotated by {recipe.rotate:g} degrees. Ask for a smaller size, "
            "or for quarter turns."
        )
    return Plan(region, size, canvas)


def result_size(recipe: Recipe, upright: Size) -> Size:
    """Return width and height of what a recipe with quarter turns gives.

    :param upright: width and height of the upright original
    """
    planned = plan(recipe, upright)
    size = planned.canvas or planned.size
    return size[::-1] if recipe.rotate in (90, 270) else size


def _region(region: Region | None, upright: Size) -> tuple[int, int, int, int]:
    width, height = upright
    if region is None:
        return 0, 0, width, height
    x, y, w, h = region.x, region.y, region.width, region.height
    if region.unit == "pct":
        x, y, w, h = x * width / 100, y * height / 100, w * width / 100, h * height / 100
    left, top = (min(int(start + 0.5), side - 1) if start < side else side for start, side in ((x, width), (y, height)))
    right, bottom = min(width, max(left + 1, int(x + w + 0.5))), min(height, max(top + 1, int(y + h + 0.5)))
    if left >= width or top >= height:
        raise BadParameter("crop", f"The region lies outside of the picture, which has {width}x{height} pixels.")
    return left, top, right, bottom


def is_without_box(recipe: Recipe) -> bool:
    """Return whether a recipe leaves the size to the picture."""
    return not (recipe.width or recipe.height)


def scaled_down(target: Plan, recipe: Recipe, scale: int) -> Plan:
    """Limit a plan to what a picture gives that is decoded smaller.

    :param scale: by how much it is, on each side, at least
    :raises OverBudget: when the recipe wants a larger size, naming the largest
    """
    if scale == 1:
        return target
    left, top, right, bottom = target.region
    largest = -(-(right - left) // scale), -(-(bottom - top) // scale)
    if target.size[0] <= largest[0] and target.size[1] <= largest[1]:
        return target
    if is_without_box(recipe):
        return replace(target, size=largest)
    width, height = largest[::-1] if recipe.rotate in (90, 270) else largest
    raise OverBudget(
        f"This large picture is decoded at 1/{scale}: at most {width}x{height} pixels. Ask for no more, or for no size "
        "at all. The configuration allows more with render.max_pixels."
    )


def fit(recipe: Recipe, source: Size, box: tuple[int | None, int | None]) -> tuple[Size, Size | None]:
    """Return the size of the scaled picture, and that of the canvas around it.

    :param source: of the region
    :param box: as it holds before rotation
    """
    width, height = box
    if width is None or height is None:
        return _inside(source, box, recipe.enlarge), None
    if recipe.fit == "fill":
        return ((width, height) if recipe.enlarge else (min(width, source[0]), min(height, source[1]))), None
    if recipe.fit == "cover":
        if not recipe.enlarge:
            # a box larger than the source shrinks to it and keeps its own ratio
            scale = min(1.0, source[0] / width, source[1] / height)
            width, height = _pixels(width * scale, source[0]), _pixels(height * scale, source[1])
        return (width, height), None
    scaled = _inside(source, box, recipe.enlarge)
    return scaled, ((width, height) if recipe.fit == "contain" else None)


def _inside(source: Size, box: tuple[int | None, int | None], enlarge: bool) -> Size:
    factors = [side / given for side, given in zip(box, source, strict=True) if side]
    scale = min(factors, default=1.0)
    if scale >= 1.0 and not enlarge:
        return source
    most = (box[0] or 1 << 20, box[1] or 1 << 20)
    return _pixels(source[0] * scale, most[0]), _pixels(source[1] * scale, most[1])


def _pixels(value: float, most: int) -> int:
    return max(1, min(most, int(value + 0.5)))


def cover_box(region: tuple[int, int, int, int], size: Size, focus: tuple[float, float]) -> Box:
    """Return the largest part of the region with the ratio of ``size`` whose centre is as near to the focus as can be.

    :param focus: fractions of the region's width and height
    """
    width, height = region[2] - region[0], region[3] - region[1]
    scale = min(width / size[0], height / size[1])
    # a rounding error must not make it larger than the region
    w, h = min(width, size[0] * scale), min(height, size[1] * scale)
    left = min(max(0.0, focus[0] * width - w / 2), width - w)
    top = min(max(0.0, focus[1] * height - h / 2), height - h)
    return region[0] + left, region[1] + top, region[0] + left + w, region[1] + top + h


def to_stored(box: Box, stored: Size, orientation: int) -> Box:
    """Return the same part of the picture as it is stored under an EXIF orientation."""
    left, top, right, bottom = box
    width, height = stored
    if orientation in SIDEWAYS:
        left, top, right, bottom = top, left, bottom, right
    # after undoing the exchange of sides, what is left are mirrorings of the stored picture
    if orientation in (2, 3, 7, 8):
        left, right = width - right, width - left
    if orientation in (3, 4, 6, 7):
        top, bottom = height - bottom, height - top
    return left, top, right, bottom
