"""Share links of a query: what is signed of it, and how what its maker may not see is kept out of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from image_repo.access.control import AccessControl, Action, owned_by
from image_repo.access.principal import Principal
from image_repo.catalogue.query import Condition
from image_repo.errors import Forbidden, Unauthenticated

#: parameters that a holder of the link may choose: which page it is
_UNSIGNED = frozenset(("share", "limit", "page", "skip", "after"))

_NOT_ALL = "With these credentials a query cannot be shared: share single images."


def signed_text(pairs: Iterable[tuple[str, str]]) -> str:
    """Return what a link of a query signs: all its parameters but those of the page, in any order."""
    return json.dumps(sorted(pair for pair in pairs if pair[0] not in _UNSIGNED))


def visible_conditions(access: AccessControl, principal: Principal) -> list[tuple[str, str]]:
    """Return the parameters that narrow a query to what its maker may see.

    :raises Problem: when the principal may not share, or what it may see cannot be said in a query
    """
    if principal.is_anonymous:
        raise Unauthenticated("Credentials are needed to share.")
    access.authorise(principal, Action.LINK, "")
    visible, owner = access.authorise(principal, Action.LIST, "").visible, principal.owner
    conditions = [each for each in visible.conditions if owner is None or each != owned_by(owner)]
    # The conditions of a namespace are on whole names, those of its queries on the names below it.
    if visible.words or (principal.namespace and conditions):
        raise Forbidden(_NOT_ALL)
    prefix = principal.relative(visible.prefix)
    return [
        *([("owner", owner)] if owner is not None else []),
        *([("name__regex", f"^{re.escape(prefix)}")] if prefix else []),
        *map(_parameter, conditions),
    ]


def _parameter(condition: Condition) -> tuple[str, str]:
    is_text = len(condition.values) == 1 and isinstance(condition.values[0], str)
    if not is_text or condition.path != ("name",) or condition.op != "regex":
        raise Forbidden(_NOT_ALL)
    return "name__regex", str(condition.values[0])
