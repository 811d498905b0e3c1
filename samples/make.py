"""Draws the sample pictures: the same bytes each time, and nobody's property.

They are made to show something: JPEGs whose EXIF holds a camera, a time and a position (which
what is served does not), one that lies on its side (EXIF orientation 6), a PNG with alpha.

    python samples/make.py FOLDER
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import piexif
from PIL import Image, ImageColor, ImageDraw, ImageFont

Colour = tuple[int, int, int]


def blend(low: Colour, high: Colour, part: float) -> Colour:
    """The colour that lies so far between two."""
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(low, high, strict=True))
    return red, green, blue


def sky(size: tuple[int, int], top: Colour, horizon: Colour) -> Image.Image:
    """A gradient from above to below."""
    strip = Image.new("RGB", (1, size[1]))
    for y in range(size[1]):
        strip.putpixel((0, y), blend(top, horizon, y / (size[1] - 1)))
    return strip.resize(size)


def ridge(draw: ImageDraw.ImageDraw, size: tuple[int, int], base: float, rough: float, colour: Colour) -> None:
    """A range of hills, lower edge to lower edge."""
    width, height = size
    waves = [(2.1, 0.5), (5.3, 0.3), (11.7, 0.15), (29.0, 0.05)]
    line = [
        (
            x,
            height
            * (base - rough * sum(share * math.sin(rate * x / width * math.pi + base * 9) for rate, share in waves)),
        )
        for x in range(0, width + 4, 4)
    ]
    draw.polygon([*line, (width, height), (0, height)], fill=colour)


def caption(image: Image.Image, text: str, ink: Colour) -> None:
    """A line of text at the lower left."""
    font = ImageFont.load_default(size=max(16, image.height // 24))
    ImageDraw.Draw(image).text((image.width // 40, image.height * 0.93), text, fill=ink, font=font, anchor="lm")


def landscape(size: tuple[int, int] = (2400, 1600)) -> Image.Image:
    """Hills behind hills under an evening sky."""
    image = sky(size, (38, 70, 130), (250, 196, 140))
    draw = ImageDraw.Draw(image)
    radius, (x, y) = size[1] // 12, (int(size[0] * 0.7), int(size[1] * 0.42))
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(255, 236, 190))
    for step in range(5):
        ridge(draw, size, 0.55 + 0.1 * step, 0.12 - 0.012 * step, blend((120, 112, 150), (22, 46, 40), step / 4))
    caption(image, "landscape", (240, 240, 230))
    return image


def lake(size: tuple[int, int] = (1800, 1200)) -> Image.Image:
    """The same hills by day, and their picture in water."""
    image = sky(size, (80, 150, 220), (225, 240, 250))
    draw = ImageDraw.Draw(image)
    for step in range(3):
        ridge(draw, size, 0.4 + 0.05 * step, 0.14, blend((130, 150, 170), (40, 90, 60), step / 2))
    half = image.crop((0, 0, size[0], size[1] // 2))
    image.paste(
        half.transpose(Image.Transpose.FLIP_TOP_BOTTOM).point(lambda value: int(value * 0.8)), (0, size[1] // 2)
    )
    draw = ImageDraw.Draw(image)
    for y in range(size[1] // 2, size[1], 14):
        draw.line((0, y, size[0], y), fill=(200, 222, 240), width=1)
    caption(image, "lake", (250, 250, 250))
    return image


def portrait(size: tuple[int, int] = (1200, 1600)) -> Image.Image:
    """A figure before a wall: higher than wide."""
    image = sky(size, (214, 200, 184), (150, 128, 116))
    draw = ImageDraw.Draw(image)
    width, height = size
    draw.ellipse((width * 0.1, height * 0.62, width * 0.9, height * 1.3), fill=(52, 82, 110))
    draw.ellipse((width * 0.3, height * 0.2, width * 0.7, height * 0.62), fill=(226, 180, 150))
    draw.pieslice((width * 0.28, height * 0.16, width * 0.72, height * 0.56), 180, 360, fill=(70, 46, 36))
    for side in (0.42, 0.58):
        draw.ellipse((width * side - 22, height * 0.4 - 22, width * side + 22, height * 0.4 + 22), fill=(36, 30, 28))
    draw.arc((width * 0.42, height * 0.44, width * 0.58, height * 0.54), 20, 160, fill=(150, 70, 66), width=10)
    caption(image, "portrait", (30, 30, 30))
    return image


def chart(size: tuple[int, int] = (1600, 1200)) -> Image.Image:
    """Colours, greys and fine lines, to judge a rendering by."""
    image = Image.new("RGB", size, (128, 128, 128))
    draw = ImageDraw.Draw(image)
    cell = size[0] // 8
    for column in range(8):
        for row in range(4):
            colour = (column * 36, row * 85, 255 - column * 36)
            draw.rectangle((column * cell, row * cell, (column + 1) * cell - 8, (row + 1) * cell - 8), fill=colour)
        grey = column * 36
        draw.rectangle((column * cell, 4 * cell, (column + 1) * cell, 5 * cell), fill=(grey, grey, grey))
    for x in range(0, size[0], 4):
        draw.line((x, 5 * cell, x, size[1]), fill=(255, 255, 255) if x // 4 % 2 else (0, 0, 0), width=2)
    caption(image, "chart", (255, 80, 80))
    return image


def leaf(size: tuple[int, int] = (1000, 1000)) -> Image.Image:
    """A leaf on nothing: transparent around it."""
    scale = 2
    image = Image.new("RGBA", (size[0] * scale, size[1] * scale), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    width, height = image.size
    outline = []
    for step in range(361):
        angle = math.radians(step)
        radius = 0.31 * (1 + 0.18 * math.sin(9 * angle)) * (1.25 - 0.25 * math.sin(angle))
        outline.append((width * (0.5 + radius * math.cos(angle) * 0.8), height * (0.47 - radius * math.sin(angle))))
    draw.polygon(outline, fill=(86, 142, 60, 255))
    draw.line((width * 0.5, height * 0.12, width * 0.5, height * 0.98), fill=(50, 96, 40, 255), width=width // 60)
    for step in range(1, 7):
        y, reach = height * (0.15 + 0.1 * step), width * 0.042 * (7 - abs(step - 4))
        for side in (-1, 1):
            draw.line(
                (width * 0.5, y, width * 0.5 + side * reach, y - height * 0.08), fill=(60, 110, 46, 220), width=12
            )
    return image.resize(size, Image.Resampling.LANCZOS)


@dataclass(frozen=True)
class Scene:
    """Hills at some hour.

    :param size: in pixels
    :param colours: of the sky above, where it meets the hills, of the farthest hills, the nearest, and of the light
    :param place: where the middle of the light is, as fractions of the size
    :param base: where the farthest hills begin, as a fraction of the height; decides their form too
    """

    size: tuple[int, int]
    colours: str
    place: tuple[float, float]
    base: float
    hour: str

    def draw(self) -> Image.Image:
        """Return the picture."""
        top, horizon, far, near, light = (ImageColor.getrgb(f"#{colour}")[:3] for colour in self.colours.split())
        image = sky(self.size, top, horizon)
        draw = ImageDraw.Draw(image)
        radius, (x, y) = min(self.size) / 16, (self.size[0] * self.place[0], self.size[1] * self.place[1])
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=light)
        for step in range(6):
            colour = blend(far, near, step / 5)
            ridge(draw, self.size, self.base + 0.085 * step, 0.15 - 0.017 * step, colour)
        return image


_WIDE, _HIGH, _SQUARE, _PANORAMA = (1500, 1000), (1000, 1400), (1200, 1200), (2000, 900)
#: name → scene
SCENES = {
    "alps/dawn": Scene(_WIDE, "46548c fcbea0 b08ca0 302842 ffe2be", (0.3, 0.5), 0.5, "05:40:00"),
    "alps/morning": Scene(_HIGH, "60a4dc ecf4f6 96b2c8 1e463e fffae6", (0.7, 0.18), 0.46, "08:10:00"),
    "alps/noon": Scene(_PANORAMA, "3480ce cee6f4 8caabe 2c5c36 fffcec", (0.8, 0.16), 0.52, "12:00:00"),
    "alps/dusk": Scene(_WIDE, "282c60 ec806e 785478 18162e ffbe8c", (0.62, 0.47), 0.53, "20:50:00"),
    "alps/night": Scene(_SQUARE, "080c22 2c3c68 243054 060a16 eceee2", (0.24, 0.2), 0.48, "23:30:00"),
    "coast/cliffs": Scene(_WIDE, "78b0cc f0ecdc a8b8b4 425648 fffae2", (0.2, 0.24), 0.55, "10:20:00"),
    "coast/fog": Scene(_PANORAMA, "c4ced2 eceeec ced4d6 707e82 f8f8f2", (0.5, 0.3), 0.45, "07:15:00"),
    "coast/sunset": Scene(_HIGH, "3a346e ff9c60 966078 221e3a ffdc96", (0.4, 0.42), 0.51, "21:05:00"),
    "coast/storm": Scene(_WIDE, "2c343e 969ea0 646e74 1a2228 c4c8c4", (0.84, 0.2), 0.5, "16:40:00"),
    "dunes/heat": Scene(_WIDE, "74b2d6 fce2b2 ecbe82 a05c30 fff8dc", (0.75, 0.2), 0.56, "13:30:00"),
    "dunes/red": Scene(_SQUARE, "d67854 ffce96 d67c54 5c221c ffeec8", (0.5, 0.36), 0.54, "18:30:00"),
    "dunes/violet": Scene(_WIDE, "402868 eca0be a26896 2c183a ffd6e2", (0.25, 0.4), 0.5, "20:20:00"),
    "dunes/moon": Scene(_HIGH, "0e1432 5c6c96 545c7e 121426 f4f0dc", (0.66, 0.2), 0.49, "22:45:00"),
    "forest/spring": Scene(_WIDE, "96c8e2 f4fae2 b0ce96 2c6030 ffffec", (0.16, 0.2), 0.47, "09:00:00"),
    "forest/autumn": Scene(_PANORAMA, "96aabe fae2be dca060 6e321a fff0ce", (0.7, 0.3), 0.5, "17:10:00"),
    "forest/mist": Scene(_HIGH, "aabeba e4ece4 b0c4bc 223e38 f4f8f0", (0.5, 0.22), 0.44, "06:30:00"),
}  # fmt: skip


def exif(description: str, degrees: tuple[float, float], orientation: int = 1, hour: str = "20:15:00") -> bytes:
    """EXIF as a camera writes it: who, when, where.

    :param degrees: latitude north and longitude east
    """
    sexagesimal = [_sexagesimal(value) for value in degrees]
    zeroth = {
        piexif.ImageIFD.Make: b"Sample",
        piexif.ImageIFD.Model: b"Drawn by a program",
        piexif.ImageIFD.ImageDescription: description.encode(),
        piexif.ImageIFD.Artist: b"image_repo",
        piexif.ImageIFD.Copyright: b"No rights reserved (CC0)",
        piexif.ImageIFD.Orientation: orientation,
    }
    shot = {
        piexif.ExifIFD.DateTimeOriginal: f"2024:06:21 {hour}".encode(),
        piexif.ExifIFD.ExposureTime: (1, 250),
        piexif.ExifIFD.FNumber: (56, 10),
        piexif.ExifIFD.ISOSpeedRatings: 100,
        piexif.ExifIFD.LensModel: b"Imaginary 35 mm",
    }
    position = {
        piexif.GPSIFD.GPSLatitudeRef: b"N",
        piexif.GPSIFD.GPSLatitude: sexagesimal[0],
        piexif.GPSIFD.GPSLongitudeRef: b"E",
        piexif.GPSIFD.GPSLongitude: sexagesimal[1],
    }
    made: bytes = piexif.dump({"0th": zeroth, "Exif": shot, "GPS": position})
    return made


def _sexagesimal(degrees: float) -> tuple[tuple[int, int], ...]:
    """Degrees, minutes and seconds as EXIF's rationals."""
    seconds = round(degrees * 3600 * 100)
    return (seconds // 360_000, 1), (seconds % 360_000 // 6_000, 1), (seconds % 6_000, 100)


def draw_all(folder: Path) -> None:
    """Writes the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    places = {landscape: (46.5588, 8.5614), lake: (46.7242, 7.6983), chart: (46.9480, 7.4474)}
    draw: Callable[[], Image.Image]
    for draw, place in places.items():
        name = draw.__name__
        draw().save(folder / f"{name}.jpg", quality=90, exif=exif(name, place))
    lying = portrait().transpose(Image.Transpose.ROTATE_90)
    lying.save(folder / "portrait.jpg", quality=90, exif=exif("portrait", (46.2044, 6.1432), orientation=6))
    leaf().save(folder / "leaf.png", optimize=True)
    for name, scene in SCENES.items():
        file = folder / f"{name}.jpg"
        file.parent.mkdir(exist_ok=True)
        scene.draw().save(file, quality=88, exif=exif(name, places[lake], hour=scene.hour))


if __name__ == "__main__":
    draw_all(Path(sys.argv[1]))
