"""Judges of IIIF and of thumbor: ``iiif-validator``, ``iiif-prezi3`` and ``libthumbor``.

Run by the interpreter that has them. Writes JSON; ends with another status than 0 where it could not look.

* ``picture FILE``: write the picture that the validator knows, as PNG
* ``image HOST:PORT VERSION IDENTIFIER``: the tests of level 2 that fail, and how many ran
* ``presentation``: read a list of documents from standard input, return the type and the number of items of each
* ``thumbor KEY``: read a list of options from standard input, return the signed URLs
"""

# Each is an import of its own, and only one is needed.
# ruff: noqa: PLC0415

from __future__ import annotations

import contextlib
import io
import json
import sys
from typing import Any


def picture(path: str) -> None:
    from iiif_validator.validator import ValidationInfo
    from PIL import Image

    image = Image.new("RGB", (1000, 1000))
    for x, column in enumerate(ValidationInfo().colorInfo):
        for y, colour in enumerate(column):
            image.paste(tuple(colour), (x * 100, y * 100, x * 100 + 100, y * 100 + 100))
    image.save(path, "PNG")


def image(server: str, version: str, identifier: str) -> dict[str, Any]:
    from iiif_validator.validator import ImageAPI, TestSuite, ValidationInfo

    failed, ran = {}, 0
    tests = TestSuite(ValidationInfo()).list_tests(version)
    for name in [name for name, test in tests.items() if test["level"] <= 2]:
        ran += 1
        result = ImageAPI(identifier, server, f"iiif/{version[0]}", "http", "", version, debug=False)
        try:
            TestSuite(ValidationInfo()).run_test(name, result)
        except Exception as error:
            failed[name] = repr(error)
        if result.exception:
            failed[name] = f"{result.urls}: {vars(result.exception)}"
    return {"ran": ran, "failed": failed}


def presentation() -> list[tuple[str, int]]:
    from iiif_prezi3 import Collection, Manifest

    known = {"Manifest": Manifest, "Collection": Collection}
    documents = [known[each["type"]](**each) for each in json.load(sys.stdin)]
    return [(each.type, len(each.items)) for each in documents]


def thumbor(key: str) -> list[str]:
    from libthumbor import CryptoURL

    return [CryptoURL(key=key).generate(**options) for options in json.load(sys.stdin)]


if __name__ == "__main__":
    command = {"picture": picture, "image": image, "presentation": presentation, "thumbor": thumbor}[sys.argv[1]]
    with contextlib.redirect_stdout(io.StringIO()):  # the validator talks
        outcome = command(*sys.argv[2:])
    print(json.dumps(outcome))
