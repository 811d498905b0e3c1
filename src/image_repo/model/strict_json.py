"""JSON from outside, read so strictly that it can be told again: to every parser, in UTF-8, however deep the stack."""

from __future__ import annotations

import json
import math
from typing import Any

from image_repo.errors import BadBody

#: how deep objects and lists of what users say may be nested
MOST_LEVELS = 32


def read_object(text: str, what: str = "data") -> dict[str, Any]:
    """A JSON object, as strictly as :func:`read_json`.

    :param what: it is called where it is refused
    :raises BadBody: when it is no such object
    """
    data = read_json(text, what)
    if not isinstance(data, dict):
        raise BadBody(f"Expected {what} to be a JSON object.")
    return data


def read_json(text: str, what: str = "data") -> Any:
    """JSON (RFC 8259): no ``NaN``, no numbers beyond a double, no halves of surrogate pairs.

    :param what: it is called where it is refused
    :raises BadBody: when it is no such text
    """
    try:
        data = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise BadBody(f"Expected {what} to be JSON, but half a surrogate pair is no text (RFC 8259, 8.2).") from error
    except RecursionError as error:
        raise BadBody(f"Objects and lists of {what} may be nested at most {MOST_LEVELS} deep.") from error
    except ValueError as error:
        raise BadBody(f"Expected {what} to be JSON: {error}.") from error
    return data


def is_same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON: in Python, true equals 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON (RFC 8259)")


def _finite(text: str) -> float:
    """A number that is beyond what a float holds would be told as ``Infinity``, which is no JSON."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large")
    return value
