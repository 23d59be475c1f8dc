"""Who is asking: which user, and is it the cron."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from starlette.requests import Request

from job_harness_reference.config import Config

Authenticator: TypeAlias = Callable[[Request], Awaitable[str | None]]
"""Returns the id of the user who is asking, `None` for an anonymous request."""


async def trusted_header(request: Request) -> str | None:
    """Believe the header `x-user-id`.

    Only for use behind a gateway that signs users in, sets this header, and drops it from requests
    of its clients: anyone who can send the header is the user that it names.
    """
    return request.headers.get("x-user-id") or None


def cron_refusal(request: Request, config: Config) -> tuple[int, str] | None:
    """Say why the caller is not the cron, with a status code; `None` where it is."""
    secret = config.usable_cron_secret
    if secret is None:
        found = "not set" if config.cron_secret is None else "blank or the text of an unset variable"
        return 503, (
            f"CRON_SECRET is {found}, so the cron cannot be told from other callers and maintenance is closed. "
            "Set CRON_SECRET to a random text here and where the cron is configured."
        )
    expected = f"Bearer {secret}".encode()
    given = request.headers.get("authorization", "").encode("latin-1", "replace")
    if hmac.compare_digest(given, expected):
        return None
    return 401, "The request carries no valid 'Authorization: Bearer $CRON_SECRET' header."
