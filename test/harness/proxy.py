# SPDX-License-Identifier: PostgreSQL
"""A proxy that understands just enough of Kafka's protocol to hold, drop, cut or refuse one request or its answer.

It stands before a broker's second listener, whose advertised address is the
proxy's, so that metadata leads clients back through it (KafkaBroker with
proxied=True, KafkaBroker.proxy). It runs in a thread with an event loop of its
own; every method may be called from any thread.
"""

import asyncio
import contextlib
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

from .kafka_errors import refuse

# The requests of a transaction.
APIS = {
    "Produce": 0,
    "InitProducerId": 22,
    "AddPartitionsToTxn": 24,
    "AddOffsetsToTxn": 25,
    "EndTxn": 26,
    "TxnOffsetCommit": 28,
}
_ALL_APIS = {**APIS, "OffsetFetch": 9, "OffsetCommit": 8}

# Where the transactional id, or the group, stands in all these requests: near the front.
_HEAD = 400
_HUGE = 1 << 28


@dataclass
class Strike:
    """What befalls one frame. struck, struck_at (of time.monotonic) and passed are set by the proxy.

    api     a name of APIS, "OffsetFetch" or "OffsetCommit"         side   "request" or "answer"
    action  "hold": it and what follows on its connection wait for release();
            "drop": it vanishes, the connection goes on; "cut": it vanishes and
            the connection is reset on both sides; "refuse": the client is answered
            with error, and the broker has done the request (answer) or never saw it (request)
    error   Kafka's error code
    owner   the request holds this text near its front (a transactional id)
    nth     counts matching requests since the strike was ordered, from 1
    """

    api: str
    side: str
    action: str
    owner: bytes = b""
    nth: int = 1
    error: int = 0
    seen: int = 0
    struck_at: float = 0.0
    struck: threading.Event = field(default_factory=threading.Event)
    passed: threading.Event = field(default_factory=threading.Event)
    answered: threading.Event = field(default_factory=threading.Event)
    freed: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class _Request:
    """A request under way: what its answer needs to be known by."""

    strike: Strike | None
    held: Strike | None
    refusal: bytes = b""  # what the client reads instead of the broker's answer


class _Connection:
    """One client and the broker behind it. The broker's side outlives the client's while a frame is held."""

    def __init__(self, proxy, client, broker):
        self.proxy = proxy
        self.client_reader, self.client_writer = client
        self.broker_reader, self.broker_writer = broker
        self.waiting = {}  # correlation id: _Request
        self.client_gone = False

    def owes_held(self):
        """Has the broker still to answer a request that was held?"""
        return any(request.held for request in self.waiting.values())

    async def run(self):
        up = asyncio.create_task(self.pump_requests())
        down = asyncio.create_task(self.pump_answers())
        try:
            await up  # also when the client is gone: what is held still goes to the broker
            self.client_gone = True
            if self.owes_held():
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(down, 10)
        finally:
            for task in (up, down):
                task.cancel()
            self.reset()

    async def pump_requests(self):
        while True:
            frame = await read_frame(self.client_reader)
            if frame is None:
                return
            api, correlation = struct.unpack_from(">hxxi", frame, 4)
            strike = self.proxy.match(api, frame)
            held = None
            refusal = refuse(frame, strike.error) if strike and strike.action == "refuse" else b""
            if strike and strike.side == "request":
                held, strike = strike, None
                while refusal and self.waiting:  # answers keep the order of their requests
                    await asyncio.sleep(0.001)
                if not await self.suffer(held, refusal):
                    continue
            self.waiting[correlation] = _Request(strike, held, refusal)
            await self.pass_on(self.broker_writer, frame)
            if held:
                held.passed.set()

    async def pump_answers(self):
        while not self.client_gone or self.owes_held():
            frame = await read_frame(self.broker_reader)
            if frame is None:
                self.reset()
                return
            (correlation,) = struct.unpack_from(">i", frame, 4)
            request = self.waiting.pop(correlation, _Request(None, None))
            if request.held:
                request.held.answered.set()
            if request.strike and not await self.suffer(request.strike, request.refusal):
                continue
            with contextlib.suppress(OSError):  # the client may have given up
                await self.pass_on(self.client_writer, frame)
            if request.strike:
                request.strike.passed.set()

    async def suffer(self, strike, refusal):
        """Do to a frame what the strike says; True when the frame goes on."""
        strike.struck_at = time.monotonic()
        strike.struck.set()
        if strike.action == "refuse":
            with contextlib.suppress(OSError):
                await self.pass_on(self.client_writer, refusal)
            return False
        if strike.action == "hold":
            await strike.freed.wait()
            return True
        if strike.action == "cut":
            self.reset()
        return False

    async def pass_on(self, writer, frame):
        """Write the frame as slowly as the proxy is set to."""
        if self.proxy.delay:
            await asyncio.sleep(self.proxy.delay)
        rate = self.proxy.rate
        step = max(1, rate // 10) if rate else len(frame)
        for at in range(0, len(frame), step):
            writer.write(frame[at:at + step])
            await writer.drain()
            if rate:
                await asyncio.sleep(step / rate)

    def reset(self):
        """End both sides with RST instead of FIN."""
        for writer in (self.client_writer, self.broker_writer):
            raw = writer.get_extra_info("socket")
            if raw is not None and raw.fileno() >= 0:
                with contextlib.suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


async def read_frame(reader):
    """One length-prefixed frame with its prefix, or None at the end."""
    try:
        head = await reader.readexactly(4)
        return head + await reader.readexactly(struct.unpack(">i", head)[0])
    except (asyncio.IncompleteReadError, OSError):
        return None


class KafkaProxy:
    """Listens on 127.0.0.1:port and forwards to 127.0.0.1:target until close()."""

    def __init__(self, port, target):
        self.bootstrap = f"127.0.0.1:{port}"
        self.port = port
        self.target = target
        self.delay = 0.0  # seconds each frame is late
        self.rate = 0  # bytes a second in each direction of a connection, 0: no limit
        self.lock = threading.Lock()
        self.strikes = []  # under lock
        self.connections = set()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name=f"proxy-{port}", daemon=True)
        self.thread.start()
        self.server = self._call(self._listen())

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    async def _listen(self):
        return await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=_HUGE)

    async def _serve(self, reader, writer):
        try:
            broker = await asyncio.open_connection("127.0.0.1", self.target, limit=_HUGE)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection(self, (reader, writer), broker)
        self.connections.add(connection)
        try:
            await connection.run()
        except OSError:
            pass
        finally:
            self.connections.discard(connection)

    def close(self):
        """Cut everything and stop listening."""
        async def shut():
            self.server.close()
            for connection in list(self.connections):
                connection.reset()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._call(shut())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(30)
        self.loop.close()

    # Strikes ------------------------------------------------------------

    def strike(self, api, side, action, owner=b"", nth=1, error=0):
        """Order one Strike; returns it. It is spent once its request was seen."""
        ordered = Strike(api, side, action, owner, nth, error)
        with self.lock:
            self.strikes.append(ordered)
        return ordered

    def release(self, strike):
        """Let a held frame and what waits behind it go on."""
        self.loop.call_soon_threadsafe(strike.freed.set)

    def cut_all(self):
        """Reset every connection."""
        async def cut():
            for connection in list(self.connections):
                connection.reset()
        self._call(cut())

    def clear(self):
        """Forget strikes, release what is held, be fast again."""
        with self.lock:
            ordered, self.strikes = self.strikes, []
        for strike in ordered:
            self.release(strike)
        self.delay, self.rate = 0.0, 0

    # Called by connections, in the loop's thread ------------------------------

    def match(self, api, frame):
        """The strike that this request is due, if any."""
        with self.lock:
            due = None
            for strike in self.strikes:
                if _ALL_APIS[strike.api] == api and strike.owner in frame[:_HEAD] and strike.seen < strike.nth:
                    strike.seen += 1
                    if strike.seen == strike.nth and due is None:
                        due = strike
            return due
