"""CoAP with aiocoap, whose source archive has no complete tests: small and blockwise transfers,
observations, and requests side by side, over its transports that use the loop's endpoint.

    coap.py own|ringmsg
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

os.environ["AIOCOAP_CLIENT_TRANSPORT"] = "simple6"
os.environ["AIOCOAP_SERVER_TRANSPORT"] = "simplesocketserver"

import aiocoap  # noqa: E402
import aiocoap.resource  # noqa: E402

PORT = 56831
LARGE = bytes(range(256)) * 80
NOTIFICATIONS = 10


class Echo(aiocoap.resource.Resource):  # type: ignore[misc]
    """Keeps what is put, and gives it back."""

    def __init__(self) -> None:
        super().__init__()
        self.content = b"nothing"

    async def render_get(self, request: Any) -> Any:
        return aiocoap.Message(payload=self.content)

    async def render_put(self, request: Any) -> Any:
        self.content = request.payload
        return aiocoap.Message(code=aiocoap.CHANGED)


class Ticker(aiocoap.resource.ObservableResource):  # type: ignore[misc]
    """Counts, and tells its observers."""

    count = 0

    async def tick(self) -> None:
        while True:
            await asyncio.sleep(0.01)
            self.count += 1
            self.updated_state()

    async def render_get(self, request: Any) -> Any:
        return aiocoap.Message(payload=b"%d" % self.count)


async def main() -> None:
    """Prints what was received."""
    site, ticker = aiocoap.resource.Site(), Ticker()
    site.add_resource(["echo"], Echo())
    site.add_resource(["ticker"], ticker)
    server = await aiocoap.Context.create_server_context(site, bind=("127.0.0.1", PORT))
    client = await aiocoap.Context.create_client_context()
    address = f"coap://127.0.0.1:{PORT}"

    async def get() -> bytes:
        response = await client.request(aiocoap.Message(code=aiocoap.GET, uri=f"{address}/echo")).response
        return bytes(response.payload)

    small = await asyncio.gather(*(get() for _ in range(50)))
    put = aiocoap.Message(code=aiocoap.PUT, uri=f"{address}/echo", payload=LARGE)
    changed = (await client.request(put).response).code
    large = await get()
    ticking = asyncio.ensure_future(ticker.tick())
    observing = client.request(aiocoap.Message(code=aiocoap.GET, uri=f"{address}/ticker", observe=0))
    await observing.response
    seen: list[int] = []
    async for notification in observing.observation:
        seen.append(int(notification.payload))
        if len(seen) == NOTIFICATIONS:
            break
    ticking.cancel()
    print(
        f"{small.count(b'nothing')} small, {changed}, large {large == LARGE}, "
        f"in order {seen == sorted(set(seen))}"
    )
    await client.shutdown()
    await server.shutdown()
    if sys.argv[1] == "ringmsg":
        assert installed_everywhere.Counter.endpoints > 0


if __name__ == "__main__":
    if sys.argv[1] == "ringmsg":
        import installed_everywhere
    asyncio.run(main())
