"""COCO, the training format of object detectors (cocodataset.org/#format-data), in ``annotations.json``.

Boxes and outlines are in pixels of the exported picture. Labels of whole pictures have no box, and tools fail on
annotations without one: they are in ``labels.json``, in the same form, like COCO Camera Traps
(lila.science/coco-camera-traps).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, BinaryIO
from urllib.parse import quote

from image_repo.exchange.base import About, Exported, File
from image_repo.exchange.formats import coercion
from image_repo.exchange.formats.base import FormatWriter, TableMember
from image_repo.exchange.formats.notes import Notes
from image_repo.exchange.formats.placement import Placement, area, place

ANNOTATIONS, LABELS = "annotations.json", "labels.json"
#: categories, or licences, of one export
_MAX_NAMES = 10_000


class _Numbered:
    """Names, numbered from 1 in order of appearance; bounded."""

    def __init__(self, what: str, notes: Notes) -> None:
        self._what = what
        self._notes = notes
        self._numbers: dict[str, int] = {}

    def of(self, name: str) -> int | None:
        """Return the number of a name; None beyond the limit."""
        if name not in self._numbers and len(self._numbers) >= _MAX_NAMES:
            self._notes.add(name, f"left out: there are more than {_MAX_NAMES} {self._what}")
            return None
        return self._numbers.setdefault(name, len(self._numbers) + 1)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self._numbers.items())


class _Annotations:
    """Annotations of one file, with its categories."""

    def __init__(self, file: BinaryIO, notes: Notes) -> None:
        self.categories = _Numbered("categories", notes)
        self.list = _List(file, '"annotations": [')

    def add(self, image: int, category: str, region: Mapping[str, Any], score: float | None) -> None:
        number = self.categories.of(category)
        if number is not None:
            one = {"id": self.list.count + 1, "image_id": image, "category_id": number, **region}
            self.list.add(one if score is None else {**one, "score": score})


class Coco(FormatWriter):
    """The files of one export: images and annotations are spooled, and joined at the end."""

    name = "coco"
    help = "COCO: annotations.json with boxes and outlines, labels.json with labels of whole pictures"

    def __init__(self, about: About) -> None:
        super().__init__(about)
        self._licenses = _Numbered("licences", self._notes)
        self._images = _List(self._temporary(), '{\n"images": [')
        self._boxes = _Annotations(self._temporary(), self._notes)
        self._labels = _Annotations(self._temporary(), self._notes)

    def add(self, exported: Exported) -> None:
        """Add the next picture; descriptions have none."""
        if exported.file is None:
            return
        self._images.add(self._image(exported.document, exported.file))
        self._annotate(exported.document, exported.file)

    def _tables(self, newest: float) -> Iterator[TableMember]:
        self._images.finish()
        yield ANNOTATIONS, self._file(self._boxes, newest)
        if self._labels.list.count:
            yield LABELS, self._file(self._labels, newest)

    def _file(self, annotations: _Annotations, newest: float) -> BinaryIO:
        file = self._temporary()
        annotations.list.finish()
        for part in (self._images.file, annotations.list.file):
            part.seek(0)
            shutil.copyfileobj(part, file)
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
        for annotation in coercion.annotations_of(document, self._notes):
            region = _region(annotation, placement)
            if annotation.box is None:
                self._labels.add(image, annotation.category, {}, annotation.score)
            elif region is None:
                why = "is not in the exported picture" if placement else "has no known place in the exported picture"
                self._notes.add(name, f"{annotation.category!r} is left out: it {why}")
            else:
                self._boxes.add(image, annotation.category, region, annotation.score)
        for label in coercion.labels_of(document, self._notes):
            self._labels.add(image, label, {}, None)

    def _info(self, newest: float) -> dict[str, Any]:
        created = datetime.fromtimestamp(newest, UTC)
        return {
            "description": self._about.title,
            "url": self._about.images or "",
            "version": "1.0",
            "year": created.year,
            "contributor": "",
            "date_created": created.strftime("%Y-%m-%d %H:%M:%S"),
        }


class _List:
    """A list member of a JSON object, written with an element per line."""

    def __init__(self, file: BinaryIO, opening: str) -> None:
        self.file = file
        self.count = 0
        file.write(opening.encode())

    def add(self, element: Mapping[str, Any]) -> None:
        self.file.write((b",\n" if self.count else b"\n") + _dumped(element))
        self.count += 1

    def finish(self) -> None:
        self.file.write(b"\n]")


def _region(annotation: coercion.Annotation, placement: Placement | None) -> dict[str, Any] | None:
    """Return the visible part of an annotation in the exported picture; None if there is none."""
    box = placement.box(annotation.box) if placement and annotation.box else None
    if placement is None or box is None:
        return None
    polygons = [visible for polygon in annotation.polygons if (visible := placement.outline(polygon))]
    enclosed = sum(area(list(zip(one[::2], one[1::2], strict=True))) for one in polygons)
    return {
        "bbox": list(box),
        "area": round(enclosed or box[2] * box[3], 2),
        "iscrowd": int(annotation.crowd),
        "segmentation": polygons,
    }


def _url(license_: str) -> str:
    return license_ if license_.startswith(("https://", "http://")) else ""


def _dumped(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")
