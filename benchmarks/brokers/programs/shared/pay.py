"""One request to the host that charges an order."""

import asyncio
import json
import os
import urllib.request

MISTAKE = os.environ["MISTAKE"]
SECONDS = 20  # Shorter than any time after which another worker may have the job.


def headers_for(order: str) -> dict[str, str]:
    headers = {"content-type": "application/json"}
    if MISTAKE not in ("charges twice", "twice by timeout"):
        headers["idempotency-key"] = order  # The host recognises a second request for the same order.
    return headers


def charge(order: str) -> dict[str, object]:
    body = json.dumps({"order": order}).encode()
    request = urllib.request.Request("http://pay.example.com/charge", body, headers_for(order))
    with urllib.request.urlopen(request, timeout=SECONDS) as reply:
        return json.load(reply)


async def charge_async(order: str) -> dict[str, object]:
    """The same where a task may be cancelled in between. Raises OSError or ValueError."""
    async with asyncio.timeout(SECONDS):
        return await _charge_async(order)


async def _charge_async(order: str) -> dict[str, object]:
    reader, writer = await asyncio.open_connection("pay.example.com", 80)
    try:
        body = json.dumps({"order": order})
        lines = ["POST /charge HTTP/1.1", "host: pay.example.com", "connection: close", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers_for(order).items()]
        writer.write("\r\n".join((*lines, "", body)).encode())
        head, _, said = (await reader.read()).partition(b"\r\n\r\n")
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise ValueError("the payment failed")
        return json.loads(said)
    finally:
        writer.close()
