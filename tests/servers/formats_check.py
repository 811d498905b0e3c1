"""Opens an export as those do who it is for: ``datasets``, ``pycocotools`` and others; away from any network.

Run by the interpreter that has them: ``formats_check.py FORMAT FOLDER``. Writes what it found as JSON,
``{"errors": [...], "rows": [...]}`` and the like; ends with another status than 0 where it could not look.
"""

# Each is a heavy import, and only one is needed.
# ruff: noqa: PLC0415

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
STANDARD = HERE.parent / "camtrap-dp"


def no_network(*_: object, **__: object) -> None:
    """Stands where connections are made."""
    raise OSError("a checker wanted the network")


def imagefolder(folder: Path) -> dict[str, Any]:
    """What ``load_dataset("imagefolder")`` gives: each row, the picture as its size and mode."""
    from datasets import Image, load_dataset

    loaded = load_dataset("imagefolder", data_dir=str(folder), split="train")
    rows = []
    for row in loaded:
        picture = row.pop("image")
        picture.load()
        rows.append({**row, "image": [*picture.size, picture.mode]})
    decodes = isinstance(loaded.features["image"], Image)
    return {"errors": [] if decodes else ["image is no Image"], "rows": rows, "features": sorted(loaded.features)}


def croissant(folder: Path) -> dict[str, Any]:
    """What mlcroissant says of ``croissant.json``, and the records of its images."""
    import mlcroissant

    loaded = mlcroissant.Dataset(str(folder / "croissant.json"))
    issues = loaded.metadata.ctx.issues
    sets = [one.id for one in loaded.metadata.record_sets]
    rows = [dict(map(_plain, row.items())) for row in (loaded.records("images") if "images" in sets else ())]
    return {"errors": sorted(issues.errors), "warnings": sorted(issues.warnings), "rows": rows, "sets": sets}


def _plain(item: tuple[str, Any]) -> tuple[str, Any]:
    name, value = item
    if isinstance(value, bytes):
        return name, value.decode()
    if hasattr(value, "mode") and hasattr(value, "size"):
        return name, [*value.size, value.mode]
    if isinstance(value, list):
        return name, [_plain(("", each))[1] for each in value]
    return name, value.isoformat() if hasattr(value, "isoformat") else value


def coco(folder: Path) -> dict[str, Any]:
    """What pycocotools reads: sizes of the files and of the masks, and how well the boxes find themselves."""
    from contextlib import redirect_stdout

    from PIL import Image
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    errors, rows = [], []
    with redirect_stdout(sys.stderr):
        read = COCO(str(folder / "annotations.json"))
        for image in read.loadImgs(read.getImgIds()):
            size = Image.open(folder / image["file_name"]).size
            if size != (image["width"], image["height"]):
                errors.append(f"{image['file_name']} has {size}")
            for one in read.loadAnns(read.getAnnIds(imgIds=[image["id"]])):
                outlined = read.annToMask(one).shape if one["segmentation"] else None
                name = read.loadCats([one["category_id"]])[0]["name"]
                rows.append({"file": image["file_name"], "category": name, "bbox": one["bbox"], "mask": outlined})
        if rows:
            boxes = [{**one, "score": one.get("score", 1.0)} for one in read.dataset["annotations"]]
            judged = COCOeval(read, read.loadRes(boxes), "bbox")
            judged.evaluate()
            judged.accumulate()
            judged.summarize()
            rows.append({"precision": float(judged.stats[0])})
    return {"errors": errors, "rows": rows, "images": len(read.imgs)}


def camtrap(folder: Path) -> dict[str, Any]:
    """What frictionless says of ``datapackage.json`` by the standard's own profile and schemas, and the tables."""
    import frictionless
    import requests
    from requests.adapters import BaseAdapter

    profiles = Path(frictionless.__file__).parent / "assets" / "profiles"
    files = {
        "https://raw.githubusercontent.com/tdwg/camtrap-dp/1.0.2/": STANDARD,
        "https://specs.frictionlessdata.io/schemas/": STANDARD,
        "http://json.schemastore.org/": profiles,
    }

    class KeptConnections(BaseAdapter):
        """Answers with files of this folder what stands at the addresses that the standard refers to."""

        def send(self, request: requests.PreparedRequest, **_: object) -> requests.Response:
            base, _slash, name = str(request.url).rpartition("/")
            answer = requests.Response()
            answer.status_code, answer.url, answer.request = 200, str(request.url), request
            answer.raw = _Body((files[base + "/"] / name).open("rb"))
            return answer

        def close(self) -> None:
            pass

    session = requests.Session()
    for address in files:
        session.mount(address, KeptConnections())
    with frictionless.system.use_context(http_session=session, trusted=True):
        package = frictionless.Package(str(folder / "datapackage.json"))
        report = package.validate()
        rows = {one.name: [row.to_dict(json=True) for row in one.read_rows()] for one in package.resources}
    errors = [f"{error.type}: {error.message}" for error in report.errors]
    errors += [f"{error.type}: {error.message}" for task in report.tasks for error in task.errors]
    return {"errors": errors, "rows": rows, "checked": [task.name for task in report.tasks]}


class _Body:
    """A file as the raw body of an answer."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.decode_content = False

    def read(self, size: int | None = None, **_: object) -> bytes:
        return self._file.read(-1 if size is None else size)  # type: ignore[no-any-return]

    def close(self) -> None:
        self._file.close()

    release_conn = close


def table(folder: Path) -> dict[str, Any]:
    """What pandas reads from ``records.csv`` or ``records.parquet``."""
    import pandas

    path = next(folder.glob("records.*"))
    frame = pandas.read_csv(path) if path.suffix == ".csv" else pandas.read_parquet(path)
    missing = [name for name in frame["file_name"] if not (folder / name).is_file()]
    return {"errors": missing, "rows": frame.to_dict("records")}


CHECKS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "imagefolder": imagefolder,
    "coco": coco,
    "croissant": croissant,
    "camtrap": camtrap,
    "csv": table,
    "parquet": table,
}


def main(what: str, folder: str) -> None:
    """Checks, and writes what was found."""
    with tempfile.TemporaryDirectory(prefix="image_repo-formats-") as caches:
        os.environ |= {
            "HF_HOME": caches,
            "HF_DATASETS_CACHE": f"{caches}/datasets",
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
            "CROISSANT_CACHE": f"{caches}/croissant",
            "XDG_CACHE_HOME": caches,
        }
        socket.socket.connect = no_network  # type: ignore[assignment,method-assign]
        socket.getaddrinfo = no_network  # type: ignore[assignment]
        report = CHECKS[what](Path(folder))
    print(json.dumps(report, ensure_ascii=False, default=str))


if __name__ == "__main__":
    main(*sys.argv[1:])
