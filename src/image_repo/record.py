"""Records: what is known of an image beside its bytes. One JSON object beside the original."""

from __future__ import annotations

import builtins
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

#: marks a JSON object in the container as a record of ours; other JSON is somebody else's
MEDIA_TYPE = "application/vnd.image-repo.record+json"
#: the largest record that is read or written, in bytes
MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of an image.

    :param name: of the image, NFC
    :param key: the object that holds the original, in its own spelling
    :param version: the entity tag of the original that the facts below describe
    :param sha256: lower-case hex of the original's bytes
    :param width: upright, in pixels
    :param height: upright, in pixels
    :param filename: what the sender called the file
    :param uploaded: RFC 3339, UTC
    :param exif: camera, lens, exposure, capture time
    :param data: the user's own, any JSON object
    """

    name: str
    key: str
    version: str
    sha256: str
    media_type: str
    bytes: int
    width: int
    height: int
    filename: str | None = None
    uploaded: str | None = None
    owner: str | None = None
    exif: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)

    def public(self) -> dict[str, Any]:
        """As clients see it: everything but where the object is kept."""
        return {name: value for name, value in asdict(self).items() if name != "key"}

    def dump(self) -> builtins.bytes:
        """As it is stored."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()

    @classmethod
    def load(cls, text: builtins.bytes) -> Record:
        """Reads what :meth:`dump` wrote; unknown members are passed over, for the sake of newer writers.

        :raises ValueError: when it is no record
        """
        try:
            members = json.loads(text)
            record = cls(**{f.name: members[f.name] for f in fields(cls) if f.name in members})
        except (TypeError, RecursionError) as error:
            raise ValueError(f"not a record: {error}") from error
        wanted = {"name": str, "key": str, "version": str, "sha256": str, "media_type": str, "exif": dict, "data": dict}
        for name, kind in wanted.items():
            if not isinstance(getattr(record, name), kind):
                raise ValueError(f"not a record: {name} is no {kind.__name__}")
        return record


def record_key(name: str) -> str:
    """Where the record of an image is kept."""
    return name + ".json"


def timestamp(seconds: float) -> str:
    """Seconds since the epoch as RFC 3339 text in UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
