"""JSON of clients, read so strictly that every parser can read it again, in UTF-8 and with a shallow stack."""

from __future__ import annotations

import json
import math
from typing import Any

from image_repo.errors import BadBody

#: maximum nesting of objects and lists in users' data
MAX_NESTING = 32


def read_object(text: str, what: str = "data") -> dict[str, Any]:
    """Return a JSON object, read as strictly as by :func:`read_json`.

    :param what: its name, for the problem
    :raises BadBody: when it is not such an object
    """
    data = read_json(text, what)
    if not isinstance(data, dict):
        raise BadBody(f"Expected {what} to be a JSON object.")
    return data


def read_json(text: str, what: str = "data") -> Any:
    """Return a JSON value (RFC 8259) without ``NaN``, numbers beyond a double, and lone surrogates.

    :param what: its name, for the problem
    :raises BadBody: when it is not such a text
    """
    try:
        data = json.loads(text, parse_constant=_refuse_constant, parse_float=_read_finite)
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise BadBody(f"Expected {what} to be JSON, but half a surrogate pair is no text (RFC 8259, 8.2).") from error
    except RecursionError as error:
        raise BadBody(f"Objects and lists of {what} may be nested at most {MAX_NESTING} deep.") from error
    except ValueError as error:
        raise BadBody(f"Expected {what} to be JSON: {error}.") from error
    return data


def is_same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON; in Python, true equals 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON (RFC 8259)")


def _read_finite(text: str) -> float:
    """Return a number; one beyond a double would be written as ``Infinity``, which is not JSON."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large")
    return value
