# SPDX-License-Identifier: PostgreSQL
"""Drives an outbox-sender by hand: writes frames, reads answers (src/common/wire.h)."""

import os
import socket
import struct
import subprocess
import time
import uuid
from dataclasses import dataclass, field

NULL = 0xFFFFFFFF
FROM_BROKER = -(2**63)
ERROR_CLASSES = ("retriable", "abortable", "fatal", "fenced", "config", "auth")


def string(value):
    """A wire string: length and bytes, or NULL."""
    if value is None:
        return struct.pack(">I", NULL)
    data = value.encode() if isinstance(value, str) else value
    return struct.pack(">I", len(data)) + data


def varint(value):
    """Zigzag varint, as in Kafka's records."""
    raw = (value << 1) ^ (value >> 63)
    out = bytearray()
    while raw >= 0x80:
        out.append((raw & 0x7F) | 0x80)
        raw >>= 7
    out.append(raw)
    return bytes(out)


def headers(pairs):
    """Record headers: (name, bytes or None) in order, repeats allowed."""
    if not pairs:
        return b""
    out = bytearray(varint(len(pairs)))
    for name, value in pairs:
        out += varint(len(name.encode())) + name.encode()
        out += varint(-1) if value is None else varint(len(value)) + value
    return bytes(out)


def frame(kind, body=b""):
    return struct.pack(">I", len(body) + 1) + kind + body


@dataclass
class Event:
    topic: str
    payload: bytes | None = b"{}"
    key: bytes | None = None
    type: str = "Test"
    content_type: str = "application/json"
    headers: list = field(default_factory=list)
    id: uuid.UUID = field(default_factory=uuid.uuid4)
    created_at: int = field(default_factory=lambda: time.time_ns() // 1000)

    def frame(self):
        own = headers(self.headers)
        topic, kind, content = (t.encode() for t in (self.topic, self.type, self.content_type))
        return frame(
            b"E",
            self.id.bytes
            + struct.pack(
                ">qHHHHIII",
                self.created_at,
                len(topic),
                len(kind),
                len(content),
                0,
                NULL if self.key is None else len(self.key),
                NULL if self.payload is None else len(self.payload),
                len(own),
            )
            + topic
            + kind
            + content
            + (self.key or b"")
            + (self.payload or b"")
            + own,
        )


@dataclass
class Answer:
    kind: str
    values: dict

    def __getattr__(self, name):
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(name) from None


@dataclass
class Refused:
    """One event of REFUSED."""

    index: int
    error: int
    whole_topic: bool
    text: str


class _Body:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        (value,) = struct.unpack_from(">" + form, self.data, self.at)
        self.at += struct.calcsize(">" + form)
        return value

    def string(self):
        length = self.take("I")
        if length == NULL:
            return None
        self.at += length
        return self.data[self.at - length : self.at]


def parse(kind, data):
    body = _Body(data)
    if kind == b"o":
        names = ("version", body.take("H")), ("library", body.string().decode())
        return Answer("OPENED", dict(names, properties=body.string().decode()))
    if kind == b"c":
        values = {"present": bool(body.take("B")), "batch": body.take("q")}
        values["metadata"] = body.string()
        values |= {"longest_ms": body.take("I"), "usual_ms": body.take("I"), "spare": bool(body.take("B"))}
        return Answer("CURSOR", dict(values, passed_over=bool(body.take("B")), why=body.string()))
    if kind == b"l":
        values = {"given_up": bool(body.take("B"))}
        topics = [(body.string().decode(), body.take("i"), body.take("Q")) for _ in range(body.take("H"))]
        return Answer("LEADERS", dict(values, topics=topics))
    if kind == b"a":
        values = {"allowed": bool(body.take("B")), "joined": bool(body.take("B")), "text": body.string().decode()}
        members = [(body.string().decode(), body.string().decode()) for _ in range(body.take("H"))]
        return Answer("MEMBERS", dict(values, members=members))
    if kind == b"k":
        values = {"batch": body.take("Q"), "events": body.take("I"), "bytes": body.take("Q")}
        values["duration_us"] = body.take("Q")
        return Answer("COMMITTED", dict(values, suspect=body.take("B")))
    if kind == b"r":
        values = {"fence": bool(body.take("B")), "suspects": body.take("I"), "per_request": body.take("I")}
        values["why"] = body.string().decode()
        texts = [body.string().decode() for _ in range(body.take("H"))]
        events = [Refused(body.take("I"), body.take("i"), bool(body.take("B")), texts[body.take("H")])
                  for _ in range(body.take("I"))]
        if events:
            values |= {name: getattr(events[0], name) for name in ("index", "error", "whole_topic", "text")}
        return Answer("REFUSED", dict(values, events=events))
    if kind == b"f":
        values = {"error_class": ERROR_CLASSES[body.take("B")], "error": body.take("i")}
        values["tried"] = body.string().decode()
        values["text"] = body.string().decode()
        return Answer("FAILED", dict(values, bytes=body.take("Q"), done=body.take("Q"), took_ms=body.take("Q")))
    raise ValueError(f"unknown answer {kind!r}")


class Sender:
    """One outbox-sender process on a socketpair."""

    def __init__(self, program, log=None):
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.process = subprocess.Popen([program], stdin=theirs, stdout=theirs, stderr=log)
        theirs.close()
        self.socket = ours
        self._input = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.socket.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def write(self, data):
        self.socket.sendall(data)

    def answer(self, timeout=90):
        self.socket.settimeout(timeout)
        while len(self._input) < 4 or len(self._input) < 4 + struct.unpack(">I", self._input[:4])[0]:
            data = self.socket.recv(1 << 16)
            if not data:
                raise EOFError("the sender has ended")
            self._input += data
        end = 4 + struct.unpack(">I", self._input[:4])[0]
        kind, body = self._input[4:5], self._input[5:end]
        self._input = self._input[end:]
        return parse(kind, body)

    def open(self, pairs, version=5):
        body = struct.pack(">HH", version, len(pairs))
        body += b"".join(string(name) + string(value) for name, value in pairs)
        self.write(frame(b"O", body))
        return self.answer()

    def look(self):
        self.write(frame(b"L"))
        return self.answer()

    def alive(self):
        """Who is in the group of the living, as the sender sees it."""
        self.write(frame(b"A"))
        return self.answer()

    def fence(self):
        self.write(frame(b"F"))
        return self.answer()

    def declare(self, topic, partitions=-1, replication=-1, retention=FROM_BROKER, policy=None, flaw=None, size=FROM_BROKER, waits=False):
        values = struct.pack(">ihqq", partitions, replication, retention, size)
        self.write(frame(b"D", string(topic) + values + string(policy) + string(flaw) + bytes([waits])))

    def send(self, number, events, metadata="{}", at=None):
        """Writes a whole batch, without waiting for the answer; at: time stamp of its records in us, None: now."""
        at = time.time_ns() // 1000 if at is None else at
        parts = [frame(b"B", struct.pack(">Qq", number, at) + string(metadata))]
        parts += [event if isinstance(event, bytes) else event.frame() for event in events]
        parts.append(frame(b"Z", struct.pack(">I", len(parts) - 1)))
        self.write(b"".join(parts))

    def batch(self, number, events, metadata="{}", at=None):
        self.send(number, events, metadata, at)
        return self.answer()


def default_program():
    here = os.path.dirname(os.path.abspath(__file__))
    return os.path.join(here, "..", "..", "build", "outbox-sender")


def open_pairs(bootstrap, name, delivery="exactly_once", envelope="cloudevents", extra=()):
    """The pairs of OPEN for an installation of that name."""
    pairs = [
        ("relay.delivery", delivery),
        ("relay.group", f"outbox-relay.{name}"),
        ("relay.cursor_topic", f"outbox.cursor.{name}"),
        ("relay.source", f"urn:outbox:{name}"),
        ("relay.envelope", envelope),
        ("bootstrap.servers", bootstrap),
        ("transactional.id", f"outbox-relay.{name}"),
    ]
    return pairs + list(extra)
