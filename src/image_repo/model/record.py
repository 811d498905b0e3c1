"""Records: metadata of an image, as one JSON object beside the original."""

from __future__ import annotations

import builtins
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

#: distinguishes records from other JSON in the container
MEDIA_TYPE = "application/vnd.image-repo.record+json"
#: maximum size of a record
MAX_RECORD_BYTES = 1 << 20

#: members that are present only where they say something
_REMARKS = ("dhash", "thumbhash", "palette", "damaged", "preview", "intent")
#: members that are null without a picture
_FACTS = ("version", "sha256", "media_type", "bytes", "width", "height", "image_id")


@dataclass(frozen=True, slots=True)
class Record:
    """Metadata of an image. Without a picture it is a description: the user's data alone.

    A description has an empty ``key``, ``version``, ``sha256`` and ``media_type``, and zeros.

    :param name: of the image, NFC
    :param key: of the original's object, in its own spelling
    :param version: the entity tag of the original that the members below describe
    :param sha256: lower-case hex of the original's bytes
    :param width: upright, in pixels
    :param height: upright, in pixels
    :param filename: of the upload
    :param uploaded: RFC 3339, UTC
    :param exif: camera, lens, exposure, capture time
    :param data: the user's, any JSON but null; an empty object by default
    :param dhash: the difference hash of the picture, 16 hexadecimal digits; absent where nothing has decoded it yet
    :param thumbhash: a placeholder of the picture, as ``dhash``
    :param palette: its main colours, ``#rrggbb``, the most frequent first, as ``dhash``
    :param damaged: whether some of the picture cannot be decoded; left out where it is whole
    :param preview: whether renditions come from the preview in a raw file; absent where false
    :param intent: an upload that has begun: ``sha256``, ``filename``, ``uploaded`` and ``data`` of the next original,
        and ``first`` where there is neither picture nor description yet; absent where none has
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
    dhash: str = ""
    thumbhash: str = ""
    palette: Sequence[str] = ()
    damaged: bool = False
    preview: bool = False
    intent: Mapping[str, Any] | None = None

    @classmethod
    def description(cls, name: str, data: Any, owner: str | None = None) -> Record:
        """Return the record of an image that has no picture yet."""
        return cls(name, "", "", "", "", 0, 0, 0, owner=owner, data=data)

    @property
    def is_description(self) -> bool:
        """Whether there is no picture, and more than the intent of one."""
        return not self.version and not (self.intent or {}).get("first")

    def public(self) -> dict[str, Any]:
        """Return the members that clients see: all but key and intent; null where they need a picture."""
        members = {name: value for name, value in self._members().items() if name not in ("key", "intent")}
        if self.is_description:
            return {**members, **dict.fromkeys(_FACTS)}
        return {**members, "image_id": f"sha256:{self.sha256}"}

    def text(self) -> builtins.bytes:
        """Return the line of JSON that is served."""
        return json.dumps(self.public(), ensure_ascii=False, allow_nan=False).encode() + b"\n"

    @property
    def etag(self) -> str:
        """The strong entity tag of :meth:`text`."""
        return hashlib.sha256(self.text()).hexdigest()[:32]

    def dump(self) -> builtins.bytes:
        """Return the JSON that is stored."""
        return json.dumps(self._members(), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()

    def _members(self) -> dict[str, Any]:
        # asdict() copies values deeply, which takes longer than encoding them.
        members = {each.name: getattr(self, each.name) for each in fields(self)}
        for remark in _REMARKS:
            if not members[remark]:
                del members[remark]
        return members

    @classmethod
    def load(cls, text: builtins.bytes) -> Record:
        """Return the record that :meth:`dump` wrote. Unknown members, of newer writers, are ignored.

        :raises ValueError: when it is not a record
        """
        try:
            members = json.loads(text)
            known = {f.name: members[f.name] for f in fields(cls) if f.name in members}
            record = cls(**(known if known.get("data") is not None else {**known, "data": {}}))
        except (TypeError, RecursionError) as error:
            raise ValueError(f"Expected a record: {error}") from error
        types = {"name": str, "key": str, "version": str, "sha256": str, "media_type": str, "exif": dict}
        for name, kind in types.items():
            if not isinstance(getattr(record, name), kind):
                raise ValueError(f"Expected a record with a {kind.__name__} as {name}")
        return record


#: every member that clients can see, also those that are present only where true
PUBLIC_MEMBERS = frozenset((*(each.name for each in fields(Record)), "image_id")) - {"key", "intent"}


def record_key(name: str) -> str:
    """Return the key of an image's record."""
    return name + ".json"


def timestamp(seconds: float) -> str:
    """Return seconds since the epoch as RFC 3339 text in UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
