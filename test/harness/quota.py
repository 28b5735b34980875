# SPDX-License-Identifier: PostgreSQL
"""Kafka's client quotas, which confluent_kafka cannot alter."""

import socket
import struct

_ALTER_CLIENT_QUOTAS = 49


def _string(text):
    data = text.encode()
    return struct.pack(">h", len(data)) + data


def set_producer_quota(bootstrap, client_id, rate):
    """Let clients of that client.id produce rate bytes a second at each broker; None: no limit."""
    entity = struct.pack(">i", 1) + _string("client-id") + _string(client_id)
    change = struct.pack(">i", 1) + _string("producer_byte_rate") + struct.pack(">d?", rate or 0.0, rate is None)
    body = struct.pack(">i", 1) + entity + change + b"\0"
    request = struct.pack(">hhi", _ALTER_CLIENT_QUOTAS, 0, 1) + _string("test") + body
    host, port = bootstrap.split(",")[0].rsplit(":", 1)
    with socket.create_connection((host, int(port)), 30) as connection, connection.makefile("rb") as answers:
        connection.sendall(struct.pack(">i", len(request)) + request)
        answer = answers.read(struct.unpack(">i", answers.read(4))[0])
    _, _, entries, error = struct.unpack_from(">iiih", answer)
    if entries != 1 or error:
        raise RuntimeError(f"Kafka has not altered the quota: error {error}")
