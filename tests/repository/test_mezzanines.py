"""Working copies: which variants come from one, how good these are, and that nothing shows which caches there were."""

import io
import itertools
import shutil
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pictures
import piexif
import pytest
from PIL import Image
from rendered import LIMITS, pixels, rendered, ssim
from webserver import embedded

from image_repo import render, wiring
from image_repo.access.principal import ADMIN
from image_repo.caches.memory import MemoryTier
from image_repo.caches.tiers import Caches
from image_repo.config import PersistentStoreConfiguration, SwiftCacheConfiguration
from image_repo.errors import BadParameter, BrokenPicture, OverBudget
from image_repo.model.key import Key
from image_repo.model.names import ImageName
from image_repo.model.operations import Region
from image_repo.model.recipe import Recipe, read_request
from image_repo.model.rendition import Rendition
from image_repo.render import MezzaninePlan, choose_copy
from image_repo.render.mezzanine_file import CopyFile

#: its sides are no multiples of anything
WIDE = (3005, 2003)


@pytest.fixture(scope="module")
def wide():
    """A picture with working copies; as sharp as those of cameras, whose pixels are interpolated."""
    return pictures.photo(WIDE[0] // 2, WIDE[1] // 2).resize(WIDE, Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def original(wide):
    return pictures.jpeg(wide, quality=92)


def copied(source):
    return render.copies(io.BytesIO(source), LIMITS)


def from_copy(source, **recipe):
    """What is made of the working copy that the recipe asks for."""
    recipe = Recipe(**{"kind": "png", **recipe})
    made = copied(source)
    body = made.pictures[choose_copy(recipe, made.original)].body
    return pictures.load(render.render(io.BytesIO(body), recipe, LIMITS, from_copy=True).body)


# -- which variants --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "has"),
    [
        pytest.param((1638, 900), False, id="one and a half megapixels: none"),
        pytest.param((1639, 900), True, id="two megapixels"),
        pytest.param((900, 1639), True, id="upright"),
        pytest.param((6000, 4000), True, id="24 megapixels"),
        pytest.param((30_000, 400), True, id="a panorama"),
    ],
)
def test_whether_an_original_has_copies_follows_from_its_size(size, has):
    source = pictures.jpeg(Image.new("RGB", size))
    told = render.judge_copies(io.BytesIO(source), LIMITS)
    assert told == (MezzaninePlan(size) if has else None)
    made = copied(source)
    assert made.original == told
    sides = {which: (max(each.width, each.height)) for which, each in made.pictures.items()}
    assert sides == ({1: 1024, 2: 640, 3: 400, 4: 250} if has else {})


LARGE = MezzaninePlan((6000, 4000))


@pytest.mark.parametrize(
    ("recipe", "which"),
    [
        pytest.param({"width": 156}, 4, id="156 pixels from the smallest one"),
        pytest.param({"width": 157}, 3, id="then from the next"),
        pytest.param({"width": 400}, 2, id="400 pixels"),
        pytest.param({"width": 640}, 1, id="640 pixels"),
        pytest.param({"width": 641}, 0, id="more from the original"),
        pytest.param({"height": 266}, 2, id="by height"),
        pytest.param({"height": 320}, 1, id="the long side decides nothing by itself"),
        pytest.param({"width": 300, "height": 300, "fit": "cover"}, 1, id="cover: what is left of a side counts"),
        pytest.param({"width": 400, "height": 400, "fit": "contain"}, 2, id="contain: what is in the padding"),
        pytest.param({"width": 200, "height": 2000}, 3, id="a box that one side decides"),
        pytest.param({"width": 5, "height": 300, "fit": "fill"}, 1, id="fill: the side that shrinks less"),
        pytest.param({"width": 300, "rotate": 90}, 1, id="turned: the width is the short side"),
        pytest.param({}, 0, id="as large as it is"),
        pytest.param({"width": 100, "page": 2}, 0, id="another page"),
        pytest.param({"width": 100, "animate": True, "kind": "gif"}, 0, id="all frames"),
        pytest.param({"width": 100, "region": Region("px", 0, 0, 3000, 2000)}, 3, id="a region, far away"),
        pytest.param({"width": 300, "region": Region("px", 0, 0, 3000, 2000)}, 1, id="a region, nearer"),
        pytest.param({"width": 300, "region": Region("pct", 0, 0, 10, 10)}, 0, id="a region, near"),
        pytest.param({"kind": "original"}, 0, id="the original itself"),
    ],
)
def test_the_copy_follows_from_recipe_and_size(recipe, which):
    assert choose_copy(Recipe(**recipe), LARGE) == which
    assert choose_copy(Recipe(**recipe), None) == 0


def test_rounding_the_short_side_decides_nothing():
    for height in range(500, 4000, 7):
        for width, which in ((250, 3), (400, 2), (640, 1)):
            assert choose_copy(Recipe(width=width), MezzaninePlan((6000, height))) == which


def test_a_recipe_that_no_size_sends_to_a_copy_is_known_beforehand():
    for width, height, fit in itertools.product((None, 40, 640, 641, 9000), (None, 40, 3000), ("inside", "cover")):
        recipe = Recipe(width=width, height=height, fit=fit if width and height else "inside")
        for side in (2000, 6000, 14_000, 60_000):
            assert render.may_use_copy(recipe) or not choose_copy(recipe, MezzaninePlan((side, side)))


def test_nobody_can_ask_for_a_copy():
    with pytest.raises(BadParameter):
        read_request([("copy", "1")])
    key = Key(ImageName("a/b"), "v", Recipe(copy=2), "1a2b3c4d")
    assert str(key) == "a/b@v+copy(2)+g(1a2b3c4d).jpg"
    assert Key.parse(str(key)) == key


def test_a_header_tells_as_much_as_a_copy(original):
    told = render.judge_copies(io.BytesIO(original), LIMITS)
    assert told == copied(original).original == MezzaninePlan(WIDE)
    for made in copied(original).pictures.values():
        assert render.judge_copies(io.BytesIO(made.body), LIMITS, from_copy=True) == told


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(lambda: pictures.jpeg(pictures.photo(320, 240)), id="small"),
        pytest.param(lambda: pictures.animation("gif", size=(2000, 40)), id="moving"),
        pytest.param(lambda: pictures.tiff_pages(2, (2000, 40)), id="of many pages"),
    ],
)
def test_some_originals_have_none(source):
    assert copied(source()).original is None
    assert copied(source()).pictures == {}
    assert render.judge_copies(io.BytesIO(source()), LIMITS) is None


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
def test_what_comes_from_a_copy_is_as_good_as_from_a_full_decode(wide, kind):
    source = pictures.save(wide, **kind)
    whole = pictures.load(source)
    for width in (50, 156, 250, 333, 400, 640):
        made = from_copy(source, width=width)
        assert ssim(made, _ideal(whole, width)) >= 0.995, width


@pytest.mark.parametrize("orientation", range(1, 9))
def test_its_edges_are_where_they_are_in_the_original(wide, orientation):
    """Sides that the scale does not divide: a copy that ignored it would be off by part of a pixel."""
    source = pictures.jpeg(wide, quality=95, orientation=orientation)
    made = from_copy(source, width=200, height=200)
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
        made, direct = from_copy(original, **recipe), pictures.load(rendered(original, kind="png", **recipe).body)
        assert made.size == direct.size
        assert ssim(made, direct) >= 0.99, recipe


def _mode(source):
    """Of the copies of an original."""
    (mode,) = {CopyFile.read(io.BytesIO(made.body)).image.mode for made in copied(source).pictures.values()}
    return mode


def test_transparency_stays():
    image = pictures.photo(1900, 300).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    source = pictures.save(image, "png", compress_level=1)
    assert _mode(source) == "RGBA"
    made, direct = (
        pixels(picture)
        for picture in (
            from_copy(source, width=200, background="ff0000"),
            pictures.load(rendered(source, kind="png", width=200, background="ff0000").body),
        )
    )
    shown = pixels(image)[..., 3:] / 255
    flat = pixels(image)[..., :3] * shown + np.array([255, 0, 0]) * (1 - shown)
    ideal = np.stack(
        [pixels(_ideal(Image.fromarray(band.astype(np.float32)), 200)) for band in np.moveaxis(flat, 2, 0)], 2
    )
    assert abs(made - ideal).mean() < abs(direct - ideal).mean() + 0.125  # of 255
    alpha = from_copy(source, width=200).getchannel("A")
    assert abs(np.asarray(alpha, np.int16) - np.asarray(_ideal(image.getchannel("A"), 200))).max() <= 2


def test_what_is_opaque_throughout_needs_no_transparency():
    source = pictures.save(pictures.photo(1900, 300).convert("RGBA"), "png", compress_level=1)
    assert _mode(source) == "RGB"


def test_its_colours_are_those_of_the_original():
    source = pictures.jpeg(Image.new("RGB", (3000, 400), (40, 200, 60)), quality=95, adobe_rgb=True)
    made, direct = from_copy(source, width=60), pictures.load(rendered(source, kind="png", width=60).body)
    assert made.getpixel((30, 4)) == pytest.approx(direct.getpixel((30, 4)), abs=2)
    assert made.getpixel((30, 4))[0] < 20, "Adobe RGB was taken for sRGB"
    assert "icc_profile" not in made.info


def test_artist_and_copyright_come_through():
    source = pictures.jpeg(pictures.photo(3000, 300), artist="Ada Müller", copyright="CC BY 4.0", gps=True)
    made = from_copy(source, kind="jpg", width=60, copyright=True, quality=80)
    direct = pictures.load(rendered(source, kind="jpg", width=60, copyright=True, quality=80).body)
    assert made.getexif()[0x13B] == direct.getexif()[0x13B]
    assert dict(made.getexif()) == dict(direct.getexif())
    assert not from_copy(source, kind="jpg", width=60, quality=80).getexif()


def test_a_copy_holds_nothing_of_the_original_but_what_a_variant_needs():
    source = pictures.jpeg(pictures.photo(3000, 300), gps=True, camera=True, orientation=6)
    for made in copied(source).pictures.values():
        assert pictures.SECRET.encode() not in made.body
        copy = CopyFile.read(io.BytesIO(made.body))
        assert len(made.body) < copy.image.width * copy.image.height * 3 + 400
        assert set(piexif.load(copy.note)["0th"]) <= {0x100, 0x101, 0x10E, 0x112}
        assert not piexif.load(copy.note)["GPS"]


# -- as bytes ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_packed_it_has_the_same_pixels(mode):
    image = pictures.photo(1700, 300).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    source = pictures.save(image.convert(mode), "png", compress_level=1)
    made = copied(source)
    assert _mode(source) == mode
    packed = render.packed(made.pictures[1].body)
    assert len(packed) < 0.75 * len(made.pictures[1].body)
    assert render.unpacked(packed, LIMITS) == made


def test_packed_is_what_it_says_it_is_and_not_what_its_length_suggests():
    """A picture whose packed bytes are as many as its pixels."""
    for seed in itertools.count():
        noise = np.random.default_rng(seed).integers(0, 154, (1, 1024), dtype=np.uint8)
        copy = CopyFile(Image.fromarray(noise), b"note", b"")
        if len(copy.write(packed=True)) == len(copy.write()):
            break
    read = CopyFile.read(io.BytesIO(copy.write(packed=True)))
    assert (read.image.tobytes(), read.note) == (copy.image.tobytes(), copy.note)


@pytest.mark.parametrize("size", [(6000, 6000), (1024, 684), (1, 1)])
def test_a_packed_picture_of_another_size_is_not_unpacked(original, size):
    """However small it is packed, it may take gigabytes."""
    bomb = io.BytesIO()
    Image.new("RGB", size).save(bomb, "WEBP", lossless=True, quality=0, method=0)
    packed = render.packed(copied(original).pictures[1].body)
    head = packed[: packed.index(b"RIFF")]
    tracemalloc.start()
    try:
        with pytest.raises(BrokenPicture):
            render.unpacked(head + bomb.getvalue(), LIMITS)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("stored", "problem"),
    [((6000, 5000), BrokenPicture), ((1500, 1000), BrokenPicture), ((120_000, 80_000), OverBudget)],
    ids=["of another shape", "too small to have any", "larger than any may be"],
)
def test_a_packed_copy_of_what_cannot_be_is_refused(original, stored, problem):
    copy = CopyFile.read(io.BytesIO(copied(original).pictures[1].body))
    tags = {piexif.ImageIFD.ImageWidth: stored[0], piexif.ImageIFD.ImageLength: stored[1]}
    with pytest.raises(problem):
        render.unpacked(replace(copy, note=piexif.dump({"0th": tags})).write(packed=True), LIMITS)


def test_what_is_no_copy_is_refused(original):
    whole = copied(original).pictures[1].body
    packed = render.packed(whole)
    wrong = [body[:23] + width + body[25:] for body in (whole, packed) for width in (b"\0\1", b"\4\1", b"\xff\xff")]
    cut = [b"", original, whole[:-1], whole[:20], packed[:-100], b"x" + whole, whole.replace(b"RGB\0", b"CMYK")]
    for body in (*cut, *wrong):
        with pytest.raises(BrokenPicture):
            render.unpacked(body, LIMITS)
        with pytest.raises(BrokenPicture):
            render.render(io.BytesIO(body), Recipe(width=100), LIMITS, from_copy=True)


# -- made at upload ---------------------------------------------------------------------


def test_an_upload_that_was_cut_off_is_refused_by_the_decode_that_makes_the_copies(original):
    for part in (0.2, 0.5, 0.9, 0.99):
        cut = original[: int(len(original) * part)]
        with pytest.raises(BrokenPicture):
            render.verify(io.BytesIO(cut), LIMITS)


def test_the_same_copies_are_made_at_upload_and_afterwards(original):
    assert render.verify(io.BytesIO(original), LIMITS) == copied(original)


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

    def __getattr__(self, name):
        return getattr(self._inner, name)


class House:
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
        stores = wiring.build_stores(config, {})
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
    house = House(tmp_path)
    (tmp_path / "data" / "a").mkdir(parents=True)
    (tmp_path / "data" / "a" / "b.jpg").write_bytes(original)
    return house


VARIANTS = ({"width": 300}, {"width": 50, "kind": "png", "quality": None}, {"width": 500}, {"height": 200})


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
    assert bodies[0] == bodies[1] == bodies[2] == bodies[3]
    assert seen[0][0].etag == seen[1][0].etag == seen[2][0].etag


def test_the_original_is_fetched_once_for_all_small_variants(house):
    with house.opened("node") as repo:
        fetch(repo, width=300)
        assert len(repo.origin._store.got) == 1
        for width in (40, 80, 160, 320):
            fetch(repo, width=width)
        assert len(repo.origin._store.got) == 1
        assert fetch(repo, width=1500).layer == "rendered"
        assert len(repo.origin._store.got) == 2
    with house.opened("node") as repo:  # after a restart
        fetch(repo, width=41)
        assert repo.origin._store.got == []


def test_after_an_upload_no_small_variant_fetches_the_original(house, original):
    with house.opened() as repo:
        upload(repo, "new", original)
        repo.origin._store.got.clear()
        assert fetch(repo, "new", width=300).layer == "rendered"
        assert "new.jpg" not in repo.origin._store.got


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


def test_a_copy_takes_no_memory(house):
    with house.opened() as repo:
        current = repo.reader.resolve(ADMIN, [ImageName("a/b")])
        fetch(repo, width=300)
        memory, disk = repo.renditions.caches.tiers[:2]
        key = repo.reader.variant(ADMIN, current, Recipe(copy=2)).key
        assert (memory.name, memory.get(key)) == ("memory", None)
        assert (disk.name, disk.get(key).media_type) == ("disk", render.COPY_TYPE)


def test_of_an_original_without_copies_that_is_remembered(house):
    (house.folder / "data" / "small.jpg").write_bytes(pictures.jpeg(pictures.photo(320, 240)))
    with house.opened() as repo:
        tier = Counted(repo.renditions.mezzanines._near.tiers[0])
        repo.renditions.mezzanines._near.tiers = (tier,)
        fetch(repo, "small", width=30)
        assert len(tier.got) <= 2
        tier.got.clear()
        for width in (31, 32, 33):
            fetch(repo, "small", width=width)
        assert tier.got == []
        assert len(repo.origin._store.got) == 4


def test_without_a_disk_copies_are_kept_in_memory(house):
    settings = replace(embedded(house.folder).local_cache_configuration, enabled=False)
    with house.opened(local_cache_configuration=settings) as repo:
        fetch(repo, width=300)
        fetch(repo, width=100)
        assert len(repo.origin._store.got) == 1


def test_another_original_has_other_copies(house, original):
    with house.opened(freshness=0) as repo:
        before = fetch(repo, width=100).rendition.body
        upload(repo, "a/b", pictures.jpeg(pictures.photo(3000, 300, seed=1)))
        after = fetch(repo, width=100).rendition.body
        assert pictures.load(before).size != pictures.load(after).size
        upload(repo, "a/b", original)
        assert fetch(repo, width=100).rendition.body == before


def test_a_removed_image_leaves_no_copy(house):
    with house.opened() as repo:
        fetch(repo, width=100)
        current = repo.reader.resolve(ADMIN, [ImageName("a/b")])
        gone = repo.writer.delete(ADMIN, ImageName("a/b"))
        assert gone["disk"] == 1 + len(render.COPIES)
        assert repo.renditions.caches.tiers[1].get(repo.reader.variant(ADMIN, current, Recipe(copy=2)).key) is None


def test_a_damaged_original_is_told_to_everybody_and_not_remembered(house, original):
    path = house.folder / "data" / "a" / "b.jpg"
    path.write_bytes(original[: len(original) // 2])
    with house.opened(freshness=0) as repo:
        for _ in range(2):
            with pytest.raises(BrokenPicture):
                fetch(repo, width=100)
        path.write_bytes(original)
        assert fetch(repo, width=100).layer == "rendered"


def test_a_copy_of_another_node_that_cannot_be_read_is_made_anew(house, caplog):
    with house.opened() as repo:
        current = repo.reader.resolve(ADMIN, [ImageName("a/b")])
        shared = MemoryTier(64 << 20)
        repo.renditions.mezzanines._far = Caches([shared])
        key = repo.reader.variant(ADMIN, current, Recipe(copy=1)).key
        shared.put(key, Rendition(b"image_repo copy 2\n and no more", render.COPY_TYPE, "", 0.0))
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
        repo.renditions.mezzanines._near = Caches([MemoryTier(0)])
        repo.renditions.mezzanines._remembered.clear()
        fetch(repo, width=200)
        assert (len(shared.got), len(repo.origin._store.got)) == (2, 1), (
            "nothing can be kept here, and it is made out of that"
        )


@pytest.mark.servers
def test_a_new_node_never_fetches_a_large_original_for_a_small_variant(swift, container, tmp_path, original):
    settings = replace(swift.settings, container=container)
    cache = SwiftCacheConfiguration(container=container + "-cache")
    house = House(tmp_path, settings)
    with house.opened(swift_cache_configuration=cache, create_new=True) as one:
        upload(one, "a/b", original)
        first = fetch(one, width=300)
    with house.opened(swift_cache_configuration=cache) as two:
        assert (fetch(two, width=300).layer, fetch(two, width=200).layer) == ("cache", "rendered")
        assert fetch(two, width=300).rendition.body == first.rendition.body
        assert two.origin._store.got == []
