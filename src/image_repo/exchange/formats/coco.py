"""COCO: what object detectors are trained with (cocodataset.org/#format-data), in one ``annotations.json``.

Boxes and outlines are told in pixels of the exported picture, whatever its size. What a whole picture is said to
show becomes an annotation without a box, as in COCO Camera Traps
(github.com/agentmorris/MegaDetector, "COCO Camera Traps format").
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, BinaryIO
from urllib.parse import quote

from image_repo.exchange import About, Exported, File, Sheets
from image_repo.exchange.formats import reading
from image_repo.exchange.formats.notes import Notes, member
from image_repo.exchange.formats.placement import Placement, area, place

#: where it lies in the zip
ANNOTATIONS = "annotations.json"
#: the most categories, and the most licences, of one export
_MOST_NAMES = 10_000
_COPIED = 1 << 18


class Coco:
    """The format, as exports know it."""

    name = "coco"
    help = "COCO: annotations.json with images, categories, boxes and outlines"

    def open(self, about: About) -> Sheets:
        """Begins an export."""
        return _Sheets(about)


class _Numbered:
    """Names with a number each, from 1, in the order in which they come; bounded."""

    def __init__(self, what: str, notes: Notes) -> None:
        self._what = what
        self._notes = notes
        self._numbers: dict[str, int] = {}

    def of(self, name: str) -> int | None:
        """The number of a name; None where there is no room for another."""
        found = self._numbers.get(name)
        if found is None and len(self._numbers) >= _MOST_NAMES:
            self._notes.add(name, f"left out: there are more than {_MOST_NAMES} {self._what}")
            return None
        return self._numbers.setdefault(name, len(self._numbers) + 1)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self._numbers.items())


class _Sheets:
    """The file of one export: images are written as they come, annotations beside them, and put behind in the end."""

    def __init__(self, about: About) -> None:
        self._about = about
        self._notes = Notes()
        self._categories = _Numbered("categories", self._notes)
        self._licenses = _Numbered("licences", self._notes)
        self._images = _List(about.temporary(), '{\n"images": [')
        self._annotations = _List(about.temporary(), '"annotations": [')

    def add(self, exported: Exported) -> None:
        """Takes the next picture; a description has none."""
        if exported.file is None:
            return
        self._images.add(self._image(exported.document, exported.file))
        self._annotate(exported.document, exported.file)

    def members(self, newest: float) -> Iterator[tuple[str, bytes | BinaryIO]]:
        """``annotations.json``, and what had to be left out of it."""
        file = self._images.finish()
        file.write(b",\n")
        annotations = self._annotations.finish()
        annotations.seek(0)
        while chunk := annotations.read(_COPIED):
            file.write(chunk)
        rest = {
            "categories": [{"id": number, "name": name, "supercategory": ""} for name, number in self._categories],
            "licenses": [{"id": number, "name": name, "url": _url(name)} for name, number in self._licenses],
            "info": self._info(newest),
        }
        file.write(b",\n" + _dumped(rest)[1:-1] + b"}\n")
        file.seek(0)
        yield ANNOTATIONS, file
        told = self._notes.text()
        if told:
            yield member(Coco.name), told

    def close(self) -> None:
        """Lets the temporary files go."""
        self._images.close()
        self._annotations.close()

    def _image(self, document: Mapping[str, Any], file: File) -> dict[str, Any]:
        image: dict[str, Any] = {
            "id": self._images.count + 1,
            "file_name": file.name,
            "width": file.width,
            "height": file.height,
        }
        captured = reading.moment(reading.facts(document).get("captured"))
        if captured:
            image["date_captured"] = captured[0].strftime("%Y-%m-%d %H:%M:%S")
        if self._about.images:
            image["coco_url"] = f"{self._about.images}/{quote(str(document.get('name')))}"
        data = reading.user_data(document)
        license_ = reading.text(data.get("license"))
        number = self._licenses.of(license_) if license_ else None
        if number:
            image["license"] = number
        copyright_ = reading.text(data.get("copyright"))
        return image | ({"copyright": copyright_} if copyright_ else {})

    def _annotate(self, document: Mapping[str, Any], file: File) -> None:
        name, placement = str(document.get("name")), place(document, file)
        boxed: set[str] = set()
        for annotation in reading.annotated(document, self._notes):
            boxed.add(annotation.category)
            if annotation.box is None:
                self._write(annotation.category, {}, annotation.score)
                continue
            found = _found(annotation, placement)
            if found is None:
                why = "is not in the exported picture" if placement else "has no known place in the exported picture"
                self._notes.add(name, f"{annotation.category!r} is left out: it {why}")
                continue
            self._write(annotation.category, found, annotation.score)
        for label in reading.labelled(document, self._notes):
            if label not in boxed:
                self._write(label, {}, None)

    def _write(self, category: str, found: Mapping[str, Any], score: float | None) -> None:
        number = self._categories.of(category)
        if number is None:
            return
        annotation = {
            "id": self._annotations.count + 1,
            "image_id": self._images.count,
            "category_id": number,
            **found,
        }
        self._annotations.add(annotation if score is None else {**annotation, "score": score})

    def _info(self, newest: float) -> dict[str, Any]:
        made = datetime.fromtimestamp(newest, UTC)
        return {
            "description": self._about.title,
            "url": self._about.images or "",
            "version": "1.0",
            "year": made.year,
            "contributor": "",
            "date_created": made.strftime("%Y-%m-%d %H:%M:%S"),
        }


class _List:
    """A member of a JSON object that is a list, written element by element, a line each."""

    def __init__(self, file: BinaryIO, opening: str) -> None:
        self._file = file
        self.count = 0
        file.write(opening.encode())

    def add(self, element: Mapping[str, Any]) -> None:
        self._file.write((b",\n" if self.count else b"\n") + _dumped(element))
        self.count += 1

    def finish(self) -> BinaryIO:
        self._file.write(b"\n]")
        return self._file

    def close(self) -> None:
        self._file.close()


def _found(annotation: reading.Annotation, placement: Placement | None) -> dict[str, Any] | None:
    """Where it is in the exported picture; None where it is not."""
    box = placement.box(annotation.box) if placement and annotation.box else None
    if placement is None or box is None:
        return None
    polygons = [left for polygon in annotation.polygons if (left := placement.outline(polygon))]
    inside = sum(area(list(zip(one[::2], one[1::2], strict=True))) for one in polygons)
    return {
        "bbox": list(box),
        "area": round(inside or box[2] * box[3], 2),
        "iscrowd": int(annotation.crowd),
        "segmentation": polygons,
    }


def _url(license_: str) -> str:
    return license_ if license_.startswith(("https://", "http://")) else ""


def _dumped(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")
