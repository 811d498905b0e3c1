"""The pictures: made here, with the noise and the size in bytes of photographs; or a folder of yours (``PICTURES=…``).

Kept under ``.tests/bench/originals``, because a 24 megapixel picture takes seconds to make.
"""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

#: name: pixels, and how it is written
MADE = {
    "mp24": (6000, 4000, "jpg"),
    "mp12": (4242, 2828, "jpg"),
    "mp4": (2448, 1632, "jpg"),
    "mp1": (1224, 816, "jpg"),
    "progressive24": (6000, 4000, "progressive"),
    "png12": (4242, 2828, "png"),
    "heic12": (4242, 2828, "heic"),
}
_ENDINGS = {"jpg": "jpg", "progressive": "jpg", "png": "png", "heic": "heic"}
#: what of a folder of photographs takes the place of a made one: the nearest in megapixels, of that kind
_ROLES = {
    "mp24": ("jpg", 24),
    "mp12": ("jpg", 12),
    "mp4": ("jpg", 4),
    "progressive24": ("progressive", 24),
    "heic12": ("heic", 12),
}


def prepare(folder: Path, photographs: Path | None = None) -> dict[str, Path]:
    """Every original by its name, made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {name: folder / f"{name}.{_ENDINGS[how]}" for name, (_, _, how) in MADE.items()}
    missing = [name for name, path in found.items() if not path.exists()]
    if missing:
        print("making pictures:", *missing, flush=True)
        # in a process of its own, because it takes a gigabyte
        subprocess.run([sys.executable, "-m", "bench.originals", str(folder), *missing], check=True)
    if photographs:
        found |= _choose(photographs)
    return found


def _choose(photographs: Path) -> dict[str, Path]:
    from PIL import Image  # noqa: PLC0415

    seen: list[tuple[str, float, Path]] = []
    for path in sorted(photographs.iterdir()):
        if path.suffix.lower() in (".jpg", ".jpeg"):
            with Image.open(path) as image:
                if image.mode == "RGB" and image.getexif().get(0x0112, 1) == 1:
                    kind = "progressive" if "progressive" in image.info else "jpg"
                    seen.append((kind, image.width * image.height / 1e6, path))
        elif path.suffix.lower() == ".heic":
            seen.append(("heic", 12, path))
    chosen = {}
    for role, (kind, wanted) in _ROLES.items():
        near = [(abs(pixels - wanted), path) for found, pixels, path in seen if found == kind]
        if near and min(near)[0] < wanted / 4:
            chosen[role] = min(near)[1]
    return chosen


def copy(source: Path, target: Path, number: int) -> Path:
    """Another original of the same pixels: different bytes, so that nobody takes one for the other."""
    body = source.read_bytes()
    told = b"copy %d" % number
    if body[:2] == b"\xff\xd8":  # a comment behind the start of a JPEG
        body = body[:2] + b"\xff\xfe" + struct.pack(">H", len(told) + 2) + told + body[2:]
    elif body[:4] == b"\x89PNG":  # what follows the end of a PNG is passed over
        body += told
    else:  # a free box at the end of a HEIC file (ISO 14496-12, section 8.1.2)
        body += struct.pack(">I", len(told) + 8) + b"free" + told
    target.write_bytes(body)
    return target


def _make(folder: Path, names: list[str]) -> None:
    import numpy as np  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415

    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    import pictures  # noqa: PLC0415

    for name in names:
        width, height, how = MADE[name]
        image = pictures.photo(width, height, 1)
        # grain: 1.7 bits a pixel at quality 90, as cameras write
        grain = np.random.default_rng(5).standard_normal((height, width, 1), dtype=np.float32) * 4
        image = Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))
        path = folder / f"{name}.{_ENDINGS[how]}"
        if how == "heic":
            import pillow_heif  # noqa: PLC0415

            pillow_heif.from_pillow(image).save(path, quality=80)
        else:
            image.save(path, quality=90, progressive=how == "progressive", compress_level=1)


if __name__ == "__main__":
    _make(Path(sys.argv[1]), sys.argv[2:])
