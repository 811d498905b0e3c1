"""What comes out of the renderer: sizes, orientation, regions, transparency, pages, animations, formats."""

from __future__ import annotations

import io
import tempfile
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import animation, corners, frame_colour, jpeg, photo, png, save, tiff_pages
from PIL import Image, ImageFilter, ImageOps
from rendered import LIMITS, foreign_parts, picture, pixels, rendered, ssim

from image_repo import render
from image_repo.config import RenderConfiguration
from image_repo.errors import BadParameter, OverBudget
from image_repo.model.formats import BY_KIND, WRITABLE
from image_repo.model.operations import Region
from image_repo.model.recipe import Recipe
from image_repo.render.geometry import SIDEWAYS, cover_box, plan, to_stored

# -- sizes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "parameters", "expected"),
    [
        pytest.param((4000, 3000), {"width": 300}, (300, 225), id="a width alone keeps the ratio"),
        pytest.param((4000, 3000), {"height": 300}, (400, 300), id="a height alone keeps the ratio"),
        pytest.param((4000, 3000), {"width": 300, "height": 100}, (133, 100), id="inside takes the tighter side"),
        pytest.param((1000, 750), {}, (1000, 750), id="no box leaves the size"),
        pytest.param((40, 30), {"width": 300}, (40, 30), id="nothing is enlarged"),
        pytest.param((40, 30), {"width": 300, "enlarge": True}, (300, 225), id="unless that is asked for"),
        pytest.param((1000, 3), {"width": 100}, (100, 1), id="a side has at least one pixel"),
        pytest.param((3, 9000), {"height": 10}, (1, 10), id="the other side too"),
        pytest.param((400, 300), {"width": 100, "height": 100, "fit": "cover"}, (100, 100), id="cover fills the box"),
        pytest.param(
            (40, 30),
            {"width": 200, "height": 100, "fit": "cover"},
            (40, 20),
            id="a cover box that is too large shrinks with its ratio",
        ),
        pytest.param(
            (40, 30),
            {"width": 200, "height": 100, "fit": "cover", "enlarge": True},
            (200, 100),
            id="cover enlarges when asked",
        ),
        pytest.param(
            (400, 300), {"width": 100, "height": 100, "fit": "contain"}, (100, 100), id="contain pads to the box"
        ),
        pytest.param(
            (40, 30), {"width": 100, "height": 100, "fit": "contain"}, (100, 100), id="also around a small picture"
        ),
        pytest.param((400, 300), {"width": 100, "height": 100, "fit": "fill"}, (100, 100), id="fill ignores the ratio"),
        pytest.param((40, 300), {"width": 100, "height": 100, "fit": "fill"}, (40, 100), id="fill enlarges no side"),
        pytest.param((400, 300), {"width": 100, "rotate": 90}, (100, 133), id="the box holds after rotating"),
        pytest.param((400, 300), {"height": 100, "rotate": 270}, (75, 100), id="the height too"),
        pytest.param(
            (400, 300),
            {"width": 50, "height": 100, "fit": "cover", "rotate": 90},
            (50, 100),
            id="a cover box after rotating",
        ),
        pytest.param(
            (400, 300),
            {"width": 50, "height": 90, "fit": "contain", "rotate": 90},
            (50, 90),
            id="a contain box after rotating",
        ),
        pytest.param((400, 300), {"region": Region("px", 10, 20, 100, 50)}, (100, 50), id="a region in pixels"),
        pytest.param(
            (400, 300), {"region": Region("px", 350, 0, 100, 50)}, (50, 50), id="a region that sticks out is cut"
        ),
        pytest.param(
            (400, 300), {"region": Region("pct", 25, 25, 50, 50), "width": 100}, (100, 75), id="a region in percent"
        ),
        pytest.param(
            (400, 300),
            {"region": Region("pct", 99.99, 99.99, 0.001, 0.001)},
            (1, 1),
            id="a region of less than a pixel",
        ),
    ],
)
def test_size(source, parameters, expected):
    assert picture(png(Image.new("RGB", source, "teal")), **parameters).size == expected


@pytest.mark.parametrize("width", [1, 7, 33, 99, 255, 300])
def test_every_size_is_the_one_that_the_plan_says_for_jpeg_too(width):
    made = picture(jpeg(photo(1003, 701)), width=width)
    assert made.size == plan(Recipe(width=width), (1003, 701)).size


def test_a_region_outside_of_the_picture_is_refused():
    with pytest.raises(BadParameter, match="400x300"):
        rendered(png(Image.new("RGB", (400, 300))), region=Region("px", 400, 0, 10, 10))


@pytest.mark.parametrize(("turn", "is_refused"), [(45, True), (0.5, True), (90, False), (180, False), (0, False)])
def test_only_so_many_pixels_are_rotated_by_any_angle(turn: float, is_refused: bool) -> None:
    recipe = Recipe(rotate=turn)
    plan(recipe, (4000, 4000))
    if is_refused:
        with pytest.raises(OverBudget, match="smaller size"):
            plan(recipe, (4001, 4000))
        plan(Recipe(rotate=turn, width=4000), (40_000, 30_000))
    else:
        plan(recipe, (4001, 4000))


# -- what is where -----------------------------------------------------------------------


def quarters(image: Image.Image) -> list[tuple[int, ...]]:
    """The colours of the four corners, clockwise from the top left."""
    image = image.convert("RGB")
    w, h = image.size
    points = ((w // 8, h // 8), (w - 1 - w // 8, h // 8), (w - 1 - w // 8, h - 1 - h // 8), (w // 8, h - 1 - h // 8))
    return [tuple(round(v / 85) * 85 for v in image.getpixel(point)) for point in points]


RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("width", [None, 30], ids=["at full size", "shrunk"])
def test_every_orientation_stands_upright(orientation, width):
    source = jpeg(corners(480, 320), orientation=orientation)
    made = picture(source, width=width)
    assert made.size == ((480, 320) if width is None else (30, 20))
    assert quarters(made) == [RED, GREEN, BLUE, WHITE]
    assert render.inspect(io.BytesIO(source), LIMITS, location=False).width == 480


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_orientation_counts_in_other_formats(kind):
    stored = corners(48, 32).transpose(Image.Transpose.ROTATE_90)
    tags = Image.Exif()
    tags[0x112] = 6
    source = save(stored, kind, exif=tags, **({"lossless": True} if kind == "WEBP" else {}))
    assert quarters(picture(source)) == [RED, GREEN, BLUE, WHITE]
    assert render.inspect(io.BytesIO(source), LIMITS, location=False).width == 48


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_region_is_taken_from_the_upright_picture(orientation):
    source = jpeg(corners(480, 320), orientation=orientation)
    made = picture(source, region=Region("px", 0, 160, 240, 160), width=24)
    assert made.size == (24, 16)
    assert set(quarters(made)) == {WHITE}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        pytest.param({"flip": "h"}, [GREEN, RED, WHITE, BLUE], id="mirrored left and right"),
        pytest.param({"flip": "v"}, [WHITE, BLUE, GREEN, RED], id="mirrored top and bottom"),
        pytest.param({"flip": "hv"}, [BLUE, WHITE, RED, GREEN], id="mirrored both ways"),
        pytest.param({"rotate": 90}, [WHITE, RED, GREEN, BLUE], id="90 degrees clockwise"),
        pytest.param({"rotate": 180}, [BLUE, WHITE, RED, GREEN], id="180 degrees"),
        pytest.param({"rotate": 270}, [GREEN, BLUE, WHITE, RED], id="270 degrees clockwise"),
        pytest.param({"flip": "h", "rotate": 90}, [WHITE, RED, GREEN, BLUE][::-1], id="mirrored before it is rotated"),
    ],
)
def test_turning(parameters, expected):
    if parameters == {"flip": "h", "rotate": 90}:
        flipped = ImageOps.mirror(corners()).transpose(Image.Transpose.ROTATE_270)
        expected = quarters(flipped)
    assert quarters(picture(png(corners()), **parameters)) == expected


@pytest.mark.parametrize(
    ("focus", "expected"),
    [((0.0, 0.0), (255, 0, 0)), ((1.0, 0.0), (0, 255, 0)), ((1.0, 1.0), (0, 0, 255)), ((0.0, 1.0), (255, 255, 255))],
)
def test_cover_keeps_what_the_focus_names(focus, expected):
    wide, tall = corners(400, 100), corners(100, 400)
    for image in (wide, tall):
        made = picture(png(image), width=40, height=40, fit="cover", focus=focus)
        x, y = (5 if focus[0] == 0 else 34), (5 if focus[1] == 0 else 34)
        assert made.getpixel((x, y)) == expected


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("side", ["left", "right"])
def test_smart_focus_finds_what_stands_out(side, orientation):
    image = Image.new("RGB", (800, 200), (120, 130, 140))
    image.paste(photo(160, 160), (20 if side == "left" else 620, 20))
    source = jpeg(image, orientation=orientation)
    made = picture(source, width=100, height=100, fit="cover", focus="smart")
    assert pixels(made).std(axis=(0, 1)).min() > 20
    middle = picture(source, width=100, height=100, fit="cover", focus=(0.5, 0.5))
    assert pixels(middle).std(axis=(0, 1)).max() < 2


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (2, 2)])
def test_smart_focus_bears_tiny_pictures(size):
    assert picture(png(Image.new("RGB", size)), width=5, height=5, fit="cover", focus="smart", enlarge=True).size == (
        5,
        5,
    )


# -- pixels ------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [50, 100, 150, 320, 400, 500])
@pytest.mark.parametrize("form", ["jpg", "png", "rotated jpg"])
def test_shrinking_is_as_good_as_lanczos_from_the_full_picture(width, form):
    image = photo(1051, 787, seed=1)
    source = (
        png(image, compress_level=1)
        if form == "png"
        else jpeg(image, orientation=6 if form == "rotated jpg" else None, quality=95)
    )
    full = ImageOps.exif_transpose(Image.open(io.BytesIO(source)))
    made = picture(source, width=width)
    assert ssim(made, full.resize(made.size, Image.Resampling.LANCZOS)) >= 0.99


def test_nothing_shifts_when_a_jpeg_is_shrunk_while_it_is_decoded():
    # 1001 is no multiple of 8: what the decoder makes is wider than an eighth
    image = Image.new("L", (1001, 1001))
    image.putdata([(x * 255) // 1000 for _ in range(1001) for x in range(1001)])
    made = pixels(picture(jpeg(image, quality=100), width=40, height=40))
    expected = (np.arange(40) + 0.5) * 255 / 40 - 0.5
    assert np.abs(made.mean(axis=0) - expected)[1:-1].max() < 1


def test_large_pictures_are_reduced_strip_by_strip_without_a_seam():
    image = photo(1601, 1500, seed=2)
    made = picture(png(image.convert("RGBA"), compress_level=0), width=211)
    assert made.mode == "RGB"
    assert ssim(made, image.resize(made.size, Image.Resampling.LANCZOS)) >= 0.99


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_large_result_is_scaled_strip_by_strip_without_a_seam(mode):
    image = photo(640, 480, seed=3).resize((4700, 3900)).convert(mode)
    made = picture(png(image, compress_level=0), width=4511)
    difference = np.abs(pixels(made) - pixels(image.convert(made.mode).resize(made.size, Image.Resampling.LANCZOS)))
    assert difference.max() <= 2
    assert difference.mean() <= 0.01


def test_gray_equalise_blur_and_sharpen():
    source = png(photo())
    assert picture(source, gray=True).mode == "L"
    detail = [
        np.abs(np.diff(pixels(picture(source, **parameters)), axis=1)).mean()
        for parameters in ({"blur": 3.0}, {}, {"sharpen": 2.0})
    ]
    assert detail[0] < detail[1] * 0.6 < detail[1] < detail[2] * 0.9
    dull = png(photo().point(lambda v: 100 + v // 8))
    assert pixels(picture(dull, equalise=True)).std() > 4 * pixels(picture(dull)).std()


# -- transparency ------------------------------------------------------------------------


def _cutout() -> Image.Image:
    """Red on transparent, and a colour nobody should see where it is fully transparent."""
    image = Image.new("RGBA", (200, 200), (12, 200, 34, 0))
    image.paste((255, 0, 0, 255), (50, 50, 150, 150))
    return image


@pytest.mark.parametrize("kind", [kind for kind in WRITABLE if BY_KIND[kind].alpha])
def test_transparency_is_kept_where_the_format_has_it(kind):
    made = picture(png(_cutout()), kind=kind, width=100, quality=95 if BY_KIND[kind].quality else None).convert("RGBA")
    assert made.getpixel((2, 2))[3] <= 2
    assert np.abs(np.subtract(made.getpixel((50, 50)), (255, 0, 0, 255))).max() <= 6


@pytest.mark.parametrize("width", [None, 61, 13], ids=["at full size", "shrunk", "shrunk a lot"])
@pytest.mark.parametrize("kind", ["png", "tif"])
def test_hidden_pixels_and_dark_fringes_do_not_show(width, kind):
    made = pixels(picture(png(_cutout()), kind=kind, width=width))
    hidden = made[made[..., 3] == 0]
    assert len(hidden)
    assert not hidden[:, :3].any()
    seen = made[made[..., 3] > 40]
    assert (seen[:, 0] > 240).all()
    assert (seen[:, 1] < 15).all()


def test_jpeg_stands_on_the_background():
    made = picture(png(_cutout()), kind="jpg", background="1e90ff", quality=95)
    assert np.abs(np.subtract(made.getpixel((2, 2)), (0x1E, 0x90, 0xFF))).max() <= 4


def test_a_background_that_was_asked_for_is_put_behind_a_png():
    made = picture(png(_cutout()), background="00ff00")
    assert made.mode == "RGB"
    assert made.getpixel((2, 2)) == (0, 255, 0)
    half = picture(png(_cutout()), background="00ff0080")
    assert half.getpixel((2, 2)) == (0, 255, 0, 128)


def test_contain_pads_with_the_background():
    made = picture(png(corners()), width=60, height=60, fit="contain", background="ff00ff")
    assert made.getpixel((30, 2)) == (255, 0, 255)
    assert made.getpixel((5, 15)) == (255, 0, 0)
    clear = picture(png(corners()), width=60, height=60, fit="contain", background="ffffff00")
    assert clear.getpixel((30, 2)) == (0, 0, 0, 0)


def test_palettes_with_transparent_colours():
    image = _cutout().convert("RGB").quantize(4)
    source = save(image, "GIF", transparency=image.getpixel((0, 0)))
    made = picture(source, width=50)
    assert made.getpixel((1, 1)) == (0, 0, 0, 0)
    assert np.abs(np.subtract(made.getpixel((25, 25)), (255, 0, 0, 255))).max() <= 3


# -- frames and pages ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gif", "webp"])
@pytest.mark.parametrize("source", ["GIF", "WEBP"])
@pytest.mark.parametrize("loop", [0, 3], ids=["for ever", "a few times"])
def test_an_animation_keeps_frames_times_and_loops(source, kind, loop):
    made = rendered(animation(source, 4, durations=(100, 200, 300), loop=loop), kind=kind, animate=True, width=32)
    image = Image.open(io.BytesIO(made.body))
    assert (image.size, image.n_frames, made.media_type) == ((32, 24), 4, f"image/{kind}")
    durations = []
    for number in range(4):
        image.seek(number)
        image.load()
        durations.append(image.info["duration"])
        assert np.abs(np.subtract(image.convert("RGB").getpixel((28, 20)), frame_colour(number))).max() <= 24
    assert durations == [100, 200, 300, 100]
    plays = loop if source == "WEBP" or not loop else loop + 1
    assert image.info.get("loop") == (plays if kind == "webp" or not plays else plays - 1)
    assert foreign_parts(made.body) == []


def test_an_animation_that_is_too_much_to_write_is_refused():
    with pytest.raises(OverBudget, match="all of its frames"):
        rendered(animation("GIF", 4), kind="webp", animate=True, width=6_000, enlarge=True)


def test_without_animate_there_is_one_frame():
    image = picture(animation("GIF"), kind="webp", quality=90)
    assert image.n_frames == 1


@pytest.mark.parametrize("page", [1, 2, 3])
@pytest.mark.parametrize(
    "source", [animation("GIF"), animation("WEBP"), tiff_pages(), animation("AVIF")], ids=["gif", "webp", "tif", "avif"]
)
def test_a_page_or_frame_is_chosen_by_number(source, page):
    colour = picture(source, page=page).convert("RGB").getpixel((50, 40))
    assert np.abs(np.subtract(colour, frame_colour(page - 1))).max() <= 12


@pytest.mark.parametrize(
    ("source", "page_count"),
    [(tiff_pages(), "3 pages"), (animation("GIF"), "3 pages"), (jpeg(), "one page"), (png(), "one page")],
    ids=["tif", "gif", "jpg", "png"],
)
def test_a_page_that_is_not_there_is_refused_with_their_number(source, page_count):
    with pytest.raises(BadParameter, match=page_count) as caught:
        rendered(source, page=4)
    assert caught.value.members["parameter"] == "page"


@pytest.mark.parametrize(
    "limits", [RenderConfiguration(max_frames=3), RenderConfiguration(max_frame_pixels=64 * 48 * 3)]
)
def test_an_animation_over_the_budget_is_refused_but_its_first_frame_is_not(limits):
    source = animation("GIF", 4)
    with pytest.raises(OverBudget):
        rendered(source, limits, kind="gif", animate=True)
    assert picture(source, limits).size == (64, 48)


# -- formats -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WRITABLE)
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "1", "P", "CMYK"])
def test_every_mode_is_written_in_every_format(kind, mode):
    image = photo(900, 600).reduce(10).filter(ImageFilter.GaussianBlur(3)).convert(mode)
    source = save(image, "TIFF" if mode == "CMYK" else "PNG")
    quality = 95 if BY_KIND[kind].quality else None
    made = picture(source, kind=kind, width=45, quality=quality, background="ffffff" if kind == "jpg" else None)
    expected = image.convert("RGB").resize((45, 30), Image.Resampling.LANCZOS)
    assert (made.format, made.size) == (BY_KIND[kind].pillow, (45, 30))
    assert np.abs(pixels(made.convert("RGB")) - pixels(expected)).mean() < 12


def test_quality_decides_size_and_colour_resolution():
    source = png(photo())
    sizes = [len(rendered(source, kind="jpg", quality=quality).body) for quality in (30, 60, 89, 90, 100)]
    assert sizes == sorted(sizes)
    layers = [Image.open(io.BytesIO(rendered(source, kind="jpg", quality=q).body)).layer for q in (82, 90)]
    assert [layer[0][1:3] for layer in layers] == [(2, 2), (1, 1)]


def test_a_picture_that_a_format_has_no_room_for_is_refused():
    with pytest.raises(OverBudget, match="16383"):
        rendered(png(Image.new("L", (16_500, 2))), kind="webp")
    with pytest.raises(OverBudget, match="another kind"):
        rendered(png(Image.new("L", (100, 100))), kind="jp2", width=9_000, enlarge=True)


# -- always the same -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", WRITABLE)
def test_it_is_written_to_a_file_of_the_system(kind, monkeypatch):
    """Pillow holds the interpreter while it encodes a JPEG to any other."""
    source, files = png(photo(60, 40)), []
    write = Image.Image.save

    def save(image, file, *arguments, **options):
        files.append(file.fileno())
        write(image, file, *arguments, **options)

    monkeypatch.setattr(Image.Image, "save", save)
    assert rendered(source, kind=kind)
    assert len(files) == 1


@pytest.mark.parametrize("trouble", [AttributeError("not in this Python"), OSError(24, "Too many open files")])
def test_where_the_system_has_no_file_the_bytes_are_the_same(trouble, monkeypatch):
    source = png(photo(60, 40))
    expected = rendered(source, kind="jpg").body

    def refuse(name):
        raise trouble

    monkeypatch.setattr("os.memfd_create", refuse)
    assert rendered(source, kind="jpg").body == expected


@pytest.mark.parametrize("kind", WRITABLE)
def test_the_same_bytes_from_every_thread(kind):
    source = jpeg(photo(400, 300), icc=None, camera=True)
    expected = rendered(source, kind=kind, width=120).body
    results: list[bytes] = []
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        results.append(rendered(source, kind=kind, width=120).body)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [body == expected for body in results] == [True] * 4


def test_the_generation_is_short_and_follows_what_fits_into_memory():
    assert render.generation(LIMITS) == render.generation(RenderConfiguration())
    assert len(render.generation(LIMITS)) == 8
    assert int(render.generation(LIMITS), 16) != int(render.generation(RenderConfiguration(max_pixels=1)), 16)


@pytest.mark.parametrize("recipe", [Recipe(width=50), Recipe(page=7)], ids=["after a picture", "after a problem"])
@pytest.mark.parametrize("source", [jpeg(camera=True), tiff_pages()], ids=["jpg", "tif"])
def test_the_source_can_be_closed_at_once(source, recipe):
    problem = None
    with io.BytesIO(source) as file:
        try:
            render.render(file, recipe, LIMITS)
        except BadParameter as caught:
            problem = caught
    assert file.closed
    assert (problem is None) == (recipe.page == 1)


@pytest.mark.parametrize("size", [1 << 10, 9 << 20], ids=["small", "large"])
@pytest.mark.parametrize("spool", [1 << 12, 1 << 30], ids=["on disk", "in memory"])
def test_the_source_may_be_a_spooled_file(size, spool, tmp_path):
    source = jpeg(camera=True)
    with tempfile.SpooledTemporaryFile(spool, dir=tmp_path) as file:
        file.write(source + bytes(size))
        assert render.render(file, Recipe(width=50), LIMITS).body == rendered(source, kind="jpg", width=50).body
        assert render.inspect(file, LIMITS, location=False).exif["iso"] == 200


def test_the_source_may_be_a_file(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg())
    with path.open("rb") as file:
        first = render.render(file, Recipe(width=50), LIMITS)
        assert render.render(file, Recipe(width=50), LIMITS) == first
        assert render.inspect(file, LIMITS, location=False).width == 320
        render.verify(file, LIMITS)


@given(
    st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
    st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
    st.integers(1, 8),
)
def test_what_cover_keeps_lies_inside_the_picture(upright, size, focus, orientation):
    stored = upright[::-1] if orientation in SIDEWAYS else upright
    box = to_stored(cover_box((0, 0, *upright), size, focus), stored, orientation)
    assert -1e-6 < box[0] < box[2] < stored[0] + 1e-6
    assert -1e-6 < box[1] < box[3] < stored[1] + 1e-6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_cover_works_at_every_size(orientation):
    source = jpeg(photo(290, 217), orientation=orientation)
    for width in range(20, 290, 7):
        made = rendered(source, width=width, height=43, fit="cover", focus=(0.3, 0.9))
        assert (made.width, made.height) == (width, 43)


def test_a_filter_has_a_budget():
    with pytest.raises(OverBudget, match="blurred"):
        rendered(save(Image.new("L", (8000, 6300)), "PNG"), blur=2.0)
    assert rendered(save(Image.new("L", (8000, 6300)), "PNG"), blur=2.0, width=100).width == 100
