"""Regions of large originals: exact, the same whatever is kept, and of huge TIFFs only the tiles that they touch."""

from __future__ import annotations

import contextlib
import io
import itertools
import struct
import tempfile
import time
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pictures
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rendered import LIMITS, picture, ssim

from image_repo import render
from image_repo.caches.entry_file import EntryReader
from image_repo.caches.eviction import Bounds
from image_repo.caches.file_cache import FileCache
from image_repo.errors import BadParameter, BrokenPicture, OverBudget
from image_repo.model.operations import Region
from image_repo.model.recipe import Recipe
from image_repo.render import tiles
from image_repo.render.colour import matrix_profile

#: two megapixels and a bit, with odd sides
SIZE = (1733, 1201)


@cache
def large() -> Image.Image:
    return pictures.photo(*SIZE)


@cache
def grained() -> Image.Image:
    """With all values of alpha."""
    image = large().convert("RGBA")
    image.putalpha(pictures.photo(*SIZE, seed=1).convert("L"))
    return image


#: a profile under which red, green and blue change places: whoever forgets it shows
@cache
def turned_colours() -> bytes:
    red, green, blue = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)
    return matrix_profile(green, blue, red, 2.2)


def sixteen_bits() -> Image.Image:
    return Image.fromarray(np.asarray(large().convert("L"), np.uint16) * 257)


#: originals: whose pixels a region must show exactly
EXACT: dict[str, Callable[[], bytes]] = {
    "an RGB PNG": lambda: pictures.png(large(), compress_level=1),
    "a grey PNG": lambda: pictures.png(large().convert("L")),
    "a PNG with alpha": lambda: pictures.png(grained(), compress_level=1),
    "a grey PNG with alpha": lambda: pictures.png(grained().convert("LA"), compress_level=1),
    "a PNG with a palette": lambda: pictures.png(large().quantize(200)),
    "a bilevel PNG": lambda: pictures.png(large().convert("1")),
    "a JPEG": lambda: pictures.jpeg(large()),
    "a BMP": lambda: pictures.save(large(), "BMP"),
    "a deflated TIFF": lambda: pictures.save(large(), "TIFF", compression="tiff_deflate"),
    "a lossless WebP": lambda: pictures.save(
        large().crop((0, 0, 1500, 1400)), "WEBP", lossless=True, method=0, quality=0
    ),
    **{
        f"a JPEG of orientation {number}": lambda number=number: pictures.jpeg(large(), orientation=number)
        for number in (3, 5, 6, 8)
    },
}
#: others: what is shown of them is compared with itself only
ODD: dict[str, Callable[[], bytes]] = {
    "a JPEG in other colours": lambda: pictures.jpeg(large(), icc=turned_colours()),
    "a JPEG in Adobe RGB": lambda: pictures.jpeg(large(), adobe_rgb=True),
    "a JPEG of inks": lambda: pictures.save(large().convert("CMYK"), "JPEG"),
    "a PNG of 16 bits": lambda: pictures.save(sixteen_bits(), "PNG"),
    "a GIF with a transparent colour": lambda: pictures.save(large().quantize(64), "GIF", transparency=3),
    "a TIFF of floating point": lambda: pictures.save(large().convert("F"), "TIFF"),
}


@cache
def original(name: str) -> bytes:
    return (EXACT | ODD)[name]()


def upright(source: bytes) -> Image.Image:
    """The whole picture as Pillow has it."""
    image = pictures.load(source)
    orientation = image.getexif().get(0x112, 1)
    image = image.transpose(pictures.UPRIGHT[orientation]) if orientation in pictures.UPRIGHT else image
    return image.convert("RGB") if image.mode == "P" else image.convert("L") if image.mode == "1" else image


def stored_pixels(source: bytes, page: int = 1) -> render.PixelStore:
    """What is stored of an original, as another process would find it."""
    pixels = render.pixels(io.BytesIO(source), page, LIMITS)
    assert pixels is not None
    return stored(pixels.facts, pixels.size, pixels.write, pixels.block)


def stored_file(source: bytes) -> render.PixelStore:
    """A file as it is, stored."""
    return stored({}, len(source), lambda sink: sink.write(source), 1 << 16)


def stored(facts: dict, size: int, write: Callable, block: int) -> EntryReader:
    with tempfile.TemporaryDirectory() as folder:
        files = FileCache(Path(folder), Bounds(1 << 30), "cache of decoded pixels")
        assert files.create("a@1", facts, size, write, block)
        reader = files.open("a@1")
    assert reader is not None
    assert reader.size == size
    return reader


def px(*box: int) -> Region:
    return Region("px", *box)


@pytest.mark.parametrize("name", EXACT)
def test_a_region_at_full_size_is_what_a_whole_decode_shows_there(name):
    source = original(name)
    whole = upright(source)
    pixels = stored_pixels(source)
    for box in ((0, 0, 70, 50), (411, 203, 256, 131), (whole.width - 33, whole.height - 21, 500, 500)):
        recipe = Recipe(kind="png", region=px(*box))
        ours = pictures.load(render.cut(pixels, recipe, LIMITS).body)
        x, y, w, h = box
        theirs = whole.crop((x, y, min(x + w, whole.width), min(y + h, whole.height)))
        if ours.mode != theirs.mode:  # an alpha that hides nothing is left out
            assert ours.mode == theirs.mode.removesuffix("A")
        assert ours.size == theirs.size
        is_visible = np.asarray(theirs.getchannel("A")) > 0 if theirs.mode.endswith("A") else ...
        assert np.array_equal(np.asarray(ours)[is_visible], np.asarray(theirs)[is_visible])


RECIPES = {
    "at full size": {"region": px(300, 200, 256, 256)},
    "halved": {"region": px(300, 200, 256, 256), "width": 128},
    "halved, between the pixels": {"region": px(301, 203, 256, 256), "width": 128},
    "to a third": {"region": px(300, 200, 300, 300), "width": 100},
    "to a quarter": {"region": px(0, 0, 1024, 1024), "width": 256},
    "almost to an eighth": {"region": px(33, 1, 1000, 1000), "width": 127},
    "all of it, much smaller": {"region": Region("pct", 0, 0, 100, 100), "width": 60},
    "in percent": {"region": Region("pct", 33.3, 50, 10.5, 20.25), "width": 77},
    "the last pixel": {"region": px(SIZE[1] - 1, SIZE[1] - 1, 5, 5)},
    "a line of pixels": {"region": px(7, 0, 1, 1200), "height": 300},
    "the corner": {"region": Region("pct", 90, 90, 10, 10), "width": 50},
    "covering a box": {"region": px(100, 100, 900, 600), "width": 100, "height": 100, "fit": "cover"},
    "covering it smartly": {
        "region": px(100, 100, 900, 600), "width": 90, "height": 120, "fit": "cover", "focus": "smart",
    },
    "padded": {"region": px(100, 100, 900, 600), "width": 120, "height": 120, "fit": "contain"},
    "stretched": {"region": px(100, 100, 900, 600), "width": 120, "height": 300, "fit": "fill"},
    "enlarged": {"region": px(100, 100, 40, 30), "width": 400, "enlarge": True},
    "turned, grey, sharper": {
        "region": px(100, 100, 512, 512), "width": 200, "rotate": 90, "gray": True, "sharpen": 1.0,
    },
    "mirrored, softer": {"region": px(100, 100, 512, 512), "width": 200, "flip": "h", "blur": 2.0},
}  # fmt: skip


def from_what_is_kept(source: bytes, pixels: render.PixelStore, recipe: Recipe) -> render.Rendered:
    """Render as the repository does: from the mezzanine that the recipe calls for, else from decoded pixels."""
    original = render.OpenOriginal(io.BytesIO(source), LIMITS)
    scale = render.choose_scale(recipe, original.plan)
    if scale > 1:
        mezzanine = next(one for one in original.decode(scale) if one.scale == scale)
        return render.render_mezzanine(mezzanine, recipe, LIMITS)
    return render.cut(pixels, recipe, LIMITS)


#: for these every recipe is tried
_ALL = ("an RGB PNG", "a JPEG of orientation 6")


@pytest.mark.parametrize(
    "name",
    ["an RGB PNG", "a grey PNG", "a PNG with alpha", "a grey PNG with alpha", "a JPEG of orientation 6", *ODD],
)
def test_what_is_kept_changes_no_byte(name):
    source = original(name)
    pixels = stored_pixels(source)
    some = RECIPES if name in _ALL else dict(list(RECIPES.items())[1::5])
    for recipe_name, values in some.items():
        recipe = Recipe(kind="png", **values)
        cold = render.render(io.BytesIO(source), recipe, LIMITS)
        assert from_what_is_kept(source, pixels, recipe) == cold, recipe_name


@settings(max_examples=15, deadline=None)
@given(
    x=st.integers(0, SIZE[0] - 1),
    y=st.integers(0, SIZE[1] - 1),
    w=st.integers(1, 1800),
    h=st.integers(1, 1300),
    box=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    fit=st.sampled_from(["inside", "cover", "fill"]),
)
def test_no_region_and_no_size_makes_a_difference(x, y, w, h, box, fit):
    focus = (0.2, 0.9) if fit == "cover" else None
    recipe = Recipe(kind="png", region=px(x, y, w, h), width=box[0], height=box[1], fit=fit, focus=focus)
    source = original("an RGB PNG")
    cold = render.render(io.BytesIO(source), recipe, LIMITS)
    assert from_what_is_kept(source, _kept_photo(), recipe) == cold


@cache
def _kept_photo() -> render.PixelStore:
    return stored_pixels(original("an RGB PNG"))


@pytest.mark.parametrize("factor", [1.4, 2, 3, 4, 6, 8, 13])
def test_a_scaled_region_looks_like_full_decode_and_lanczos(factor):
    side = round(1100 / factor)
    box = (304, 48, 1404, 1148)
    ideal = large().resize((side, side), Image.Resampling.LANCZOS, box=box)
    recipe = Recipe(kind="png", region=px(304, 48, 1100, 1100), width=side)
    ours = pictures.load(render.cut(_kept_photo(), recipe, LIMITS).body)
    assert ssim(ours, ideal) > 0.995


def test_a_region_out_of_what_is_kept_costs_a_fraction():
    source, pixels = original("a JPEG"), stored_pixels(original("a JPEG"))
    recipe = Recipe(region=px(300, 200, 512, 512), width=256, quality=80)

    def cost(make: Callable[[], object]) -> float:
        began = time.process_time()
        make()
        return time.process_time() - began

    cold = min(cost(lambda: render.render(io.BytesIO(source), recipe, LIMITS)) for _ in range(5))
    assert min(cost(lambda: render.cut(pixels, recipe, LIMITS)) for _ in range(5)) < cold / 3


def test_levels_do_not_shift_the_picture():
    """A mark stays where it is, also at the end of sides that cannot be halved without a rest."""
    image = Image.new("L", (2047, 1023), 0)
    image.paste(255, (2047 - 256, 1023 - 256, 2047, 1023))
    recipe = Recipe(kind="png", region=Region("pct", 0, 0, 100, 100), width=128)
    small = np.asarray(pictures.load(render.cut(stored_pixels(pictures.png(image)), recipe, LIMITS).body), float) / 255
    assert abs(small.sum() - 16 * 16) < 6
    assert small[-8:, -8:].min() > 0.98


def test_what_is_hidden_does_not_shine_through():
    image = Image.new("RGBA", (1600, 1400), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 801, 1400))
    recipe = Recipe(kind="png", region=px(600, 600, 400, 400), width=100)
    made = np.asarray(pictures.load(render.cut(stored_pixels(pictures.png(image)), recipe, LIMITS).body))
    assert made[..., 0].max() <= 1, "no red, though the hidden pixels are"
    assert made[0, 0].tolist() == [0, 0, 255, 255]
    assert made[0, -1].tolist() == [0, 0, 0, 0]


def test_colours_are_converted_before_anything_is_kept():
    source = original("a JPEG in other colours")
    recipe = Recipe(kind="png", region=px(100, 100, 300, 300))
    whole = picture(source).crop((100, 100, 400, 400))
    ours = pictures.load(render.cut(stored_pixels(source), recipe, LIMITS).body)
    assert np.abs(np.asarray(ours, int) - np.asarray(whole, int)).max() <= 1
    plain = pictures.load(source).crop((100, 100, 400, 400))
    assert np.abs(np.asarray(ours, int) - np.asarray(plain, int)).mean() > 5, "the profile had a say"


def test_artist_and_copyright_are_kept_as_well():
    source = pictures.jpeg(large(), artist="Ä. B.", copyright="© C " * 900)
    recipe = Recipe(region=px(0, 0, 64, 64), copyright=True, quality=80)
    cold = render.render(io.BytesIO(source), recipe, LIMITS)
    assert render.cut(stored_pixels(source), recipe, LIMITS) == cold
    assert "Ä. B.".encode() in cold.body


def test_a_page_is_kept_by_itself():
    pages = [pictures.photo(*SIZE, seed=seed) for seed in range(2)]
    source = pictures.save(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    for page in (1, 2):
        recipe = Recipe(kind="png", region=px(50, 60, 40, 30), page=page)
        ours = pictures.load(render.cut(stored_pixels(source, page), recipe, LIMITS).body)
        assert np.array_equal(np.asarray(ours), np.asarray(pages[page - 1].crop((50, 60, 90, 90))))
    with pytest.raises(BadParameter, match="2 pages"):
        render.pixels(io.BytesIO(source), 3, LIMITS)


def test_of_a_small_picture_nothing_is_kept():
    assert render.pixels(io.BytesIO(pictures.jpeg()), 1, LIMITS) is None


@pytest.mark.parametrize(
    ("values", "is_region"),
    [
        pytest.param({"region": px(0, 0, 5, 5)}, True, id="a region"),
        pytest.param({"width": 50}, False, id="the whole picture"),
        pytest.param({"region": px(0, 0, 5, 5), "animate": True}, False, id="a region of all frames"),
    ],
)
def test_which_recipes_are_cut_out(values, is_region):
    assert render.is_region(Recipe(**values)) is is_region


def test_a_region_outside_is_refused_whatever_is_kept():
    with pytest.raises(BadParameter, match="outside"):
        render.cut(_kept_photo(), Recipe(region=px(5000, 0, 5, 5)), LIMITS)


def test_a_truncated_original_is_a_broken_picture():
    source = original("a JPEG")
    pixels = render.pixels(io.BytesIO(source[: len(source) // 2]), 1, LIMITS)
    assert pixels is not None
    with pytest.raises(BrokenPicture):
        stored(pixels.facts, pixels.size, pixels.write, pixels.block)


# -- TIFFs made of tiles -----------------------------------------------------------------

#: 51 megapixels, with a rest of a tile on both sides
HUGE = (8300, 6150)
TILE = 256


@cache
def patterns(bands: int = 3) -> list[np.ndarray]:
    """A few tiles: a huge picture is made of them again and again, so that its file stays small."""
    noise = pictures.photo(TILE * 5, TILE)
    noise = noise if bands == 3 else noise.convert({1: "L", 4: "RGBA"}[bands])
    if bands == 4:
        noise.putalpha(pictures.photo(TILE * 5, TILE, seed=1).convert("L"))
    values = np.asarray(noise).reshape(TILE, TILE * 5, bands)
    return [values[:, n * TILE : (n + 1) * TILE] for n in range(5)]


def which(x: int, y: int) -> int:
    """The pattern of the tile in this column and row."""
    return (x * 2 + y * 3) % 5


def expected(box: tuple[int, int, int, int], bands: int = 3) -> np.ndarray:
    """The pixels of a part of the huge picture: left, top, right, bottom."""
    rows, columns = np.arange(box[1], box[3]), np.arange(box[0], box[2])
    made = np.zeros((len(rows), len(columns), bands), np.uint8)
    for ty, tx in itertools.product(sorted({r // TILE for r in rows}), sorted({c // TILE for c in columns})):
        r, c = rows // TILE == ty, columns // TILE == tx
        tile = patterns(bands)[which(tx, ty)]
        made[np.ix_(r, c)] = tile[np.ix_(rows[r] % TILE, columns[c] % TILE)]
    return made


Tags = dict[int, tuple[str, tuple[int, ...] | bytes]]


def packed(values: np.ndarray, compression: int) -> tuple[bytes, bytes]:
    """The body of a tile, and JPEG tables where it needs them."""
    if compression == 8:
        return zlib.compress(values.tobytes(), 1), b""
    if compression == 7:
        body = pictures.save(Image.fromarray(values.squeeze()), "JPEG", quality=90, subsampling=0, keep_rgb=True)
        return _without_tables(body)
    return values.tobytes(), b""


def _without_tables(body: bytes) -> tuple[bytes, bytes]:
    """An abbreviated JPEG, and its tables (ITU-T T.81, section B.5)."""
    rest, tables, at = b"\xff\xd8", b"\xff\xd8", 2
    while body[at + 1] != 0xDA:
        end = at + 2 + struct.unpack_from(">H", body, at + 2)[0]
        if body[at + 1] in (0xDB, 0xC4):
            tables += body[at:end]
        else:
            rest += body[at:end]
        at = end
    return rest + body[at:], tables + b"\xff\xd9"


class TiffWriter:
    """Writes TIFFs of tiles by hand: directories in a chain, and children of the first one."""

    def __init__(self, order: str = "<", big: bool = False) -> None:
        self.order, self.big = order, big
        self.body = bytearray(16 if big else 8)

    def add(self, body: bytes) -> int:
        """Where it lies."""
        self.body += b"\0" * (len(self.body) % 2) + body
        return len(self.body) - len(body)

    def level(self, size: tuple[int, int], tiles: list[np.ndarray], choose: Callable[[int, int], int], compression: int = 8, **more: int) -> Tags:  # noqa: E501  # fmt: skip
        """The tags of a picture of these tiles."""
        bodies = [packed(tile, compression) for tile in tiles]
        places = [self.add(body) for body, _ in bodies]
        across, down = -(-size[0] // TILE), -(-size[1] // TILE)
        chosen = [choose(x, y) for y in range(down) for x in range(across)]
        bands = tiles[0].shape[2]
        tags: Tags = {
            256: ("L", (size[0],)), 257: ("L", (size[1],)), 258: ("H", (8,) * bands), 259: ("H", (compression,)),
            262: ("H", (1 if bands == 1 else 2,)), 277: ("H", (bands,)), 284: ("H", (1,)),
            322: ("H", (TILE,)), 323: ("H", (TILE,)),
            324: ("Q" if self.big else "L", tuple(places[n] for n in chosen)),
            325: ("L", tuple(len(bodies[n][0]) for n in chosen)),
        }  # fmt: skip
        if bands == 4:
            tags[338] = ("H", (2,))
        if compression == 7:
            tags[347] = ("B", bodies[0][1])
        return tags | {int(name[1:]): ("L", (value,)) for name, value in more.items()}

    def directory(self, tags: Tags, following: int = 0) -> int:
        """Where it lies."""
        codes = {"B": 1, "H": 3, "L": 4, "Q": 16}
        entries, room, count = b"", (8 if self.big else 4), ("Q" if self.big else "L")
        for tag, (code, values) in sorted(tags.items()):
            value = values if isinstance(values, bytes) else struct.pack(f"{self.order}{len(values)}{code}", *values)
            number = len(values)
            if len(value) > room:
                value = struct.pack(self.order + count, self.add(value))
            entries += struct.pack(f"{self.order}HH{count}", tag, codes[code], number) + value.ljust(room, b"\0")
        head = struct.pack(self.order + ("Q" if self.big else "H"), len(tags))
        return self.add(head + entries + struct.pack(self.order + count, following))

    def finish(self, first: int) -> bytes:
        mark = b"II" if self.order == "<" else b"MM"
        header = (
            struct.pack(self.order + "HHHQ", 43, 8, 0, first) if self.big else struct.pack(self.order + "HL", 42, first)
        )
        self.body[: 2 + len(header)] = mark + header
        return bytes(self.body)


def tiled(compression: int = 8, bands: int = 3, *, order: str = "<", big: bool = False, size: tuple[int, int] = HUGE, **more: int) -> bytes:  # noqa: E501  # fmt: skip
    """A TIFF of tiles, without smaller levels."""
    writer = TiffWriter(order, big)
    return writer.finish(writer.directory(writer.level(size, patterns(bands), which, compression, **more)))


@pytest.mark.parametrize(
    ("values", "bands"),
    [
        pytest.param({"compression": 1}, 3, id="as they are"),
        pytest.param({}, 3, id="deflated"),
        pytest.param({"order": ">"}, 3, id="from a Motorola"),
        pytest.param({"big": True}, 3, id="in a BigTIFF"),
        pytest.param({"bands": 1}, 1, id="grey"),
        pytest.param({"bands": 4}, 4, id="with alpha"),
    ],
)
def test_of_a_huge_tiff_the_tiles_that_a_region_touches_are_read(values, bands):
    source = tiled(**values)
    for box in ((300, 300, 400, 380), (250, 510, 780, 777), (8200, 6100, 8300, 6150)):
        left, top, right, bottom = box
        recipe = Recipe(kind="png", region=px(left, top, right - left, bottom - top))
        made = render.cut(stored_file(source), recipe, LIMITS)
        wanted = expected(box, bands)
        is_visible = wanted[..., 3] > 0 if bands == 4 else ...
        ours = np.asarray(pictures.load(made.body)).reshape(wanted.shape)
        assert np.array_equal(ours[is_visible], wanted[is_visible])
        assert render.render(io.BytesIO(source), recipe, LIMITS) == made


def test_tiles_in_jpeg_share_their_tables():
    source = tiled(7)
    ours = picture(source, region=px(300, 300, 512, 512))
    assert np.abs(np.asarray(ours, int) - expected((300, 300, 812, 812)).astype(int)).mean() < 4


def test_only_the_tiles_that_are_touched_are_looked_at():
    """All others lie outside of the file, and nobody minds."""
    writer = TiffWriter()
    tags = writer.level(HUGE, patterns(), which)
    columns = -(-HUGE[0] // TILE)
    wanted = {y * columns + x for y in (1, 2, 3) for x in (1, 2, 3)}
    code, offsets = tags[324]
    tags[324] = (code, tuple(place if n in wanted else 1 << 31 for n, place in enumerate(offsets)))
    source = writer.finish(writer.directory(tags))
    recipe = Recipe(kind="png", region=px(300, 300, 512, 512), width=256)
    assert render.render(io.BytesIO(source), recipe, LIMITS).width == 256
    with pytest.raises(BrokenPicture, match="no tile"):
        render.render(io.BytesIO(source), Recipe(region=px(0, 0, 512, 512)), LIMITS)


def test_of_a_huge_tiff_it_is_the_file_itself_that_is_kept():
    source = tiled()
    assert bytes(stored_pixels(source)[:]) == source


def level_of(colour: int) -> list[np.ndarray]:
    return [np.full((TILE, TILE, 3), colour, np.uint8)]


def pyramid(*, children: bool) -> bytes:
    """Levels that can be told apart by their grey: 40 the page, then 80 (a half), 120 (a quarter), 160 (an eighth)."""
    writer = TiffWriter()
    levels = [
        writer.level((HUGE[0] >> n, HUGE[1] >> n), level_of(40 * (n + 1)), lambda x, y: 0, t254=int(n > 0))
        for n in range(4)
    ]
    if children:
        places = tuple(map(writer.directory, levels[1:]))
        return writer.finish(writer.directory(levels[0] | {330: ("L", places)}))
    following = 0
    for level in reversed(levels):
        following = writer.directory(level, following)
    return writer.finish(following)


@pytest.mark.parametrize("children", [True, False], ids=["as children of the page", "as pages behind it"])
@pytest.mark.parametrize(
    ("side", "width", "grey"),
    [
        pytest.param(512, 512, 40, id="full size from the page"),
        pytest.param(512, 200, 40, id="less than a half, with too little left to do"),
        pytest.param(1024, 256, 80, id="to a quarter from the half"),
        pytest.param(2048, 256, 120, id="to an eighth from the quarter"),
        pytest.param(6000, 100, 160, id="much smaller from the smallest"),
    ],
)
def test_a_level_is_chosen_that_leaves_lanczos_enough_to_do(children, side, width, grey):
    source = pyramid(children=children)
    made = picture(source, region=px(100, 150, side, side), width=width)
    assert set(np.unique(np.asarray(made))) == {grey}


def test_the_whole_of_a_pyramid_comes_from_a_level_too():
    made = picture(pyramid(children=False), width=400)
    assert made.size == (400, 296)
    assert set(np.unique(np.asarray(made))) == {160}


def test_a_level_that_is_none_is_passed_over():
    """Of another shape, or of other bands."""
    writer = TiffWriter()
    odd = writer.level((4150, 2000), level_of(80), lambda x, y: 0, t254=1)
    grey = writer.level((2075, 1537), [np.zeros((TILE, TILE, 1), np.uint8)], lambda x, y: 0, t254=1)
    last = writer.directory(grey)
    page = writer.directory(writer.level(HUGE, level_of(40), lambda x, y: 0), writer.directory(odd, last))
    made = picture(writer.finish(page), region=px(0, 0, 2048, 2048), width=256)
    assert set(np.unique(np.asarray(made))) == {40}


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"t274": 6}, id="one that lies on its side"),
        pytest.param({"t339": 3}, id="one of floating point"),
        pytest.param({"t284": 2}, id="one of separate bands"),
        pytest.param({"t322": 0}, id="tiles without a width"),
        pytest.param({"t322": 512}, id="fewer tiles than it needs"),
    ],
)
def test_what_cannot_be_read_by_the_tile_is_not(more):
    assert tiles.find(memoryview(tiled(**more)), 1) is None


def test_a_region_of_too_many_pixels_is_refused():
    with pytest.raises(OverBudget):
        picture(tiled(), LIMITS.__class__(max_pixels=40_000_000), region=px(0, 0, 8000, 6000))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=8), st.booleans())
def test_a_damaged_directory_is_a_problem_or_a_picture(changes, children):
    source = bytearray(_pyramid(children))
    start = struct.unpack_from("<L", source, 4)[0]
    for at, value in changes:
        source[(start + at) % len(source)] = value
    with contextlib.suppress(BrokenPicture, OverBudget, BadParameter):
        render.cut(stored_file(bytes(source)), Recipe(region=px(0, 0, 600, 600), width=64), LIMITS)


@cache
def _pyramid(children: bool) -> bytes:
    return pyramid(children=children)
