"""Rendering: bytes and a :class:`~image_repo.model.recipe.Recipe` go in, the bytes of another picture come out.

The only package that imports the imaging library. Every function may be called from many threads
at once, takes a seekable binary file that nobody else reads at the time, and raises nothing
but the problems that it names, whatever the bytes. A process calls :func:`configure` before any other.
"""

from __future__ import annotations

import hashlib
import io
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, BinaryIO

import PIL
from PIL import Image, features

from image_repo.config import RenderConfiguration
from image_repo.errors import BrokenPicture, OverBudget
from image_repo.model.formats import BY_KIND
from image_repo.model.recipe import Recipe
from image_repo.model.rendition import ImageInfo, Summary
from image_repo.render import encoders as writing
from image_repo.render.colour import to_srgb
from image_repo.render.decoders import (
    Picture,
    decode_first,
    decode_rest,
    open_picture,
    scales_cheaply,
    translated_errors,
)
from image_repo.render.difference_hash import difference_hash
from image_repo.render.exif import POSITION as POSITION
from image_repo.render.exif import most_rights
from image_repo.render.geometry import Plan, Size, is_without_box, scaled_down
from image_repo.render.geometry import plan as plan_sizes
from image_repo.render.headers import check_pixels, view
from image_repo.render.ifd import Bytes
from image_repo.render.mezzanine import (
    LEAST_PIXELS,
    Mezzanine,
    MezzaninePlan,
    choose_scale,
    decode_mezzanines,
    may_use_mezzanine,
)
from image_repo.render.mezzanine import MEDIA_TYPE as MEZZANINE_TYPE
from image_repo.render.mezzanine import plan_mezzanines as plan_of
from image_repo.render.pillow import configure
from image_repo.render.pipeline import Job, decode, make, reduced, turned
from image_repo.render.pyramid import Facts, Levels, PixelSink, PixelStore, StoredLevels, facts_of
from image_repo.render.pyramid import write as write_levels
from image_repo.render.regions import by_levels, factor, from_levels, is_large, is_region
from image_repo.render.summaries import palette, thumbhash
from image_repo.render.tiff import is_cut_off
from image_repo.render.tiles import Tiled, may_be_tiled
from image_repo.render.tiles import find as find_tiles
from image_repo.render.tolerant import DECODER_ERRORS
from image_repo.render.watermark import check as check_watermark
from image_repo.render.watermark import stamp

#: counted up with every change that alters the pixels or the bytes of a rendition
VERSION = 11
#: pixels beyond which a picture is heavy: decoded it takes 120 MB, and a render may hold it four times over
HEAVY = 30_000_000
#: the largest result that a filter passes over: it takes up to 0.1 µs for each pixel
_MOST_FILTERED = 50_000_000
_CHUNK = 1 << 20
#: the shorter side of what is summed up; measured: 1.3 ms, half of it for the palette, which takes 5 with 64
_SUMMARY_SIDE = 24
#: of a tiled TIFF: about one tile
_FILE_BLOCK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Rendered:
    """A rendition, with its size in pixels.

    :param is_largest: whether it is smaller than asked for: the original is decoded at no larger size
    """

    body: bytes
    media_type: str
    width: int
    height: int
    is_largest: bool = False


def render(source: BinaryIO, recipe: Recipe, limits: RenderConfiguration) -> Rendered:
    """Render an original.

    :param recipe: any but that for the original itself
    :raises NotAPicture: when the bytes are no format that is read here
    :raises BrokenPicture: when they are damaged
    :raises OverBudget: for more pixels, frames, scans or metadata than the limits allow
    :raises BadParameter: for a page or a region that the picture does not have
    """
    with translated_errors():
        picture = open_picture(source, limits, recipe.page)
        tiled = _tiled(picture, source, recipe.page)
        # Regions of tiles are decoded at their full size.
        least_scale = 1 if tiled and recipe.region else picture.scale
        target = _plan(recipe, picture.upright, limits, picture.frames if recipe.animate else 1, least_scale)
        scale = choose_scale(recipe, _plan_mezzanines(picture, source))
        if scale > 1:
            decoded = decode_mezzanines(picture, scale, limits)
            return _from_mezzanine(next(one for one in decoded if one.scale == scale), recipe, target)
        job = _part(Job(recipe, picture, target), tiled, limits)
        moves = recipe.animate and picture.frames > 1
        frames, timing = _animation(job, limits) if moves else (_still(job), None)
        made = _written(recipe, frames, timing, picture.exif.rights(most_rights(limits)))
        return replace(made, is_largest=least_scale > 1 and is_without_box(recipe))


def render_mezzanine(mezzanine: Mezzanine, recipe: Recipe, limits: RenderConfiguration) -> Rendered:
    """Render a recipe from the mezzanine that :func:`choose_scale` names: the same as :func:`render`.

    :raises OverBudget, BadParameter: as :func:`render`
    """
    with translated_errors():
        return _from_mezzanine(mezzanine, recipe, _plan(recipe, mezzanine.plan.size, limits, 1))


def _from_mezzanine(mezzanine: Mezzanine, recipe: Recipe, target: Plan) -> Rendered:
    picture = mezzanine.picture()
    # Measured: bicubic takes two thirds of the time of Lanczos, and costs 0.001 to 0.002 of SSIM from 2 to 1 on.
    kernel = Image.Resampling.BICUBIC if factor(target) >= 2 * mezzanine.scale else Image.Resampling.LANCZOS
    return _written(recipe, [make(picture.image, Job(recipe, picture, target, kernel))], None, mezzanine.rights)


class OpenOriginal:
    """An original whose header was read; its file must stay open.

    :param plan: which mezzanines it has; None for an original without
    :param is_heavy: as :func:`is_heavy`
    :raises Problem: as :func:`inspect`
    """

    def __init__(self, source: BinaryIO, limits: RenderConfiguration) -> None:
        self._limits = limits
        with translated_errors():
            self._picture = open_picture(source, limits)
            self.plan = _plan_mezzanines(self._picture, source)
        width, height = self._picture.stored
        self.is_heavy = width * height > HEAVY

    def decode(self, scale: int) -> tuple[Mezzanine, ...]:
        """Decode it at fractions of its size; to be called once.

        :param scale: one of those of its plan
        :returns: all mezzanines that one decode yields, that of the scale among them, the smallest first
        :raises Problem: as :func:`render`
        """
        with translated_errors():
            return decode_mezzanines(self._picture, scale, self._limits)


def _plan_mezzanines(picture: Picture, source: BinaryIO) -> MezzaninePlan | None:
    tiled = _tiled(picture, source, 1)
    # what a pyramid holds is smaller already
    return plan_of(picture) if tiled is None or len(tiled.levels) == 1 else None


def read_mezzanine(source: BinaryIO, limits: RenderConfiguration) -> Mezzanine:
    """Read what :meth:`Mezzanine.write` yielded, from the present position of a file to its end.

    :raises BrokenPicture: when it is no mezzanine
    :raises OverBudget: when it is too much of anything
    """
    with translated_errors():
        return Mezzanine.read(source, limits)


def _part(job: Job, tiled: Tiled | None, limits: RenderConfiguration) -> Job:
    """Return the job on a part of a large original, by the way that :mod:`~image_repo.render.regions` names."""
    recipe, picture = job.recipe, job.picture
    if tiled:
        near = recipe.animate or (recipe.region is None and tiled.scale(job.plan) == 1)
        return job if near else tiled.job(recipe, job.plan, limits)
    if picture.scale == 1 and by_levels(recipe, picture):
        return from_levels(recipe, job.plan, Levels(facts_of(picture, limits), picture))
    return job


def _tiled(picture: Picture, source: BinaryIO, page: int) -> Tiled | None:
    return find_tiles(view(source), page) if picture.kind == "tif" and may_be_tiled(picture.stored) else None


def cut(pixels: PixelStore, recipe: Recipe, limits: RenderConfiguration) -> Rendered:
    """Render a recipe with a region out of what :func:`pixels` has written: the same as :func:`render`.

    :raises OverBudget, BadParameter: as :func:`render`
    :raises BrokenPicture: when stored pixels cannot be read
    """
    with translated_errors():
        if "mode" not in pixels.facts:
            return _cut_tiles(pixels, recipe, limits)
        levels = StoredLevels(Facts.from_json(pixels.facts), pixels.block)
        check_pixels(*levels.facts.size, limits)
        return _cut_levels(levels, recipe, limits)


def _cut_levels(levels: Levels, recipe: Recipe, limits: RenderConfiguration) -> Rendered:
    job = from_levels(recipe, _plan(recipe, levels.facts.size, limits, 1), levels)
    return _written(recipe, _still(job), None, levels.facts.rights)


def _cut_tiles(data: Bytes, recipe: Recipe, limits: RenderConfiguration) -> Rendered:
    tiled = find_tiles(data, recipe.page)
    if tiled is None:
        raise BrokenPicture("The stored tiles of the picture cannot be read.")
    check_pixels(*tiled.size, limits, is_scalable=True)
    job = tiled.job(recipe, _plan(recipe, tiled.size, limits, 1), limits)
    return _written(recipe, _still(job), None, tiled.exif.rights(most_rights(limits)))


def pixels(source: BinaryIO, page: int, limits: RenderConfiguration) -> Pixels | None:
    """Return what is worth storing of an original for requests of its regions; None where nothing is.

    :raises Problem: as :func:`render`
    """
    with translated_errors():
        picture = open_picture(source, limits, page)
        if not is_large(picture):
            return None
        if _tiled(picture, source, page):
            return _StoredFile(source, limits)
        return None if picture.scale > 1 else _Pyramid(picture, limits)


class Pixels(ABC):
    """What is worth storing of an original: a pyramid, or a file that is read by the tile.

    :ivar size: of all blocks, in bytes
    :ivar facts: to be stored along with them, JSON values
    :ivar block: bytes that are read, and verified, together
    """

    size: int
    facts: Mapping[str, Any]
    block: int

    @abstractmethod
    def decode(self) -> None:
        """Decode the picture into memory, where it is not read by the tile.

        :raises Problem: as :func:`render`
        """

    @abstractmethod
    def cut(self, recipe: Recipe) -> Rendered:
        """Render a recipe with a region: the same as :func:`cut`, before anything is stored. Any thread may call.

        :raises Problem: as :func:`render`
        """

    @abstractmethod
    def cost(self, recipe: Recipe) -> int:
        """Return how many pixels :meth:`cut` looks at.

        :raises Problem: as :func:`render`
        """

    def write(self, sink: PixelSink) -> None:
        """Write all blocks.

        :raises Problem: as :func:`render`
        :raises OSError: when they cannot be written
        """
        try:
            with translated_errors():
                self._write(sink)
        except BrokenPicture as problem:
            # A decoder's errors have no number, the system's have one.
            if isinstance(problem.__cause__, OSError) and problem.__cause__.errno:
                raise problem.__cause__ from None
            raise

    @abstractmethod
    def _write(self, sink: PixelSink) -> None: ...


class _Pyramid(Pixels):
    def __init__(self, picture: Picture, limits: RenderConfiguration) -> None:
        facts = facts_of(picture, limits)
        self.size, self.facts, self.block = facts.bytes, facts.as_json(), facts.tile_bytes
        self._picture = picture
        self._levels = Levels(facts, picture)
        self._limits = limits

    def decode(self) -> None:
        with translated_errors():
            self._picture.image.load()

    def cut(self, recipe: Recipe) -> Rendered:
        with translated_errors():
            return _cut_levels(self._levels, recipe, self._limits)

    def cost(self, recipe: Recipe) -> int:
        left, top, right, bottom = _plan(recipe, self._levels.facts.size, self._limits, 1).region
        return int((right - left) * (bottom - top))

    def _write(self, sink: PixelSink) -> None:
        write_levels(self._levels, sink)


class _StoredFile(Pixels):
    def __init__(self, source: BinaryIO, limits: RenderConfiguration) -> None:
        self.size, self.facts, self.block = source.seek(0, io.SEEK_END), {}, _FILE_BLOCK_BYTES
        self._source = source
        self._data = view(source)
        self._limits = limits

    def decode(self) -> None:
        """Do nothing: tiles are decoded where they are needed."""

    def cut(self, recipe: Recipe) -> Rendered:
        with translated_errors():
            return _cut_tiles(self._data, recipe, self._limits)

    def cost(self, recipe: Recipe) -> int:
        return 0  # as much as from what is stored

    def _write(self, sink: PixelSink) -> None:
        self._source.seek(0)
        while chunk := self._source.read(_CHUNK):
            sink.write(chunk)


def _plan(recipe: Recipe, upright: Size, limits: RenderConfiguration, frames: int, scale: int = 1) -> Plan:
    """Return sizes that there is room for.

    :param scale: by how much the picture is decoded smaller at least
    """
    target = scaled_down(plan_sizes(recipe, upright), recipe, scale)
    check_pixels(*(target.canvas or target.size), limits)
    writing.check_capacity(recipe.kind, target.canvas or target.size, frames)
    width, height = target.size
    if (recipe.blur or recipe.sharpen or recipe.equalise) and width * height * frames > _MOST_FILTERED:
        raise OverBudget(f"Pictures of at most {_MOST_FILTERED} pixels are blurred, sharpened or equalised.")
    return target


def _written(
    recipe: Recipe, frames: list[Image.Image], timing: writing.Timing | None, rights: tuple[str, str]
) -> Rendered:
    if recipe.watermark is not None:
        frames = [stamp(frame, recipe.watermark) for frame in frames]
    body = writing.encode(
        frames, recipe.kind, recipe.quality, timing=timing, rights=rights if recipe.copyright else ("", "")
    )
    return Rendered(body, BY_KIND[recipe.kind].media_type, *frames[0].size)


def _still(job: Job) -> list[Image.Image]:
    decode(job.picture, job.plan)
    return [make(job.picture.image, job)]


def _animation(job: Job, limits: RenderConfiguration) -> tuple[list[Image.Image], writing.Timing]:
    picture = job.picture
    if picture.frames > limits.max_frames or picture.frames * picture.frame_pixels > limits.max_frame_pixels:
        raise OverBudget(
            f"The animation has {picture.frames} frames of {picture.frame_pixels} pixels; "
            f"at most {limits.max_frames} frames and {limits.max_frame_pixels} pixels are animated. The configuration "
            "allows more with render.max_frames and render.max_frame_pixels."
        )
    frames: list[Image.Image] = []
    durations: list[int] = []
    for number in _animation_frames(picture):
        try:
            picture.image.seek(number)
            picture.image.load()
        except DECODER_ERRORS:
            if not (frames and limits.accept_damaged):
                raise
            break
        frames.append(make(picture.image, job))
        durations.append(max(0, int(picture.image.info.get("duration", 100))))
    if len({frame.mode for frame in frames}) > 1:
        # writers take the mode of all frames from the first
        frames = [frame.convert("RGBA") for frame in frames]
    return frames, writing.Timing(tuple(durations), _plays(picture))


def _animation_frames(picture: Picture) -> range:
    """Return the numbers of the frames; the still picture of a PNG need not be one of them."""
    return range(1 if picture.image.info.get("default_image") else 0, picture.frames)


def _plays(picture: Picture) -> int:
    """Return how often an animation plays, 0 for ever."""
    loop = picture.image.info.get("loop")
    if picture.kind == "gif":
        return 1 if loop is None else loop + 1 if loop else 0
    return int(loop or 0)


def inspect(source: BinaryIO, limits: RenderConfiguration, *, location: bool) -> ImageInfo:
    """Return what the header says. Nothing is decoded, so a bomb costs no more than any other file.

    :param location: whether the position is returned
    :raises NotAPicture: when the bytes are no format that is read here
    :raises BrokenPicture: when the header makes no sense
    :raises OverBudget: for more pixels, scans or metadata than the limits allow
    """
    with translated_errors():
        picture = open_picture(source, limits)
        made = BY_KIND[picture.kind]
        facts = picture.exif.facts(limits.max_metadata, location=location)
        is_preview = picture.kind == "raw"
        return ImageInfo(picture.kind, made.media_type, *picture.upright, picture.frames, facts, is_preview)


@dataclass(frozen=True, slots=True)
class Verification:
    """What decoding a whole picture yields.

    :param mezzanines: those that this yields, the smallest first
    :param is_damaged: whether some of it cannot be decoded
    :param summary: of its pixels
    """

    mezzanines: tuple[Mezzanine, ...]
    is_damaged: bool
    summary: Summary


def verify(source: BinaryIO, limits: RenderConfiguration) -> Verification:
    """Decode the picture wholly, so that a truncated or damaged upload is refused before it is stored.

    :raises NotAPicture: when the bytes are no format that is read here
    :raises UnsupportedPicture: when they are a picture of a kind that is not read here
    :raises BrokenPicture: when they cannot be decoded to the end
    :raises OverBudget: for more pixels, scans or metadata than the limits allow
    """
    with translated_errors():
        picture = open_picture(source, limits)
        mezzanines, summary = _decode_small(picture, source, limits)
        is_whole = not picture.is_damaged if mezzanines else decode_rest(picture, limits)
        if picture.kind == "tif" and is_cut_off(view(source), limits.max_frames):
            is_whole = False
        if not is_whole and not limits.accept_damaged:
            raise BrokenPicture("The file is cut off.")
        return Verification(mezzanines, not is_whole, summary)


def _decode_small(
    picture: Picture, source: BinaryIO, limits: RenderConfiguration
) -> tuple[tuple[Mezzanine, ...], Summary]:
    """Decode the smallest mezzanine, or the first frame of a picture without; return what that yields."""
    plan = _plan_mezzanines(picture, source)
    if plan is None:
        decode_first(picture)
        return (), _summary(reduced(picture.image), picture.orientation, picture.profile)
    mezzanines = decode_mezzanines(picture, plan.scales()[0], limits)
    return mezzanines, summary_of(mezzanines[0])


def summary_of(mezzanine: Mezzanine) -> Summary:
    """Return the summary of the pixels of an original.

    :param mezzanine: its smallest one
    """
    return _summary(mezzanine.image, mezzanine.orientation, mezzanine.profile)


def summarise(source: BinaryIO, limits: RenderConfiguration) -> tuple[tuple[Mezzanine, ...], Summary]:
    """Return the summary of the pixels of an original: that of an upload of the same bytes.

    :returns: with the mezzanines that decoding for it yields, the smallest first; none of an original without
    :raises Problem: as :func:`render`
    """
    with translated_errors():
        return _decode_small(open_picture(source, limits), source, limits)


def is_summarised_cheaply(source: BinaryIO, limits: RenderConfiguration) -> bool:
    """Return whether :func:`summarise` costs about as much as to read the original. Only headers are read.

    Measured, CPU ms of 12 MP: 17 for a JPEG that is decoded at 1/8, 220 for a PNG.

    :raises Problem: as :func:`inspect`
    """
    with translated_errors():
        picture = open_picture(source, limits)
    width, height = picture.stored
    return width * height < (HEAVY if scales_cheaply(picture) else LEAST_PIXELS)


def _summary(image: Image.Image, orientation: int, profile: bytes | None) -> Summary:
    small = turned(to_srgb(reduced(image, _SUMMARY_SIDE), profile), orientation)
    colours = tuple(str(entry["color"]) for entry in palette(small))
    return Summary(difference_hash(turned(image, orientation)), thumbhash(small), colours)


def is_heavy(source: BinaryIO, limits: RenderConfiguration) -> bool:
    """Return whether a picture takes so much memory that a node decodes one at a time. Only headers are read.

    :raises Problem: as :func:`inspect`
    """
    with translated_errors():
        width, height = open_picture(source, limits).stored
    source.seek(0)
    return width * height > HEAVY


@cache
def generation(limits: RenderConfiguration) -> str:
    """Return eight hexadecimal digits that change with everything beside recipe and original that decides the bytes.

    :param limits: what fits into memory decides what is decoded smaller
    """
    codecs = ("jpg", "libjpeg_turbo", "jpg_2000", "zlib", "zlib_ng", "libtiff", "webp", "avif", "littlecms2")
    facts = [str(VERSION), PIL.__version__, str(limits.max_pixels)]
    facts += [f"{name} {features.version(name)}" for name in codecs]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:8]


__all__ = [
    "MEZZANINE_TYPE",
    "Mezzanine",
    "MezzaninePlan",
    "OpenOriginal",
    "PixelSink",
    "PixelStore",
    "Pixels",
    "Rendered",
    "Verification",
    "check_watermark",
    "choose_scale",
    "configure",
    "cut",
    "generation",
    "inspect",
    "is_region",
    "may_use_mezzanine",
    "pixels",
    "read_mezzanine",
    "render",
    "render_mezzanine",
    "verify",
]
