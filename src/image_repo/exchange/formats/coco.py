"""COCO: what object detectors are trained with (cocodataset.org/#format-data), in ``annotations.json``.

Boxes and outlines are told in pixels of the exported picture, whatever its size. What is said of a whole picture has
none, and tools for boxes fail where one is missing: it stands in ``labels.json``, in the same form, as COCO Camera
Traps has it (lila.science/coco-camera-traps).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, BinaryIO
from urllib.parse import quote

from image_repo.exchange.base import About, Exported, File, Sheets
from image_repo.exchange.formats import coercion
from image_repo.exchange.formats.notes import Notes, member
from image_repo.exchange.formats.placement import Placement, area, place

#: where they lie in the zip
ANNOTATIONS, LABELS = "annotations.json", "labels.json"
#: the most categories, and the most licences, of one export
_MOST_NAMES = 10_000
_COPIED = 1 << 18


class Coco:
    """The format, as exports know it."""

    name = "coco"
    help = "COCO: annotations.json with boxes and outlines, labels.json with what is said of whole pictures"

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


class _Annotations:
    """Annotations of one file, with its categories."""

    def __init__(self, about: About, notes: Notes) -> None:
        self.categories = _Numbered("categories", notes)
        self.list = _List(about.temporary(), '"annotations": [')

    def add(self, image: int, category: str, found: Mapping[str, Any], score: float | None) -> None:
        number = self.categories.of(category)
        if number is not None:
            one = {"id": self.list.count + 1, "image_id": image, "category_id": number, **found}
            self.list.add(one if score is None else {**one, "score": score})


class _Sheets:
    """The files of one export: images and annotations are written as they come, and put together in the end."""

    def __init__(self, about: About) -> None:
        self._about = about
        self._notes = Notes()
        self._licenses = _Numbered("licences", self._notes)
        self._images = _List(about.temporary(), '{\n"images": [')
        self._boxes = _Annotations(about, self._notes)
        self._labels = _Annotations(about, self._notes)
        self._files: list[BinaryIO] = []

    def add(self, exported: Exported) -> None:
        """Takes the next picture; a description has none."""
        if exported.file is None:
            return
        self._images.add(self._image(exported.document, exported.file))
        self._annotate(exported.document, exported.file)

    def members(self, newest: float) -> Iterator[tuple[str, bytes | BinaryIO]]:
        """``annotations.json``, ``labels.json`` where there are any, and what had to be left out."""
        self._images.finish()
        yield ANNOTATIONS, self._file(self._boxes, newest)
        if self._labels.list.count:
            yield LABELS, self._file(self._labels, newest)
        told = self._notes.text()
        if told:
            yield member(Coco.name), told

    def close(self) -> None:
        """Lets the temporary files go."""
        for file in (self._images.file, self._boxes.list.file, self._labels.list.file, *self._files):
            file.close()

    def _file(self, annotations: _Annotations, newest: float) -> BinaryIO:
        file = self._about.temporary()
        self._files.append(file)
        annotations.list.finish()
        for part in (self._images.file, annotations.list.file):
            part.seek(0)
            while chunk := part.read(_COPIED):
                file.write(chunk)
            file.write(b",\n")
        rest = {
            "categories": [
                {"id": number, "name": name, "supercategory": ""} for name, number in annotations.categories
            ],
            "licenses": [{"id": number, "name": name, "url": _url(name)} for name, number in self._licenses],
            "info": self._info(newest),
        }
        file.write(_dumped(rest)[1:-1] + b"}\n")
        file.seek(0)
        return file

    def _image(self, document: Mapping[str, Any], file: File) -> dict[str, Any]:
        image: dict[str, Any] = {
            "id": self._images.count + 1,
            "file_name": file.name,
            "width": file.width,
            "height": file.height,
        }
        captured = coercion.moment(coercion.facts(document).get("captured"))
        if captured:
            image["date_captured"] = captured[0].replace(tzinfo=None).isoformat(sep=" ")
        if self._about.images:
            image["coco_url"] = f"{self._about.images}/{quote(str(document.get('name')))}"
        data = coercion.user_data(document)
        license_ = coercion.text(data.get("license"))
        number = self._licenses.of(license_) if license_ else None
        if number:
            image["license"] = number
        copyright_ = coercion.text(data.get("copyright"))
        return image | ({"copyright": copyright_} if copyright_ else {})

    def _annotate(self, document: Mapping[str, Any], file: File) -> None:
        name, placement, image = str(document.get("name")), place(document, file), self._images.count
        for annotation in coercion.annotated(document, self._notes):
            found = _found(annotation, placement)
            if annotation.box is None:
                self._labels.add(image, annotation.category, {}, annotation.score)
            elif found is None:
                why = "is not in the exported picture" if placement else "has no known place in the exported picture"
                self._notes.add(name, f"{annotation.category!r} is left out: it {why}")
            else:
                self._boxes.add(image, annotation.category, found, annotation.score)
        for label in coercion.labelled(document, self._notes):
            self._labels.add(image, label, {}, None)

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
        self.file = file
        self.count = 0
        file.write(opening.encode())

    def add(self, element: Mapping[str, Any]) -> None:
        self.file.write((b",\n" if self.count else b"\n") + _dumped(element))
        self.count += 1

    def finish(self) -> None:
        self.file.write(b"\n]")


def _found(annotation: coercion.Annotation, placement: Placement | None) -> dict[str, Any] | None:
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
