"""What comes out is what an independent reader makes of the same file: colour, size, transparency and orientation.

Judges: libvips; OpenJPEG's own command for JPEG 2000 and libheif's for HEVC, which the wheel of libvips does not open.
"""

from __future__ import annotations

import io
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import picture_writers as writers
import pillow_heif
import pytest
import pyvips
from picture_writers import TiffKind
from pictures import animation, corners, exif, jpeg, photo, save
from PIL import Image
from rendered import LIMITS, picture

from image_repo import render

#: the most that colours may differ, of 255, in the mean over all pixels and bands
MOST_DIFFERENCE = 5.0
CASES_FOLDER = Path(__file__).parents[1] / "images" / "cases"
WIDTH, HEIGHT = 61, 43


def samples(count: int, bits: int) -> np.ndarray:
    """A chart of smooth colours and edges, its full range used; the last of 2 and 4 bands is opaque to clear."""
    y, x = np.indices((HEIGHT, WIDTH)) / np.array([HEIGHT - 1, WIDTH - 1])[:, None, None]
    bands = [x, y, (x + y) / 2, np.where(x + y < 1, 1.0, np.where(x > 0.5, 0.5, 0.0))]
    if count in (1, 2):
        bands = [(x + y) / 2, bands[3]]
    return np.rint(np.stack(bands[:count], axis=-1) * (2**bits - 1)).astype(np.int64)


PALETTE = np.rint(np.stack([np.linspace(0, 255, 256), np.linspace(255, 0, 256), np.full(256, 90)], axis=-1))


def tiff_files() -> Iterator[tuple[str, bytes]]:
    layouts = [
        {"order": order, "tile": tile, "compression": compression, "is_big": is_big}
        for order, tile, compression, is_big in itertools.product("<>", (0, 16), (1, 8), (False, True))
    ]
    colours = [
        (1, TiffKind(colour=1)), (1, TiffKind(colour=0)), (1, TiffKind(colour=1, bits=16)),
        (2, TiffKind(colour=1, extra=(2,))), (2, TiffKind(colour=1, extra=(2,), bits=16)),
        (3, TiffKind()), (3, TiffKind(bits=16)), (4, TiffKind(extra=(2,))), (4, TiffKind(extra=(2,), bits=16)),
        (4, TiffKind(colour=5)), (4, TiffKind(colour=5, bits=16)),
    ]  # fmt: skip
    for (count, kind), layout in itertools.product(colours, layouts):
        made = replace(kind, **layout)
        yield f"TIFF {made}", writers.tiff(samples(count, made.bits), made)
        if count > 2:
            planar = replace(made, is_planar=True)
            yield f"TIFF {planar}", writers.tiff(samples(count, made.bits), planar)
    for bits, order in itertools.product((1, 2, 4), "<>"):
        made = TiffKind(colour=1, bits=bits, order=order)
        yield f"TIFF {made}", writers.tiff(samples(1, bits), made)
    for orientation, code in itertools.product(range(1, 9), (1, 3)):
        made = TiffKind(orientation=orientation, orientation_type=code)
        yield f"TIFF {made}, type {code}", writers.tiff(samples(3, 8), made)
    yield "TIFF palette", writers.tiff(samples(1, 8), TiffKind(colour=3, palette=PALETTE))


def png_files() -> Iterator[tuple[str, bytes]]:
    depths = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
    counts = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
    for colour, interlaced in itertools.product(depths, (False, True)):
        for depth in depths[colour]:
            values = samples(counts[colour], depth)
            palette = PALETTE[np.linspace(0, 255, 2**depth).astype(int)] if colour == 3 else None
            name = f"PNG colour {colour}, {depth} bits{', interlaced' * interlaced}"
            yield name, writers.png(values, depth, colour, interlaced=interlaced, palette=palette)
            if colour in (0, 2, 3):
                hidden = values[HEIGHT // 2, WIDTH // 2].astype(">u2").tobytes() if colour != 3 else bytes((0, 128))
                made = writers.png(values, depth, colour, interlaced=interlaced, palette=palette, transparent=hidden)
                yield f"{name}, transparent colour", made


def lossy_files() -> Iterator[tuple[str, bytes]]:
    image = photo(WIDTH * 2, HEIGHT * 2)
    for mode, progressive, quality in itertools.product(("L", "RGB", "CMYK"), (False, True), (60, 95)):
        options = {"progressive": progressive, "quality": quality}
        yield f"JPEG {mode} {options}", save(image.convert(mode), "JPEG", **options)
    for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
        yield f"JPEG {subsampling}", save(image, "JPEG", subsampling=subsampling)
    for orientation in range(1, 9):
        turned = corners(WIDTH, HEIGHT)
        yield f"JPEG orientation {orientation}", jpeg(turned, orientation=orientation)
        tags = exif(orientation=orientation)
        yield f"WebP orientation {orientation}", save(turned, "WEBP", lossless=True, exif=tags)
        yield f"PNG orientation {orientation}", save(turned, "PNG", exif=tags)
    alpha = image.convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize(image.size))
    for kind, lossless in itertools.product(("WEBP", "AVIF"), (False, True)):
        options = {"lossless": lossless} if kind == "WEBP" else {"quality": 100 if lossless else 70}
        yield f"{kind} {options}", save(image, kind, **options)
        yield f"{kind} {options} and alpha", save(alpha, kind, **options)
    for kind in ("GIF", "WEBP"):
        yield f"first frame of {kind}", animation(kind)
    for colours in (2, 16, 256):
        yield f"GIF of {colours} colours", save(image.quantize(colours), "GIF")
        yield f"PNG of {colours} colours", save(image.quantize(colours), "PNG")


FILES = dict(itertools.chain(tiff_files(), png_files(), lossy_files()))


def from_vips(data: bytes) -> Image.Image:
    """As libvips shows it: upright, in sRGB, 8 bits; CMYK without a profile as (1-C)(1-K)."""
    image = pyvips.Image.new_from_buffer(data, "")
    if image.interpretation == "cmyk":
        image = (image / 257).rint() if image.format == "ushort" else image
        ink = image.cast("float").numpy()
        rgb = (255 - ink[..., :3]) * (255 - ink[..., 3:4]) / 255
        return Image.fromarray(np.rint(rgb).astype(np.uint8))
    image = image.autorot().colourspace("srgb")
    image = image if image.format == "uchar" else image.cast("uchar")
    values = image.numpy()
    return Image.fromarray(values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values)


def difference(made: Image.Image, expected: Image.Image) -> float:
    """The mean difference on white, of 255, and of the transparency."""
    one, other = (np.asarray(image.convert("RGBA"), np.float64) for image in (made, expected))
    flat = [values[..., :3] * values[..., 3:] / 255 + 255 - values[..., 3:] for values in (one, other)]
    return max(float(np.abs(flat[0] - flat[1]).mean()), float(np.abs(one[..., 3] - other[..., 3]).mean()))


def assert_alike(data: bytes, expected: Image.Image) -> None:
    made = picture(data)
    assert made.size == expected.size
    clear = [image.convert("RGBA").getchannel("A").getextrema()[0] < 255 for image in (made, expected)]
    assert clear[0] == clear[1]
    assert difference(made, expected) <= MOST_DIFFERENCE


@pytest.mark.parametrize("name", FILES)
def test_it_is_what_libvips_shows(name):
    # libvips opens no tiles in planes: it is shown the same samples in strips
    assert_alike(FILES[name], from_vips(FILES.get(name.replace("planes, tiles", "planes"), FILES[name])))


# -- JPEG 2000 and HEVC ------------------------------------------------------------------


def read_by_command(command: str, *arguments: str, source: bytes, folder: Path, ending: str) -> Image.Image:
    """As a command makes a PNG of it; skipped where it is not installed, except in CI."""
    if not shutil.which(command):
        assert not os.environ.get("CI"), f"{command} is missing: make test installs it where it can"
        pytest.skip(f"{command} is not installed")
    (folder / f"a{ending}").write_bytes(source)
    words = [word.format(source=folder / f"a{ending}", target=folder / "a.png") for word in arguments]
    subprocess.run([command, *words], check=True, capture_output=True, timeout=60)
    image = Image.open(next(folder.glob("*.png")))
    image.load()
    if image.mode.startswith("I"):
        image = image.convert("I").point(lambda value: value / 257).convert("L")
    return image


def jp2_files() -> Iterator[tuple[str, bytes]]:
    image = photo(WIDTH * 2, HEIGHT * 2)
    alpha = image.convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize(image.size))
    deep = Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257)
    for lossless in (False, True):
        options = {"irreversible": not lossless}
        for name, each in {"grey": image.convert("L"), "RGB": image, "RGBA": alpha, "16-bit grey": deep}.items():
            yield f"{name}{', lossless' * lossless}.jp2", save(each, "JPEG2000", **options)
    yield "RGB in tiles.jp2", save(image, "JPEG2000", tile_size=(64, 64))
    for file in sorted((*CASES_FOLDER.glob("*.jp2"), *CASES_FOLDER.glob("*.j2k"))):
        yield file.name, file.read_bytes()


JP2_FILES = dict(jp2_files())


@pytest.mark.parametrize("name", JP2_FILES)
def test_it_is_what_openjpeg_shows(name, tmp_path):
    data = JP2_FILES[name]
    arguments = ("-i", "{source}", "-o", "{target}")
    expected = read_by_command("opj_decompress", *arguments, source=data, folder=tmp_path, ending=Path(name).suffix)
    assert_alike(data, expected)


def heic(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, **options)
    return file.getvalue()


HEIC_FILES = {
    "grey": heic(photo(128, 96).convert("L"), quality=90),
    "RGB": heic(photo(128, 96), quality=90),
    "alpha": heic(corners(128, 96).convert("RGBA").rotate(10), quality=90),
    **{f"orientation {n}": heic(corners(128, 96), quality=90, exif=exif(orientation=n)) for n in (1, 3, 6, 8)},
    "clean aperture": (CASES_FOLDER / "clap_middle.heic").read_bytes(),
}


@pytest.mark.parametrize("name", HEIC_FILES)
def test_it_is_what_libheif_shows(name, tmp_path):
    data = HEIC_FILES[name]
    expected = read_by_command("heif-convert", "{source}", "{target}", source=data, folder=tmp_path, ending=".heic")
    assert_alike(data, expected)
    info = render.inspect(io.BytesIO(data), LIMITS, location=False)
    assert (info.width, info.height) == expected.size
