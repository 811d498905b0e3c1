"""IIIF Change Discovery API 1.0: what was added or changed, level 1 (https://iiif.io/api/discovery/1.0/)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from image_repo.iiif.presentation import service_of

CONTEXT = "http://iiif.io/api/discovery/1/context.json"
#: activities of a page
PAGE_ACTIVITIES = 1_000


def collection(address: str, count: int) -> dict[str, Any]:
    """Return the collection of all changes.

    :param address: of the collection itself
    :param count: how many there are
    """
    pages = -(-count // PAGE_ACTIVITIES)
    ends = {"first": _page(address, 1), "last": _page(address, pages)} if pages else {}
    return {"@context": CONTEXT, "id": address, "type": "OrderedCollection", "totalItems": count, **ends}


def page(address: str, number: int, count: int, root: str, documents: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a page of changes, the oldest first.

    :param address: of the collection
    :param number: of the page, from 1
    :param count: of all changes
    :param root: the address of this server
    :param documents: public records of pictures, in the order of their upload
    """
    items = [
        {
            "type": "Update",
            "object": {"id": f"{service_of(root, document['name'])}/manifest.json", "type": "Manifest"},
            "endTime": document["uploaded"],
        }
        for document in documents
    ]
    return {
        "@context": CONTEXT,
        **_page(address, number),
        "partOf": {"id": address, "type": "OrderedCollection"},
        "startIndex": (number - 1) * PAGE_ACTIVITIES,
        **({"prev": _page(address, number - 1)} if number > 1 else {}),
        **({"next": _page(address, number + 1)} if number * PAGE_ACTIVITIES < count else {}),
        "orderedItems": items,
    }


def _page(address: str, number: int) -> dict[str, str]:
    return {"id": f"{address}?page={number}", "type": "OrderedCollectionPage"}
