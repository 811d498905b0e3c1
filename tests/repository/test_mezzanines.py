"""Mezzanines: which variants are rendered from one, how good these are, and that the bytes do not show the caches."""

import io
import itertools
import json
import os
import shutil
import struct
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
import pictures
import pytest
from cachetools import LRUCache
from PIL import Image
from rendered import LIMITS, pixels, rendered, ssim
from webserver import embedded

from image_repo import render, wiring
from image_repo.access.principal import ADMIN
from image_repo.caches.memory import MemoryTier
from image_repo.caches.tiers import Caches
from image_repo.config import PersistentStoreConfiguration, SwiftCacheConfiguration
from image_repo.errors import BadParameter, BrokenPicture, OverBudget
from image_repo.model.names import ImageName
from image_repo.model.operations import Region
from image_repo.model.recipe import Recipe, read_request
from image_repo.model.rendition import Rendition
from image_repo.render import MezzaninePlan, choose_scale

#: its sides are no multiples of anything
WIDE = (3005, 2003)


@pytest.fixture(scope="module")
def wide():
    """A picture with mezzanines; as sharp as those of cameras, whose pixels are interpolated."""
    return pictures.photo(WIDE[0] // 2, WIDE[1] // 2).resize(WIDE, Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def original(wide):
    return pictures.jpeg(wide, quality=92)


def opened(source):
    return render.OpenOriginal(io.BytesIO(source), LIMITS)


def decoded(source, scale=None):
    """One of the mezzanines of an original, the smallest by default."""
    original = opened(source)
    scale = scale or original.plan.scales()[0]
    return next(one for one in original.decode(scale) if one.scale == scale)


def written(mezzanine, *, packed=False):
    return b"".join(mezzanine.write(packed=packed))


def read(body):
    return render.read_mezzanine(io.BytesIO(body), LIMITS)


def stored(mezzanine):
    """A mezzanine as it is after it was stored."""
    return read(written(mezzanine))


def from_mezzanine(source, **recipe):
    """What is rendered from the stored mezzanine that the recipe asks for."""
    recipe = Recipe(**{"kind": "png", **recipe})
    scale = choose_scale(recipe, opened(source).plan)
    return pictures.load(render.render_mezzanine(stored(decoded(source, scale)), recipe, LIMITS).body)


# -- which variants --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "scales"),
    [
        pytest.param((1500, 900), (), id="less than one and a half megapixels: none"),
        pytest.param((1639, 900), (2,), id="one and a half megapixels"),
        pytest.param((900, 1639), (2,), id="upright"),
        pytest.param((2448, 1632), (4, 2), id="4 megapixels"),
        pytest.param((4242, 2828), (8, 4), id="12 megapixels: half of that is too large"),
        pytest.param((6000, 4000), (8, 4), id="24 megapixels"),
        pytest.param((30_000, 400), (8, 4), id="a panorama"),
    ],
)
def test_which_mezzanines_an_original_has_follows_from_its_size(size, scales):
    source = pictures.jpeg(Image.new("RGB", size))
    plan = opened(source).plan
    assert plan == (MezzaninePlan(size) if scales else None)
    assert (plan.scales() if plan else ()) == scales
    for scale in scales:
        made = decoded(source, scale)
        assert made.image.size == (-(-size[0] // scale), -(-size[1] // scale))
        assert made.plan == stored(made).plan == plan


LARGE = MezzaninePlan((6000, 4000))


@pytest.mark.parametrize(
    ("recipe", "scale"),
    [
        pytest.param({"width": 10}, 8, id="10 pixels from an eighth"),
        pytest.param({"width": 484}, 8, id="so 484 pixels"),
        pytest.param({"width": 485}, 4, id="then from a quarter"),
        pytest.param({"width": 968}, 4, id="up to 968"),
        pytest.param({"width": 969}, 1, id="more from the original"),
        pytest.param({"height": 322}, 8, id="by height"),
        pytest.param({"height": 323}, 4, id="the long side decides nothing by itself"),
        pytest.param({"width": 324, "height": 324, "fit": "cover"}, 4, id="cover: what is left of a side counts"),
        pytest.param({"width": 400, "height": 400, "fit": "contain"}, 8, id="contain: what is in the padding"),
        pytest.param({"width": 200, "height": 2000}, 8, id="a box that one side decides"),
        pytest.param({"width": 5, "height": 400, "fit": "fill"}, 4, id="fill: the side that shrinks less"),
        pytest.param({"width": 400, "rotate": 90}, 4, id="turned: the width is the short side"),
        pytest.param({}, 1, id="as large as it is"),
        pytest.param({"width": 100, "page": 2}, 1, id="another page"),
        pytest.param({"width": 100, "animate": True, "kind": "gif"}, 1, id="all frames"),
        pytest.param({"width": 100, "region": Region("px", 0, 0, 3000, 2000)}, 8, id="a region, far away"),
        pytest.param({"width": 300, "region": Region("px", 0, 0, 3000, 2000)}, 4, id="a region, nearer"),
        pytest.param({"width": 300, "region": Region("pct", 0, 0, 10, 10)}, 1, id="a region, near"),
        pytest.param({"kind": "original"}, 1, id="the original itself"),
    ],
)
def test_the_mezzanine_follows_from_recipe_and_size(recipe, scale):
    assert choose_scale(Recipe(**recipe), LARGE) == scale
    assert choose_scale(Recipe(**recipe), None) == 1


def test_rounding_the_short_side_decides_nothing():
    for height in range(500, 4000, 7):
        assert choose_scale(Recipe(width=483), MezzaninePlan((6000, height))) == 8


def test_nobody_can_ask_for_a_mezzanine():
    for parameter in ("copy", "mezzanine", "scale"):
        with pytest.raises(BadParameter):
            read_request([(parameter, "8")])


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(lambda: pictures.jpeg(pictures.photo(320, 240)), id="small"),
        pytest.param(lambda: pictures.animation("gif", size=(2000, 40)), id="moving"),
        pytest.param(lambda: pictures.tiff_pages(2, (2000, 40)), id="of many pages"),
    ],
)
def test_some_originals_have_none(source):
    assert opened(source()).plan is None
    assert render.verify(io.BytesIO(source()), LIMITS).mezzanines == ()


# -- how good --------------------------------------------------------------------------


def _ideal(image, width):
    return image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param({"kind": "jpeg", "quality": 95, "subsampling": "4:4:4"}, id="JPEG"),
        pytest.param({"kind": "jpeg", "quality": 95, "progressive": True}, id="progressive JPEG"),
        pytest.param({"kind": "png", "compress_level": 1}, id="PNG"),
        pytest.param({"kind": "webp", "quality": 95, "method": 0}, id="WebP"),
        pytest.param({"kind": "tiff"}, id="TIFF"),
    ],
)
def test_what_comes_from_a_mezzanine_is_as_good_as_from_a_full_decode(wide, kind):
    source = pictures.save(wide, **kind)
    whole = pictures.load(source)
    for width in (50, 156, 250, 333, 400, 484, 640, 968):
        made = from_mezzanine(source, width=width)
        assert ssim(made, _ideal(whole, width)) >= 0.995, width


@pytest.mark.parametrize("orientation", range(1, 9))
def test_its_edges_are_where_they_are_in_the_original(wide, orientation):
    """Sides that the scale does not divide: a mezzanine that ignored it would be off by part of a pixel."""
    source = pictures.jpeg(wide, quality=95, orientation=orientation)
    made = from_mezzanine(source, width=200, height=200)
    assert made.size == (200, 133)
    assert ssim(made, _ideal(wide, 200)) >= 0.995


def test_every_step_does_the_same_as_on_the_original(original):
    for recipe in (
        {"width": 120, "height": 120, "fit": "cover", "focus": (0.9, 0.1)},
        {"width": 120, "height": 120, "fit": "cover", "focus": "smart"},
        {"width": 120, "height": 120, "fit": "contain", "background": "1e90ff"},
        {"width": 100, "rotate": 90, "flip": "h", "gray": True},
        {"width": 80, "sharpen": 1.0, "blur": 0.5},
        {"width": 90, "region": Region("pct", 10, 20, 60, 50)},
    ):
        made, direct = from_mezzanine(original, **recipe), pictures.load(rendered(original, kind="png", **recipe).body)
        assert made.size == direct.size
        assert ssim(made, direct) >= 0.99, recipe


def _mode(source):
    """Of the mezzanines of an original."""
    plan = opened(source).plan
    (mode,) = {decoded(source, scale).image.mode for scale in plan.scales()}
    return mode


def test_transparency_stays():
    image = pictures.photo(1900, 800).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    source = pictures.save(image, "png", compress_level=1)
    assert _mode(source) == "RGBA"
    made, direct = (
        pixels(picture)
        for picture in (
            from_mezzanine(source, width=200, background="ff0000"),
            pictures.load(rendered(source, kind="png", width=200, background="ff0000").body),
        )
    )
    opacity = pixels(image)[..., 3:] / 255
    flat = pixels(image)[..., :3] * opacity + np.array([255, 0, 0]) * (1 - opacity)
    ideal = np.stack(
        [pixels(_ideal(Image.fromarray(band.astype(np.float32)), 200)) for band in np.moveaxis(flat, 2, 0)], 2
    )
    assert abs(made - ideal).mean() < abs(direct - ideal).mean() + 0.125  # of 255
    alpha = from_mezzanine(source, width=200).getchannel("A")
    assert abs(np.asarray(alpha, np.int16) - np.asarray(_ideal(image.getchannel("A"), 200))).max() <= 2


def test_what_is_opaque_throughout_needs_no_transparency():
    source = pictures.save(pictures.photo(1900, 800).convert("RGBA"), "png", compress_level=1)
    assert _mode(source) == "RGB"


def test_its_colours_are_those_of_the_original():
    source = pictures.jpeg(Image.new("RGB", (3000, 600), (40, 200, 60)), quality=95, adobe_rgb=True)
    made, direct = from_mezzanine(source, width=60), pictures.load(rendered(source, kind="png", width=60).body)
    assert made.getpixel((30, 4)) == pytest.approx(direct.getpixel((30, 4)), abs=2)
    assert made.getpixel((30, 4))[0] < 20, "Adobe RGB was taken for sRGB"
    assert "icc_profile" not in made.info


def test_artist_and_copyright_come_through():
    source = pictures.jpeg(pictures.photo(3000, 600), artist="Ada Müller", copyright="CC BY 4.0", gps=True)
    made = from_mezzanine(source, kind="jpg", width=60, copyright=True, quality=80)
    direct = pictures.load(rendered(source, kind="jpg", width=60, copyright=True, quality=80).body)
    assert made.getexif()[0x13B] == direct.getexif()[0x13B]
    assert dict(made.getexif()) == dict(direct.getexif())
    assert not from_mezzanine(source, kind="jpg", width=60, quality=80).getexif()


def test_a_mezzanine_holds_nothing_of_the_original_but_what_a_variant_needs():
    source = pictures.jpeg(pictures.photo(3000, 600), gps=True, camera=True, orientation=6)
    made = decoded(source)
    assert pictures.SECRET.encode() not in written(made)
    assert len(written(made)) < made.image.width * made.image.height * 3 + 400


FORMATS = [
    pytest.param({"kind": "jpeg"}, id="JPEG"),
    pytest.param({"kind": "jpeg", "progressive": True}, id="progressive JPEG"),
    pytest.param({"kind": "png", "compress_level": 1}, id="PNG"),
    pytest.param({"kind": "webp", "method": 0}, id="WebP"),
    pytest.param({"kind": "tiff"}, id="TIFF"),
    pytest.param({"kind": "bmp"}, id="BMP"),
]


@pytest.mark.parametrize(
    ("kind", "mode"),
    [pytest.param(*row.values, "RGB", id=row.id) for row in FORMATS]
    + [
        pytest.param({"kind": "png", "compress_level": 1}, "RGBA", id="PNG with transparency"),
        pytest.param({"kind": "png", "compress_level": 1}, "L", id="grey PNG"),
        pytest.param({"kind": "tiff"}, "CMYK", id="TIFF in CMYK"),
    ],
)
def test_each_mezzanine_is_the_same_whichever_was_needed(wide, kind, mode):
    image = wide.crop((0, 0, 3005, 701))
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    source = pictures.save(image.convert(mode), **kind)
    scales = opened(source).plan.scales()
    assert scales == (4, 2)
    needed = {scale: opened(source).decode(scale) for scale in scales}
    is_sequential = kind == {"kind": "jpeg"}
    for scale, mezzanines in needed.items():
        assert tuple(one.scale for one in mezzanines) == ((scale,) if is_sequential else scales)
        for one in mezzanines:
            assert written(one) == written(decoded(source, one.scale))
    plain = "RGBa" if mode == "RGBA" else "RGB"
    whole = pictures.load(source).convert(plain)
    for one in needed[2]:
        assert ssim(one.image.convert(plain), whole.reduce(one.scale)) >= 0.995


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("recipe", [{"width": 200}, {"width": 640}, {"width": 77, "height": 99, "fit": "cover"}])
def test_stored_or_not_the_bytes_of_a_variant_are_the_same(wide, kind, recipe):
    source = pictures.save(wide.crop((0, 0, 3005, 701)), **kind)
    recipe = Recipe(kind="png", **recipe)
    scale = choose_scale(recipe, opened(source).plan)
    direct = render.render(io.BytesIO(source), recipe, LIMITS)
    assert render.render_mezzanine(stored(decoded(source, scale)), recipe, LIMITS) == direct


# -- as bytes ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "CMYK"])
def test_packed_it_has_the_same_pixels(mode):
    image = pictures.photo(1700, 900).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    kind = {"kind": "tiff"} if mode == "CMYK" else {"kind": "png", "compress_level": 1}
    made = decoded(pictures.save(image.convert(mode), **kind))
    assert made.image.mode == mode.replace("CMYK", "RGB")
    packed = written(made, packed=True)
    assert len(packed) < 0.75 * len(written(made))
    for body in (packed, written(made)):
        again = read(body)
        assert (again.image.mode, again.image.tobytes()) == (made.image.mode, made.image.tobytes())
        assert replace(again, image=made.image) == made


def test_rows_that_are_longer_than_what_is_written_at_a_time_come_back():
    made = decoded(pictures.save(Image.effect_noise((300_001, 5), 60).convert("RGB"), "png"), 2)
    assert made.image.width == 150_001
    assert read(written(made)).image.tobytes() == made.image.tobytes()


def _with_facts(body, **changes):
    """The bytes of a mezzanine that claims something else."""
    start = body.index(b"{")
    end = start + struct.unpack_from(">I", body, start - 4)[0]
    text = json.dumps(json.loads(body[start:end]) | changes).encode()
    return body[: start - 4] + struct.pack(">I", len(text)) + text + body[end:]


@pytest.mark.parametrize("size", [(6000, 6000), (752, 502), (1, 1)])
def test_a_packed_picture_of_another_size_is_not_unpacked(original, size):
    """However small it is packed, it may take gigabytes."""
    bomb = io.BytesIO()
    Image.new("RGB", size).save(bomb, "WEBP", lossless=True, quality=0, method=0)
    packed = written(decoded(original), packed=True)
    head = packed[: packed.index(b"RIFF")]
    tracemalloc.start()
    try:
        with pytest.raises(BrokenPicture):
            read(head + bomb.getvalue())
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        pytest.param({"stored": [6000, 5000]}, BrokenPicture, id="of another shape"),
        pytest.param({"stored": [1500, 900]}, BrokenPicture, id="of an original that has none"),
        pytest.param({"stored": [120_000, 80_000]}, OverBudget, id="of a larger original than there may be"),
        pytest.param({"scale": 8}, BrokenPicture, id="of another scale"),
        pytest.param({"scale": 0}, BrokenPicture, id="of no scale"),
        pytest.param({"mode": "CMYK"}, BrokenPicture, id="of another mode"),
        pytest.param({"profile": 1 << 40}, BrokenPicture, id="with a profile that is longer than all of it"),
    ],
)
def test_a_mezzanine_of_what_cannot_be_is_refused(original, changes, problem):
    for packed in (True, False):
        with pytest.raises(problem):
            read(_with_facts(written(decoded(original), packed=packed), **changes))


def test_what_is_no_mezzanine_is_refused(original):
    whole, packed = written(decoded(original)), written(decoded(original), packed=True)
    for body in (b"", original, whole[:-1], whole[:20], whole + b"x", packed[:-100], b"x" + whole):
        with pytest.raises(BrokenPicture):
            read(body)


# -- made at upload ---------------------------------------------------------------------


def test_an_upload_that_was_cut_off_is_refused_by_the_decode_that_makes_the_mezzanine(original):
    for part in (0.2, 0.5, 0.9, 0.99):
        cut = original[: int(len(original) * part)]
        with pytest.raises(BrokenPicture):
            render.verify(io.BytesIO(cut), LIMITS)


def test_the_same_mezzanine_is_made_at_upload_and_afterwards(original):
    (mezzanine,) = render.verify(io.BytesIO(original), LIMITS).mezzanines
    assert written(mezzanine) == written(decoded(original))


# -- in the repository ------------------------------------------------------------------


class Counted:
    """A store, or a tier, that counts what is got of it, and otherwise is what it is."""

    def __init__(self, inner):
        self._inner = inner
        self.got = []

    def get(self, key, *arguments):
        if not key.endswith(".json"):
            self.got.append(key)
        return self._inner.get(key, *arguments)

    def open(self, key):
        self.got.append(key)
        return self._inner.open(key)

    def __getattr__(self, name):
        return getattr(self._inner, name)


class Nodes:
    """Repositories over one container of originals, each with caches of its own."""

    def __init__(self, folder, store=None):
        self.folder = folder
        self._store = store or PersistentStoreConfiguration(kind="disk", path=str(folder / "data"))
        self._numbers = itertools.count()

    @contextmanager
    def opened(self, cache=None, **changes):
        """A repository with empty caches, or those of the given folder; its store counts."""
        own = self.folder / (cache or f"own-{next(self._numbers)}")
        config = embedded(own, **changes)
        config = replace(config, persistent_store_configuration=self._store)
        stores = wiring.build_stores(config)
        wiring.prepare(config, stores)
        repo = wiring.build(config, stores=replace(stores, origin=Counted(stores.origin)))
        try:
            yield repo
        finally:
            repo.close()


def upload(repo, name, body):
    with repo.writer.spool() as spool:
        spool.write(body)
        spool.file.seek(0)
        repo.writer.put(ADMIN, ImageName(name), spool)


def fetch(repo, name="a/b", **recipe):
    return repo.reader.fetch(
        repo.reader.variant(
            ADMIN,
            repo.reader.resolve(ADMIN, [ImageName(name)]),
            Recipe(**{"background": "ffffff", "quality": 82, **recipe}),
        )
    )


@pytest.fixture
def house(tmp_path, original):
    """Its container holds a picture that another tool put there."""
    house = Nodes(tmp_path)
    (tmp_path / "data" / "a").mkdir(parents=True)
    (tmp_path / "data" / "a" / "b.jpg").write_bytes(original)
    return house


VARIANTS = (
    {"width": 300},
    {"width": 50, "kind": "png", "quality": None},
    {"width": 700},
    {"height": 200},
    {"width": 90, "region": Region("px", 100, 200, 1500, 1000)},
)


def test_the_bytes_are_the_same_whatever_the_caches_held(house, original):
    seen = []
    with house.opened("first") as repo:
        seen.append([fetch(repo, **recipe).rendition for recipe in VARIANTS])
    with house.opened() as repo:  # another order
        seen.append([fetch(repo, **recipe).rendition for recipe in reversed(VARIANTS)][::-1])
    shutil.rmtree(house.folder / "first" / "cache")
    with house.opened("first") as repo:  # caches deleted, between any two as well
        seen.append([])
        for recipe in VARIANTS:
            seen[-1].append(fetch(repo, **recipe).rendition)
            repo.writer.purge(ADMIN, ImageName("a/b"))
    with house.opened() as repo:  # through the interface
        upload(repo, "c", original)
        seen.append([fetch(repo, "c", **recipe).rendition for recipe in VARIANTS])
    bodies = [[rendition.body for rendition in renditions] for renditions in seen]
    with house.opened() as repo:  # without any mezzanines
        repo.renditions.mezzanines._files = None
        repo.renditions.mezzanines._recent = LRUCache(0)
        bodies.append([fetch(repo, **recipe).rendition.body for recipe in VARIANTS])
    assert all(body == bodies[0] for body in bodies)
    assert seen[0][0].etag == seen[1][0].etag == seen[2][0].etag


def test_the_original_is_fetched_once_for_all_small_variants(house):
    with house.opened("node") as repo:
        fetch(repo, width=300)
        assert len(repo.origin._store.got) == 1
        for width in (40, 80, 160, 320, 484):
            fetch(repo, width=width)
        assert len(repo.origin._store.got) == 1
        assert fetch(repo, width=1500).layer == "rendered"
        assert len(repo.origin._store.got) == 2
    with house.opened("node") as repo:  # after a restart
        fetch(repo, width=41)
        assert repo.origin._store.got == []


def test_one_decode_serves_all_variants_of_a_format_that_is_decoded_whole(house, wide):
    (house.folder / "data" / "whole.png").write_bytes(pictures.save(wide, "png", compress_level=1))
    with house.opened("node") as repo:
        fetch(repo, "whole", width=300)
        repo.renditions.mezzanines.flush()
    with house.opened("node") as repo:
        for width in (40, 484, 485, 968):
            assert fetch(repo, "whole", width=width).layer == "rendered"
        assert repo.origin._store.got == []


def test_after_an_upload_no_small_variant_fetches_the_original(house, original):
    with house.opened() as repo:
        upload(repo, "new", original)
        repo.origin._store.got.clear()
        assert fetch(repo, "new", width=300).layer == "rendered"
        assert "new.jpg" not in repo.origin._store.got


def read_record(repo, name="a/b"):
    return repo.reader.record(ADMIN, repo.reader.resolve(ADMIN, [ImageName(name)]))


def test_what_was_decoded_for_a_record_serves_the_first_variants(house):
    with house.opened("node") as repo:
        assert read_record(repo).dhash
        assert fetch(repo, width=300).layer == fetch(repo, width=200).layer == "rendered"
        assert repo.origin._store.got == ["a/b.jpg"]
    with house.opened("node") as repo:  # after a restart
        fetch(repo, width=100)
        assert repo.origin._store.got == []


def test_what_was_decoded_for_a_record_is_not_sent_to_other_nodes(house):
    with house.opened() as repo:
        shared = MemoryTier(64 << 20)
        repo.renditions.mezzanines._far = Caches([shared])
        read_record(repo)
        repo.renditions.mezzanines.flush()
        current = repo.reader.resolve(ADMIN, [ImageName("a/b")])
        assert shared.get(repo.renditions.mezzanines._key(current, 0)) is None


def test_records_fill_the_share_of_mezzanines_and_displace_none(house, original):
    names = [f"p{number}" for number in range(16)]
    for name in names:
        (house.folder / "data" / f"{name}.jpg").write_bytes(original)
    settings = replace(embedded(house.folder / "own").local_cache_configuration, max_size=20 << 20, mezzanine_share=0.5)
    with house.opened("own", local_cache_configuration=settings) as repo:
        mezzanines = repo.renditions.mezzanines
        fetch(repo, width=300)
        with ThreadPoolExecutor(4) as pool:  # more than are written at a time
            list(pool.map(lambda name: read_record(repo, name), names))
        mezzanines.flush()
        mezzanines._files.sweep()
        mezzanines._recent.clear()

        def is_stored(name):
            return mezzanines.smallest(repo.reader.resolve(ADMIN, [ImageName(name)])) is not None

        assert is_stored("a/b"), "what was looked at is not displaced"
        missing = [name for name in names if not is_stored(name)]
        assert 4 < len(names) + 1 - len(missing) < 10
        fetch(repo, missing[0], width=200)
        mezzanines.flush()
        mezzanines._recent.clear()
        assert not is_stored(missing[0]), "the record does not count as the first look"


def test_many_variants_asked_for_at_once_fetch_it_twice_at_most(house):
    widths = (40, 60, 80, 100, 120, 140)
    with house.opened() as repo, ThreadPoolExecutor(len(widths)) as pool:
        current = repo.reader.resolve(ADMIN, [ImageName("a/b")])
        start = threading.Barrier(len(widths))

        def ask_for(width):
            start.wait(10)
            return repo.reader.fetch(
                repo.reader.variant(ADMIN, current, Recipe(width=width, background="ffffff", quality=82))
            )

        served = list(pool.map(ask_for, widths))
        assert [pictures.load(one.rendition.body).width for one in served] == list(widths)
        assert len(repo.origin._store.got) <= 2


def mezzanine_files(house):
    return list(house.folder.glob("*/cache/*/mezzanines/??/[!.]*"))


def test_a_mezzanine_takes_no_room_of_renditions(house):
    with house.opened() as repo:
        fetch(repo, width=300)
        repo.renditions.mezzanines.flush()
        assert len(mezzanine_files(house)) == 1
        assert len(list(house.folder.glob("*/cache/*/renditions/??/[!.]*"))) == 1
        current = repo.reader.resolve(ADMIN, [ImageName("a/b")])
        key = repo.renditions.mezzanines._key(current, 4)
        assert [tier.get(key) for tier in repo.renditions.caches.tiers] == [None] * 3


def test_without_a_share_for_mezzanines_variants_are_rendered_all_the_same(house):
    settings = replace(embedded(house.folder / "own").local_cache_configuration, mezzanine_share=0.0)
    with house.opened("own", local_cache_configuration=settings) as repo:
        assert fetch(repo, width=300).layer == fetch(repo, width=200).layer == "rendered"
        assert mezzanine_files(house) == []


def test_once_the_share_is_full_only_what_is_needed_again_displaces_another(house, original):
    for number in range(16):
        (house.folder / "data" / f"p{number}.jpg").write_bytes(original)
    settings = replace(embedded(house.folder / "own").local_cache_configuration, max_size=20 << 20, mezzanine_share=0.5)
    names = [f"p{number}" for number in range(16)]
    with house.opened("own", local_cache_configuration=settings) as repo:

        def look(name, width):
            fetch(repo, name, width=width)
            repo.renditions.mezzanines.flush()
            repo.renditions.mezzanines._files.sweep()
            repo.renditions.mezzanines._recent.clear()
            return {name for name in names if repo.renditions.mezzanines._files.get(key(name))}

        def key(name):
            return repo.renditions.mezzanines._key(repo.reader.resolve(ADMIN, [ImageName(name)]), 4)

        first = [look(name, 200) for name in names][-1]
        assert first == set(names[: len(first)])
        assert 4 < len(first) < 10
        for path in mezzanine_files(house):  # an hour ago: within a second, what cost a little less would go
            times = path.stat()
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns - 3600 * 10**9))
        assert names[-1] in look(names[-1], 201)
        assert sum(path.stat().st_size for path in mezzanine_files(house)) <= 10 << 20
        assert len(list(house.folder.glob("own/cache/*/renditions/??/[!.]*"))) == 17, "all renditions are there"


def test_a_flipped_byte_in_a_mezzanine_is_a_miss_and_it_is_made_anew(house, caplog):
    with house.opened("node") as repo:
        expected = {width: fetch(repo, width=width).rendition.body for width in (90, 91, 92)}
    (path,) = mezzanine_files(house)
    whole = path.read_bytes()
    for width, place in zip(expected, (40, len(whole) // 2, len(whole) - 3), strict=True):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        shutil.rmtree(next(house.folder.glob("node/cache/*/renditions")))
        caplog.clear()
        with house.opened("node") as repo:
            assert fetch(repo, width=width).rendition.body == expected[width]
        assert "damaged" in caplog.text
        assert path.read_bytes() == whole


def test_a_mezzanine_that_turns_out_to_be_damaged_when_it_is_rendered_is_made_anew(house, caplog):
    with house.opened() as repo:
        mezzanines = repo.renditions.mezzanines
        expected = {width: fetch(repo, width=width).rendition.body for width in (90, 91)}
        mezzanines.flush()
        (path,) = mezzanine_files(house)
        whole = path.read_bytes()
        mezzanines._recent.clear()
        repo.renditions.caches.purge("a/b@")
        path.write_bytes(whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :])
        assert fetch(repo, width=90).rendition.body == expected[90]
        assert "damaged" in caplog.text
        assert fetch(repo, width=91).rendition.body == expected[91]
        mezzanines.flush()
        assert path.read_bytes() == whole


def test_what_waits_for_its_turn_to_render_holds_no_pixels(house):
    with house.opened() as repo:
        mezzanines = repo.renditions.mezzanines
        fetch(repo, width=90)
        mezzanines.flush()
        mezzanines._recent.clear()
        current = repo.reader.resolve(ADMIN, [ImageName("a/b")])
        with ExitStack() as opened:
            loads = [mezzanines.find(current, Recipe(width=width), pytest.fail, opened) for width in (91, 92)]
            assert not mezzanines._recent
            assert loads[0]() is loads[1](), "read once"


@pytest.mark.parametrize(("mode", "bytes_each"), [("L", 1), ("LA", 4), ("RGB", 4), ("RGBA", 4)])
def test_the_bound_of_recent_mezzanines_counts_what_they_take_in_memory(house, wide, mode, bytes_each):
    image = wide.convert(mode)
    if mode.endswith("A"):
        image.putpixel((0, 0), (*image.getpixel((0, 0))[:-1], 0))
    (house.folder / "data" / "it.png").write_bytes(pictures.save(image, "png", compress_level=1))
    with house.opened() as repo:
        fetch(repo, "it", width=90)
        recent = repo.renditions.mezzanines._recent
        pixels_held = sum(mezzanine.image.width * mezzanine.image.height for mezzanine in recent.values())
        assert recent.currsize == bytes_each * pixels_held > 0


def test_of_an_original_without_mezzanines_that_is_remembered(house):
    (house.folder / "data" / "small.jpg").write_bytes(pictures.jpeg(pictures.photo(320, 240)))
    with house.opened() as repo:
        files = repo.renditions.mezzanines._files = Counted(repo.renditions.mezzanines._files)
        fetch(repo, "small", width=30)
        assert len(files.got) <= 3 * 2, "each mezzanine that there could be, before and within the single flight"
        files.got.clear()
        for width in (31, 32, 33):
            fetch(repo, "small", width=width)
        assert files.got == []
        assert len(repo.origin._store.got) == 4


def test_without_a_disk_mezzanines_are_stored_in_memory(house):
    settings = replace(embedded(house.folder).local_cache_configuration, enabled=False)
    with house.opened(local_cache_configuration=settings) as repo:
        fetch(repo, width=300)
        fetch(repo, width=100)
        assert len(repo.origin._store.got) == 1


def test_another_original_has_other_mezzanines(house, original):
    with house.opened(freshness=0) as repo:
        before = fetch(repo, width=100).rendition.body
        upload(repo, "a/b", pictures.jpeg(pictures.photo(3000, 600, seed=1)))
        after = fetch(repo, width=100).rendition.body
        assert pictures.load(before).size != pictures.load(after).size
        upload(repo, "a/b", original)
        assert fetch(repo, width=100).rendition.body == before


def test_a_removed_image_leaves_no_mezzanine(house):
    with house.opened() as repo:
        fetch(repo, width=100)
        fetch(repo, width=700)
        gone = repo.writer.delete(ADMIN, ImageName("a/b"))
        assert gone["disk"] == 2 + 2
        assert mezzanine_files(house) == []


def test_a_damaged_original_is_told_to_everybody_and_not_remembered(house, original):
    path = house.folder / "data" / "a" / "b.jpg"
    path.write_bytes(original[: len(original) // 2])
    with house.opened(freshness=0) as repo:
        for _ in range(2):
            with pytest.raises(BrokenPicture):
                fetch(repo, width=100)
        path.write_bytes(original)
        assert fetch(repo, width=100).layer == "rendered"


def test_a_mezzanine_of_another_node_that_cannot_be_read_is_made_anew(house, caplog):
    with house.opened() as repo:
        current = repo.reader.resolve(ADMIN, [ImageName("a/b")])
        shared = MemoryTier(64 << 20)
        repo.renditions.mezzanines._far = Caches([shared])
        key = repo.renditions.mezzanines._key(current, 0)
        shared.put(key, Rendition(b"image_repo mezzanine 1\n and no more", render.MEZZANINE_TYPE, "", 0.0))
        before = fetch(repo, width=300).rendition.body
        assert "cannot be read" in caplog.text
        repo.writer.purge(ADMIN, ImageName("a/b"))
        assert fetch(repo, width=300).rendition.body == before
        assert len(repo.origin._store.got) == 1, "what is shared by now can be read"


def test_what_other_nodes_keep_is_asked_for_once(house):
    with house.opened() as repo:
        shared = Counted(MemoryTier(64 << 20))
        repo.renditions.mezzanines._far = Caches([shared])
        fetch(repo, width=300)
        assert len(shared.got) == 1, "there is nothing: the original is fetched"
        repo.renditions.mezzanines.flush()
        repo.renditions.mezzanines._files = None
        repo.renditions.mezzanines._recent.clear()
        repo.renditions.mezzanines._plans.clear()
        fetch(repo, width=200)
        assert (len(shared.got), len(repo.origin._store.got)) == (2, 1), (
            "nothing is stored here, and it is rendered from that"
        )


@pytest.mark.servers
def test_a_new_node_never_fetches_a_large_original_for_a_small_variant(swift, container, tmp_path, original):
    settings = replace(swift.settings, container=container)
    cache = SwiftCacheConfiguration(container=container + "-cache")
    house = Nodes(tmp_path, settings)
    with house.opened(swift_cache_configuration=cache, create_new=True) as one:
        upload(one, "a/b", original)
        first = fetch(one, width=300)
    with house.opened(swift_cache_configuration=cache) as two:
        assert (fetch(two, width=300).layer, fetch(two, width=200).layer) == ("cache", "rendered")
        assert fetch(two, width=300).rendition.body == first.rendition.body
        assert two.origin._store.got == []
