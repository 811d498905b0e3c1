"""IIIF Presentation API 3.0: pictures as the canvases of a manifest (https://iiif.io/api/presentation/3.0/)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

CONTEXT = "http://iiif.io/api/presentation/3/context.json"
#: canvases of a manifest; more are a collection of manifests
MAX_CANVASES = 1_000
_THUMBNAIL_PX = 200
#: values of the user's data that are listed, and characters of each
_MAX_VALUES, _MAX_VALUE_CHARS = 50, 1_000

#: a public record, as the catalogue returns it
Document = Mapping[str, Any]


def service_of(root: str, name: str, dialect: int = 3) -> str:
    """Return the address of the image service of an image.

    :param root: the address of this server
    """
    return f"{root}/iiif/{dialect}/{quote(name, safe='')}"


def manifest(address: str, label: str, root: str, documents: Iterable[Document]) -> dict[str, Any]:
    """Return a manifest with a canvas for each record of a picture.

    :param address: of the manifest itself
    """
    canvases = [canvas(root, document) for document in documents]
    return {
        "@context": CONTEXT,
        "id": address,
        "type": "Manifest",
        "label": {"none": [label]},
        **({"thumbnail": canvases[0]["thumbnail"]} if canvases else {}),
        "items": canvases,
    }


def collection(address: str, label: str, pages: Iterable[str]) -> dict[str, Any]:
    """Return a collection of the manifests that hold a part each.

    :param pages: their addresses
    """
    items = [
        {"id": page, "type": "Manifest", "label": {"none": [f"{label}, {number}"]}}
        for number, page in enumerate(pages, 1)
    ]
    return {"@context": CONTEXT, "id": address, "type": "Collection", "label": {"none": [label]}, "items": items}


def canvas(root: str, document: Document) -> dict[str, Any]:
    """Return the canvas of a picture: one function, so that another version of the API is another one."""
    name, width, height = document["name"], document["width"], document["height"]
    base = service_of(root, name)
    service = [{"id": base, "type": "ImageService3", "profile": "level2"}]
    small = min(width, _THUMBNAIL_PX)
    thumbnail = {
        "id": f"{base}/full/{small},/0/default.jpg" if small < width else f"{base}/full/max/0/default.jpg",
        "type": "Image",
        "format": "image/jpeg",
        "width": small,
        "height": max(1, int(height * small / width + 0.5)),
        "service": service,
    }
    body = {
        "id": f"{base}/full/max/0/default.jpg",
        "type": "Image",
        "format": "image/jpeg",
        "width": width,
        "height": height,
        "service": service,
    }
    painting = {
        "id": f"{base}/painting",
        "type": "Annotation",
        "motivation": "painting",
        "body": body,
        "target": f"{base}/canvas",
    }
    metadata = [
        {"label": {"none": [label]}, "value": {"none": [value]}} for label, value in _about(document)
    ]  # fmt: skip
    rights = rights_of(document.get("data"))
    return {
        "id": f"{base}/canvas",
        "type": "Canvas",
        "label": {"none": [name.rpartition("/")[2]]},
        "width": width,
        "height": height,
        **({"metadata": metadata} if metadata else {}),
        **({"rights": rights} if rights else {}),
        "thumbnail": [thumbnail],
        "items": [{"id": f"{base}/page", "type": "AnnotationPage", "items": [painting]}],
    }


def rights_of(data: object) -> str | None:
    """Return the URI of a licence in the data of an image, under ``rights`` or ``license``."""
    for key in ("rights", "license"):
        value = data.get(key) if isinstance(data, Mapping) else None
        if isinstance(value, str) and value.startswith(("http://", "https://")):
            return value
    return None


def _about(document: Document) -> Iterator[tuple[str, str]]:
    """Yield label and text of what people want to read: the time of capture, and single values of the data."""
    exif, data = document.get("exif"), document.get("data")
    captured = exif.get("captured") if isinstance(exif, Mapping) else None
    if isinstance(captured, str):
        yield "captured", captured
    if isinstance(data, Mapping):
        for key, value in list(data.items())[:_MAX_VALUES]:
            if isinstance(value, bool):
                yield key, "true" if value else "false"
            elif isinstance(value, (str, int, float)):
                yield key, str(value)[:_MAX_VALUE_CHARS]
