"""Records: what is known of an image beside its bytes. One JSON object beside the original."""

from __future__ import annotations

import builtins
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

#: marks a JSON object in the container as a record of ours; other JSON is somebody else's
MEDIA_TYPE = "application/vnd.image-repo.record+json"
#: the largest record that is read or written, in bytes
MOST_BYTES = 1 << 20

#: what is said only where it is so
_REMARKS = ("damaged", "preview")
#: what is null as long as there is no picture
_FACTS = ("version", "sha256", "media_type", "bytes", "width", "height", "image_id")


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of an image; of one without a picture as yet, only what its user says: a description.

    A description has an empty ``key``, ``version``, ``sha256`` and ``media_type``, and zeros.

    :param name: of the image, NFC
    :param key: the object that holds the original, in its own spelling
    :param version: the entity tag of the original that the facts below describe
    :param sha256: lower-case hex of the original's bytes
    :param width: upright, in pixels
    :param height: upright, in pixels
    :param filename: what the sender called the file
    :param uploaded: RFC 3339, UTC
    :param exif: camera, lens, exposure, capture time
    :param data: the user's own, any JSON but null; an empty object where nothing is said
    :param damaged: whether some of the picture cannot be decoded; left out where it is whole
    :param preview: whether what is shown is the preview in a raw file; left out where it is not
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
    data: Any = field(default_factory=dict)
    damaged: bool = False
    preview: bool = False

    @classmethod
    def description(cls, name: str, data: Any) -> Record:
        """The record of an image that has no picture yet."""
        return cls(name, "", "", "", "", 0, 0, 0, data=data)

    @property
    def is_description(self) -> bool:
        """Whether there is no picture that it tells of."""
        return not self.version

    def public(self) -> dict[str, Any]:
        """As clients see it: everything but where the object is kept; null what only a picture has."""
        members = {name: value for name, value in self._members().items() if name != "key"}
        if self.is_description:
            return {**members, **dict.fromkeys(_FACTS)}
        return {**members, "image_id": f"sha256:{self.sha256}"}

    def text(self) -> builtins.bytes:
        """As it is served: a line of JSON."""
        return json.dumps(self.public(), ensure_ascii=False, allow_nan=False).encode() + b"\n"

    @property
    def etag(self) -> str:
        """The strong entity tag of what is served."""
        return hashlib.sha256(self.text()).hexdigest()[:32]

    def dump(self) -> builtins.bytes:
        """As it is stored."""
        return json.dumps(self._members(), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()

    def _members(self) -> dict[str, Any]:
        # asdict() copies all that is in them, which takes longer than writing it.
        members = {each.name: getattr(self, each.name) for each in fields(self)}
        for remark in _REMARKS:
            if not members[remark]:
                del members[remark]
        return members

    @classmethod
    def load(cls, text: builtins.bytes) -> Record:
        """Reads what :meth:`dump` wrote; unknown members are passed over, for the sake of newer writers.

        :raises ValueError: when it is no record
        """
        try:
            members = json.loads(text)
            told = {f.name: members[f.name] for f in fields(cls) if f.name in members}
            record = cls(**(told if told.get("data") is not None else {**told, "data": {}}))
        except (TypeError, RecursionError) as error:
            raise ValueError(f"not a record: {error}") from error
        wanted = {"name": str, "key": str, "version": str, "sha256": str, "media_type": str, "exif": dict}
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
