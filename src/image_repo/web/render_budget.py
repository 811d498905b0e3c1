"""What each client without credentials may have rendered (``requests.renders_per_minute``)."""

from __future__ import annotations

from image_repo.access.principal import Principal
from image_repo.concurrency.rate_limiter import RateLimiter
from image_repo.errors import TooManyRenders
from image_repo.web.identity import has_credentials
from image_repo.web.responses import Headers

#: of the application's extensions
RENDER_BUDGET = "image_repo.render_budget"


class RenderBudget:
    """Counts renders, and what costs as much.

    :param limiter: None where nothing bounds them
    """

    def __init__(self, limiter: RateLimiter | None) -> None:
        self._limiter = limiter

    def bounds(self, caller: Principal) -> bool:
        """Return whether the renders of a caller count."""
        return self._limiter is not None and not has_credentials(caller)

    def charge(self, caller: Principal, client: str) -> Headers:
        """Count a render; return the headers with what is left of the client's budget.

        :param client: as :func:`~image_repo.web.client_address.client_key` returns it
        :raises TooManyRenders: where nothing is left
        """
        if self._limiter is None or has_credentials(caller):
            return []
        allowance = self._limiter.take(client)
        if allowance.wait:
            raise TooManyRenders(
                f"Each client may have {allowance.quota} pictures rendered in a minute. What is rendered already is "
                "served all the same, and callers with credentials are not counted.",
                allowance.wait,
                allowance.headers(),
            )
        return allowance.headers()
