"""Read labels beside pictures: ``metadata.csv``, COCO, Camtrap DP packages, and results of MegaDetector.

Each becomes lines of a manifest, ``{"file_name", "data"}``. Files are untrusted, and bounded in size.

Sources: huggingface.co/docs/datasets (ImageFolder); cocodataset.org/#format-data; lila.science (COCO Camera Traps);
camtrap-dp.tdwg.org 1.0.2; MegaDetector batch output format 1.4 (github.com/agentmorris/MegaDetector).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from image_repo.errors import BrokenArchive
from image_repo.exchange.base import Opener
from image_repo.exchange.formats import coercion
from image_repo.exchange.tables import Row, read_csv
from image_repo.model.strict_json import read_object

#: of one file, which is parsed in memory: of a stranger, of the user
MAX_LABEL_BYTES, MAX_OWN_LABEL_BYTES = 8 << 20, 512 << 20
#: lines may have this multiple of the bytes of a file: rows of a deployment repeat its columns
_MAX_EXPANSION = 4
#: of one deployment: each is compared with each of its media
_MAX_EVENTS = 1_000
#: the beginning of a file, from which its format is detected
HEAD_BYTES = 1 << 16

METADATA_CSV, PACKAGE = "metadata.csv", "datapackage.json"
_CAMTRAP_TABLES = ("media.csv", "deployments.csv", "observations.csv")
_JSON_LABELS = re.compile(rb'"(?:annotations|categories|detection_categories)"\s*:\s*[\[{]')
_FILE_COLUMNS = ("file_name", "filename", "file", "path", "image")
_COCO_FACTS = ("id", "file_name", "width", "height", "license", "coco_url", "flickr_url")
_NUMBERS = frozenset(
    (
        "latitude", "longitude", "coordinateUncertainty", "cameraDelay", "cameraHeight", "cameraDepth", "cameraTilt",
        "cameraHeading", "detectionDistance", "count", "individualPositionRadius", "individualPositionAngle",
        "individualSpeed", "bboxX", "bboxY", "bboxWidth", "bboxHeight", "classificationProbability",
    )
)  # fmt: skip
_LISTS = ("behavior", "deploymentGroups", "deploymentTags", "observationTags")
_MEDIA_FACTS = ("mediaID", "filePath", "fileName", "fileMediatype", "exifData")
_OBSERVATION_KEYS = ("observationID", "deploymentID", "mediaID", "eventStart", "eventEnd", "observationLevel")
_DETECTIONS = {"animal": "animal", "person": "human", "vehicle": "vehicle"}

#: the file of a picture, and its data
Label = tuple[str, dict[str, Any]]


def is_label_file(path: str, head: Callable[[], bytes]) -> bool:
    """Return whether a file holds labels.

    :param head: returns its first :data:`HEAD_BYTES`
    """
    name = path.rpartition("/")[2]
    if name in (METADATA_CSV, PACKAGE, *_CAMTRAP_TABLES):
        return True
    return name.endswith(".json") and _JSON_LABELS.search(head()) is not None


def label_lines(files: Mapping[str, Opener], max_bytes: int) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Yield the path of each file with labels, and its lines as a manifest in the same folder.

    :param files: by path
    :param max_bytes: of one file
    :raises BrokenArchive: if one cannot be read, while its lines are iterated
    """

    def content(path: str) -> bytes:
        return _content(files[path], max_bytes) if path in files else b""

    for path in files:
        folder, name = path[: path.rfind("/") + 1], path.rpartition("/")[2]
        if name == METADATA_CSV:
            yield path, _lines(path, max_bytes, partial(_from_csv, partial(content, path)))
        elif name == "media.csv" and folder + PACKAGE in files:
            tables = {table: partial(content, folder + table) for table in _CAMTRAP_TABLES}
            yield path, _lines(path, max_bytes, partial(_from_camtrap, tables))
        elif name.endswith(".json") and name != PACKAGE:
            yield path, _lines(path, max_bytes, partial(_from_json, partial(content, path)))


def _lines(path: str, max_bytes: int, labels: Callable[[], Iterator[Label]]) -> Iterator[bytes]:
    remaining = _MAX_EXPANSION * max_bytes
    try:
        for file, data in labels():
            if file and data:
                members = {"file_name": file.replace("\\", "/"), "data": data}
                line = json.dumps(members, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
                remaining -= len(line)
                if remaining < 0:
                    raise BrokenArchive(f"The labels in {path[:200]!r} repeat too much text.")
                yield line
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise BrokenArchive(f"{path[:200]!r} is no file of labels: {error}") from error


def _content(opener: Opener, max_bytes: int) -> bytes:
    content = bytearray()
    for chunk in opener():
        content += chunk
        if len(content) > max_bytes:
            raise BrokenArchive(f"Files of labels may have at most {max_bytes} bytes.")
    return bytes(content)


def _from_csv(content: Callable[[], bytes]) -> Iterator[Label]:
    for row in read_csv(content()):
        column = next((name for name in _FILE_COLUMNS if name in row), None)
        if column is None:
            raise BrokenArchive(f"Expected {METADATA_CSV} to have a column file_name.")
        own = {name.removeprefix("data."): text for name, text in row.items() if name.startswith("data.")}
        others = {name: text for name, text in row.items() if name != column}
        yield row[column], {name: text for name, text in (own or others).items() if text}


# -- JSON ------------------------------------------------------------------------------


def _from_json(content: Callable[[], bytes]) -> Iterator[Label]:
    document = read_object(content().decode("utf-8-sig"), "the file of labels")
    return _from_megadetector(document) if "detection_categories" in document else _from_coco(document)


def _from_coco(document: Mapping[str, Any]) -> Iterator[Label]:
    categories = {category["id"]: str(category["name"]) for category in document.get("categories", ())}
    licenses = {
        license_["id"]: license_.get("url") or license_.get("name") for license_ in document.get("licenses", ())
    }
    annotations: dict[Any, list[Mapping[str, Any]]] = {}
    for annotation in document.get("annotations", ()):
        annotations.setdefault(annotation["image_id"], []).append(annotation)
    for image in document.get("images", ()):
        data = {name: value for name, value in image.items() if name not in _COCO_FACTS and value not in (None, "")}
        if license_ := licenses.get(image.get("license")):
            data["license"] = license_
        own = annotations.get(image["id"], [])
        if boxes := [_box(each, categories) for each in own if each.get("bbox")]:
            data["annotations"] = boxes
        if labels := [categories[each["category_id"]] for each in own if not each.get("bbox")]:
            data["labels"] = list(dict.fromkeys(labels))
        yield image["file_name"], data


def _box(annotation: Mapping[str, Any], categories: Mapping[Any, str]) -> dict[str, Any]:
    box: dict[str, Any] = {"category": categories[annotation["category_id"]], "bbox": annotation["bbox"]}
    if isinstance(annotation.get("segmentation"), list) and annotation["segmentation"]:
        box["segmentation"] = annotation["segmentation"]
    return box | {name: annotation[name] for name in ("score", "iscrowd") if annotation.get(name)}


def _from_megadetector(document: Mapping[str, Any]) -> Iterator[Label]:
    categories, species = document["detection_categories"], document.get("classification_categories", {})
    detector = document.get("info", {}).get("detector")
    for image in document.get("images", ()):
        detections = image.get("detections")
        if detections is not None:
            observations = [_detection(each, categories, species, detector) for each in detections]
            confidences = [each["classificationProbability"] for each in observations]
            yield image["file"], {"observations": observations, "max_detection_conf": max(confidences, default=0.0)}


def _detection(
    detection: Mapping[str, Any], categories: Mapping[str, str], species: Mapping[str, str], detector: str | None
) -> dict[str, Any]:
    observation: dict[str, Any] = {
        "observationType": _DETECTIONS.get(categories[str(detection["category"])], "unknown"),
        "classificationMethod": "machine",
        "classificationProbability": float(detection["conf"]),
    }
    if detector:
        observation["classifiedBy"] = detector
    if detection.get("bbox"):
        observation |= dict(zip(("bboxX", "bboxY", "bboxWidth", "bboxHeight"), detection["bbox"], strict=True))
    if classifications := detection.get("classifications"):
        observation["species"] = species[str(max(classifications, key=lambda each: each[1])[0])]
    return observation


# -- Camtrap DP ------------------------------------------------------------------------


def _from_camtrap(content: Mapping[str, Callable[[], bytes]]) -> Iterator[Label]:
    tables = {name: read_csv(read()) for name, read in content.items()}
    deployments = {row.get("deploymentID", ""): _typed(row) for row in tables["deployments.csv"]}
    observations: dict[str, list[dict[str, Any]]] = {}
    events: dict[str, list[_Event]] = {}
    for row in tables["observations.csv"]:
        if (observation := _observation(row)) and row.get("mediaID"):
            observations.setdefault(row["mediaID"], []).append(observation)
        elif observation:
            events.setdefault(row.get("deploymentID", ""), []).append(_Event.of(row, observation))
            if len(events[row.get("deploymentID", "")]) > _MAX_EVENTS:
                raise ValueError(f"a deployment may have at most {_MAX_EVENTS} events")
    for row in tables["media.csv"]:
        deployment = row.get("deploymentID", "")
        data = {name: value for name, value in _typed(row).items() if name not in _MEDIA_FACTS}
        data = deployments.get(deployment, {}) | data
        time = coercion.moment(row.get("timestamp"))
        during = [each.observation for each in events.get(deployment, ()) if time and each.includes(time[0])]
        if own := observations.get(row.get("mediaID", ""), []) + during:
            data["observations"] = own
        yield row["filePath"], data


@dataclass(frozen=True)
class _Event:
    """An observation of all media of a deployment between two times."""

    start: datetime
    end: datetime
    observation: dict[str, Any]

    @classmethod
    def of(cls, row: Row, observation: dict[str, Any]) -> _Event:
        """Return the event of a row.

        :raises ValueError: if it has no times
        """
        start, end = (coercion.moment(row.get(name)) for name in ("eventStart", "eventEnd"))
        if start is None or end is None:
            raise ValueError("an observation has neither a mediaID nor eventStart and eventEnd")
        return cls(start[0], end[0], {**observation, "observationLevel": "event"})

    def includes(self, time: datetime) -> bool:
        """Return whether a time is within the event."""
        return self.start <= time <= self.end


def _observation(row: Row) -> dict[str, Any] | None:
    """Return an observation; None for one that only says that the picture is unclassified."""
    values = {name: value for name, value in _typed(row).items() if name not in _OBSERVATION_KEYS}
    return None if values == {"observationType": "unclassified"} else values


def _typed(row: Row) -> dict[str, Any]:
    return {name: _value(name, text) for name, text in row.items() if text}


def _value(name: str, text: str) -> Any:
    # exports put an apostrophe before what a spreadsheet would calculate
    text = text[1:] if text.startswith("'") and text[1:2] in tuple("=+-@'N") else text
    if name in _NUMBERS:
        return float(text) if "." in text or "e" in text.lower() else int(text)
    if name in _LISTS:
        return [each.strip() for each in text.split("|")]
    return {"true": True, "false": False}.get(text, text)
