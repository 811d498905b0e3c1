"""Thumbnails as vipsthumbnail makes them, in two processes: python vips_thumbnails.py WIDTH TARGET FILE …"""

import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pyvips


def make(job: tuple[str, str, int]) -> None:
    """Make one; of the file alone, with libvips' shrink-on-load."""
    source, target, width = job
    pyvips.Image.thumbnail(source, width).jpegsave(target, Q=82, strip=True)


if __name__ == "__main__":
    folder, files = Path(sys.argv[2]), sys.argv[3:]
    jobs = [(file, str(folder / f"{number}.jpg"), int(sys.argv[1])) for number, file in enumerate(files)]
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(make, jobs, chunksize=8))
