"""``python -m bench [SECTION …]``: measures, tells, and writes RESULTS.md.

A goal that is missed is told; it is no failure of the command.
"""

from __future__ import annotations

import argparse
import importlib
from dataclasses import dataclass
from pathlib import Path

from bench import install, originals, proc, report
from bench.systems import HERE

#: in the order of RESULTS.md
SECTIONS = (
    "hits",
    "starvation",
    "disk",
    "misses",
    "herd",
    "zipf",
    "admission",
    "sizes",
    "tiles",
    "collection",
    "uploads",
    "catalogue",
    "imports",
    "access",
    "growth",
    "sizing",
)


@dataclass(frozen=True)
class Bench:
    """What every section is given.

    :param folder: for what the servers write
    :param originals: name → file
    :param rounds: how often each measurement is made, interleaved
    :param seconds: of one run of wrk
    :param ipx: None where there is no npm
    :param largest: pictures of a container, and entries of a cache, of the section on growth
    """

    folder: Path
    originals: dict[str, Path]
    rounds: int
    seconds: float
    thumbor: Path
    ipx: Path | None
    vips: Path
    largest: int


def main() -> None:
    parser = argparse.ArgumentParser("bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--folder", type=Path, default=HERE.parent / ".tests" / "bench")
    parser.add_argument("--pictures", type=Path, help="a folder of photographs, in place of made ones")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="of each run of wrk")
    parser.add_argument("--largest", type=int, default=1_000_000, help="pictures of a container and entries of a cache")
    parser.add_argument("--results", type=Path, default=HERE / "RESULTS.md")
    given = parser.parse_args()
    unknown = set(given.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    folder = given.folder.resolve()
    bench = Bench(
        folder / "run",
        originals.prepare(folder / "originals", given.pictures and given.pictures.resolve()),
        given.rounds,
        given.seconds,
        install.thumbor(folder / "thumbor"),
        install.ipx(folder / "ipx"),
        install.vips(folder / "vips"),
        given.largest,
    )
    versions = install.versions(bench.thumbor)
    for name in given.sections or SECTIONS:
        section = _measure(name, bench)
        report.keep(section, folder / "results")
        print(report.text_of(section), flush=True)
        report.write(given.results, report.load(folder / "results", SECTIONS), versions)
    print(f"written: {given.results}")


def _measure(name: str, bench: Bench) -> report.Section:
    print(f"measuring {name} …", flush=True)
    before = proc.noise()
    section: report.Section = importlib.import_module(f"bench.sections.{name}").run(bench)
    after = proc.noise()
    section.noise = (
        f"noise before and after: {before[0]:.2f}, {after[0]:.2f} s of wall for a second of CPU, "
        f"equal work takes up to {before[1]:.2f}, {after[1]:.2f} × its least"
    )
    return section


if __name__ == "__main__":
    main()
