"""Figures with their spread, tables, goals with PASS or MISS, and bench/RESULTS.md."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median


@dataclass
class Goal:
    """One figure of what image_repo has to reach.

    :param passed: None where it could not be measured
    """

    text: str
    measured: str
    passed: bool | None

    @property
    def word(self) -> str:
        return {True: "PASS", False: "MISS", None: "????"}[self.passed]


@dataclass
class Table:
    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)


@dataclass
class Section:
    """What one part of the bench found."""

    name: str
    title: str
    tables: list[Table] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    date: str = ""
    noise: str = ""

    def goal(self, text: str, value: float | None, most: float, unit: str = "", *, least: bool = False) -> None:
        """Adds a goal: at most so much, or at least."""
        if value is None:
            self.goals.append(Goal(text, "not measured", None))
            return
        passed = value >= most if least else value <= most
        self.goals.append(Goal(text, f"{value:.3g}{unit} ({'≥' if least else '≤'} {most:g}{unit})", passed))


def middle(values: Iterable[float]) -> float | None:
    """The median; None of nothing."""
    known = list(values)
    return median(known) if known else None


def ratio(one: float | None, other: float | None) -> float | None:
    """One against the other; None where either is missing."""
    return one / other if one is not None and other else None


def spread(values: Sequence[float], scale: float = 1.0, digits: int = 3) -> str:
    """The median, with the least and the most."""
    if not values:
        return "–"
    shown = [_number(value * scale, digits) for value in (median(values), min(values), max(values))]
    return shown[0] if len(values) == 1 or shown[1] == shown[2] else f"{shown[0]} ({shown[1]}..{shown[2]})"


def _number(value: float, digits: int) -> str:
    return f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


def percentile(values: Iterable[float], part: float) -> float:
    """The value below which that part of all lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else float("nan")


def text_of(section: Section) -> str:
    """A section in Markdown."""
    lines = [f"## {section.title}", "", f"{section.date}; {section.noise}", ""]
    for table in section.tables:
        lines += [table.title, ""] if table.title else []
        lines += ["| " + " | ".join(row) + " |" for row in [table.columns, ["---"] * len(table.columns), *table.rows]]
        lines.append("")
    lines += [f"* {note}" for note in section.notes] + ([""] if section.notes else [])
    if section.goals:
        lines += ["| goal | measured | |", "| --- | --- | --- |"]
        lines += [f"| {goal.text} | {goal.measured} | **{goal.word}** |" for goal in section.goals] + [""]
    return "\n".join(lines)


def keep(section: Section, folder: Path) -> None:
    """Keeps the latest of each section, so that one can be measured again by itself."""
    section.date = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{section.name}.json").write_text(json.dumps(asdict(section)))


def load(folder: Path, names: Iterable[str]) -> list[Section]:
    """The latest of each, in the order of the names."""
    found = []
    for name in names:
        if (folder / f"{name}.json").exists():
            told = json.loads((folder / f"{name}.json").read_text())
            told["tables"] = [Table(**table) for table in told["tables"]]
            told["goals"] = [Goal(**goal) for goal in told["goals"]]
            found.append(Section(**told))
    return found


def machine() -> str:
    """What it ran on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{len(os.sched_getaffinity(0))} × {model}, {memory:.0f} GiB, Linux {platform.release().partition('-')[0]}"


#: the first of the sections that are written by hand
BY_HAND = "## Soak: "


def write(path: Path, sections: Sequence[Section], versions: str) -> None:
    """bench/RESULTS.md: everything that was measured last, and behind it what was written by hand."""
    before = path.read_text() if path.exists() else ""
    by_hand = before[before.index(BY_HAND) :] if BY_HAND in before else ""
    passed = [goal.passed for section in sections for goal in section.goals]
    head = [
        "# What `make bench` measured",
        "",
        "Written by `make bench`; how it measures stands in README.md beside this file. Figures are medians, with the",
        "least and the most over interleaved rounds. CPU is that of a server's whole process tree; the load comes from",
        "the same cores, so compare requests/s only within a table.",
        "",
        f"* Machine: {machine()}",
        f"* Versions: {versions}",
        f"* Goals: {passed.count(True)} passed, {passed.count(False)} missed, {passed.count(None)} not measured",
        "",
    ]
    measured = "\n".join(head + [text_of(section) for section in sections]).rstrip() + "\n"
    path.write_text(f"{measured}\n{by_hand}".rstrip() + "\n")
