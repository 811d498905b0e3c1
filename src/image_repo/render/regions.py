"""Regions: how a part of a large original is come by.

Which way is taken depends on the recipe and on what the original's header says, on nothing
else (promise 8): the same recipe gives the same bytes whether anything was kept or not.

* A small original is decoded for each region.
* A larger one is cut out of its :mod:`whole pixels <image_repo.render.pyramid>`, which are worth keeping.
* A huge TIFF that is made of tiles is read by the tile (:mod:`~image_repo.render.tiles`), and is
  itself what is worth keeping.
"""

from __future__ import annotations

import math
from dataclasses import replace

from PIL import Image

from image_repo.model.recipe import Recipe
from image_repo.render.decoders import Picture
from image_repo.render.exif import Exif
from image_repo.render.geometry import Plan, Size
from image_repo.render.pipeline import Job
from image_repo.render.pyramid import Facts, Levels, Whole

#: pixels from which on a decode is worth keeping: with less, a region costs less than 20 ms anyway
WHOLE = 2_000_000


def is_region(recipe: Recipe) -> bool:
    """Whether a recipe asks for a part of one page."""
    return recipe.region is not None and not recipe.animate


def by_levels(recipe: Recipe, picture: Picture) -> bool:
    """Whether the region is cut out of whole pixels."""
    return is_region(recipe) and is_large(picture)


def is_large(picture: Picture) -> bool:
    """Whether a decode is worth keeping."""
    return picture.stored[0] * picture.stored[1] >= WHOLE


def from_levels(recipe: Recipe, plan: Plan, levels: Levels) -> Job:
    """The job on the part of the pixels that it needs: at most 2 to 1 is left to do."""
    number = max(n for n in range(levels.facts.levels) if n == 0 or 1 << n <= factor(plan))
    scale = 1 << number
    box, region = cut(recipe, plan, scale, levels.facts.level(number))
    part = levels.part(number, box)
    return Job(recipe, _as_picture(part, scale, levels.facts), replace(plan, region=region))


def factor(plan: Plan) -> float:
    """How much smaller the region becomes: the lesser of both sides."""
    left, top, right, bottom = plan.region
    return min((right - left) / plan.size[0], (bottom - top) / plan.size[1])


def cut(recipe: Recipe, plan: Plan, scale: int, level: Size) -> tuple[Whole, Whole]:
    """Which part of a level is needed, and where the region is in it, in pixels of the full size.

    :param scale: how much smaller the level is
    :param level: its size
    """
    left, top, right, bottom = plan.region
    exact = tuple(side / scale for side in plan.region)
    # The filter looks a little beyond the region, unless nothing is left to be scaled.
    as_it_is = (exact[2] - exact[0], exact[3] - exact[1]) == plan.size and all(side == int(side) for side in exact)
    mx, my = (
        0 if as_it_is and recipe.fit != "cover" else 4 * math.ceil((exact[2 + n] - exact[n]) / plan.size[n]) + 1
        for n in (0, 1)
    )
    # At least one pixel, also where the region is in what a level has left out.
    x = max(0, min(int(exact[0]) - mx, level[0] - 1))
    y = max(0, min(int(exact[1]) - my, level[1] - 1))
    box = (
        x,
        y,
        max(x + 1, min(level[0], math.ceil(exact[2]) + mx)),
        max(y + 1, min(level[1], math.ceil(exact[3]) + my)),
    )
    return box, (left - x * scale, top - y * scale, right - x * scale, bottom - y * scale)


def _as_picture(part: Image.Image, scale: int, facts: Facts) -> Picture:
    """A part of a level as a picture that a decoder has made smaller: nothing else is left to be done to it."""
    size = (part.width * scale, part.height * scale)
    return Picture(part, "pixels", size, 1, 1, Exif.read(memoryview(b"")), size[0] * size[1])
