"""Ends the reading of a request body that is too long, before it fills the memory."""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class _TooLongError(Exception):
    """The body passed the limit while it was read."""


class BodyLimit:
    """ASGI middleware: answers 413 to a body of more than `limit_bytes`."""

    def __init__(self, app: ASGIApp, *, limit_bytes: int) -> None:
        self._app = app
        self._limit = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on while its body stays within the limit."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"")
        if declared.isdigit() and int(declared) > self._limit:
            await self._refuse(scope, receive, send)
            return
        await self._count(scope, receive, send)

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        read = 0
        started = False
        exceeded = False

        async def counted() -> Message:
            nonlocal read, exceeded
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._limit:
                exceeded = True
                raise _TooLongError
            return message

        async def guarded(message: Message) -> None:
            nonlocal started
            if exceeded and not started:
                return  # The application answers its own failure to read; ours takes its place.
            started = True
            await send(message)

        try:
            await self._app(scope, counted, guarded)
        except _TooLongError:
            exceeded = True
        if exceeded and not started:
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        detail = f"The request is longer than {self._limit} bytes (JOB_INPUT_LIMIT_BYTES and its envelope)."
        response = JSONResponse({"error": "InputTooLarge", "detail": detail}, status_code=413)
        await response(scope, receive, send)
