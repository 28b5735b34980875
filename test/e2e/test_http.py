# SPDX-License-Identifier: PostgreSQL
"""The HTTP server of services/lib on real sockets: outbox-web (test/services/web.c), which needs no database."""

import base64
import contextlib
import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from harness.environment import free_port
from harness.process import ChildProcess
from harness.wait import wait_until

# A probe that waited for any of the clients below would wait for good, or for a time-out of 20 s at
# least; a busy machine makes it wait too, but not so long.
PROBE_SECONDS = 10


class Web:
    """The program with its configuration file; ask() is one request on a connection of its own."""

    def __init__(self, session, program, folder, **config):
        self.program = program
        self.folder = session.environment.make_directory(folder)
        self.gate = folder / "gate"
        self.config = {"http_address": "127.0.0.1", "http_port": free_port(), "gate": self.gate, **config}
        self.health_port = None
        if self.config.get("health_address") == "own":
            self.health_port = free_port()
            self.config["health_address"] = f"127.0.0.1:{self.health_port}"
        self.child = ChildProcess(session, f"web-{folder.name}")
        self.start()

    def start(self):
        path = self.folder / "web.conf"
        path.write_text("".join(f"{name} = {value}\n" for name, value in self.config.items()))
        self.child.spawn([self.program, "--config", path])
        wait_until(self.answers, 20, "the server to answer", interval=0.02)

    def answers(self):
        self.child.require_running()
        with contextlib.suppress(OSError):
            return self.ask("GET", "/livez")[0] == 200
        return False

    def open_gate(self):
        self.gate.write_text("")

    def stop(self, with_signal=signal.SIGTERM):
        return self.child.stop(with_signal, 20)

    def connect(self, port=None):
        address = self.config["http_address"]
        if address.startswith("/"):
            stream = socket.socket(socket.AF_UNIX)
            stream.connect(str(address))
            return stream
        return socket.create_connection((address, port or self.config["http_port"]), timeout=20)

    def ask(self, method, target, body=b"", headers=(), port=None):
        """(status, [(lower name, value)], body), the connection closed."""
        with self.connect(port) as stream:
            stream.settimeout(20)
            stream.sendall(request(method, target, body, headers))
            return read_answer(stream, method)

    def status(self, *arguments, **options):
        return self.ask(*arguments, **options)[0]

    def probe(self):
        """Seconds that /livez took, the longest of where it is."""
        longest = 0
        for port in filter(None, (self.config["http_port"], self.health_port)):
            began = time.monotonic()
            assert self.status("GET", "/livez", port=port) == 200
            longest = max(longest, time.monotonic() - began)
        return longest


def request(method, target, body=b"", headers=()):
    named = {name.lower() for name, _ in headers}
    lines = [f"{method} {target} HTTP/1.1"] + [f"{name}: {value}" for name, value in headers]
    if "host" not in named:
        lines.append("Host: 127.0.0.1")
    if body and "transfer-encoding" not in named:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines + ["", ""]).encode() + body


def read_answer(stream, method="GET"):
    data = b""
    while b"\r\n\r\n" not in data:
        more = stream.recv(65536)
        if not more:
            raise ConnectionError(f"closed after {data!r}")
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
    length = int(dict(headers).get("content-length", 0)) if method != "HEAD" else 0
    while len(body) < length:
        body += stream.recv(65536)
    return int(lines[0].split()[1]), headers, body


def read_to_end(stream):
    """What comes until the server closes, and how many seconds that took."""
    began, data = time.monotonic(), b""
    stream.settimeout(20)
    with contextlib.suppress(ConnectionResetError):
        while more := stream.recv(65536):
            data += more
    return data, time.monotonic() - began


@pytest.fixture
def folder(session, unique):
    """An empty folder of the program's user."""
    return session.environment.make_directory(session.data / unique("web"))


@pytest.fixture
def web(session, web_program, unique):
    """web(**config) starts the program; what was started is ended."""
    started = []

    def start(**config):
        started.append(Web(session, web_program, session.data / unique("web"), **config))
        return started[-1]
    yield start
    for each in started:
        each.open_gate()
        each.stop()


def send_all(server, count, target):
    """Connections with a request each, not answered yet."""
    streams = [server.connect() for _ in range(count)]
    for stream in streams:
        stream.sendall(request("GET", target))
    return streams


def close_all(streams):
    for stream in streams:
        stream.close()


def test_handlers_that_wait(web):
    """24 requests wait in their handlers: probes are answered at once; then all 24 are answered."""
    server = web(health_address="own", workers=4)
    streams = send_all(server, 24, "/wait")
    assert max(server.probe() for _ in range(10)) < PROBE_SECONDS
    server.open_gate()
    assert [read_answer(stream)[0] for stream in streams] == [200] * 24
    close_all(streams)


def test_pool_is_full(web):
    """One request runs and one waits: others get 503 with Retry-After, and the connection lasts."""
    server = web(workers=1, waiting=1)
    taken = send_all(server, 2, "/wait")

    def refused():
        with server.connect() as stream:
            stream.settimeout(0.5)
            stream.sendall(request("GET", "/echo/x"))
            with contextlib.suppress(TimeoutError):
                return read_answer(stream)
        return None
    status, headers, _ = wait_until(refused, 20, "the pool to be full")
    assert status == 503 and dict(headers)["retry-after"] == "1" and "connection" not in dict(headers)
    server.open_gate()
    assert [read_answer(stream)[0] for stream in taken] == [200, 200]
    assert server.status("GET", "/echo/x") == 200
    close_all(taken)


def test_parked(web):
    """Ten parked requests hold no thread; resumed, each gets its answer, and its connection goes on."""
    server = web(workers=1, waiting=1)
    streams = []
    for _ in range(10):
        streams += send_all(server, 1, "/park")
        wait_until(lambda: server.status("GET", "/echo/x") == 200, 20, "the thread to be free", interval=0.01)
    server.open_gate()
    assert {read_answer(stream)[2] for stream in streams} == {b'{"parked":true}'}
    streams[0].sendall(request("GET", "/echo/again"))
    assert read_answer(streams[0])[0] == 200
    close_all(streams)


def test_request_takes_too_long(web):
    """Who waits for a handler, or for who resumes, longer than a request may take gets 503 and a close."""
    server = web(request_ms=300, workers=1)
    for target in ("/park", "/wait"):
        with server.connect() as stream:
            stream.sendall(request("GET", target))
            data, seconds = read_to_end(stream)
            assert data.startswith(b"HTTP/1.1 503") and b"takes too long" in data and 0.2 < seconds < 15
    server.open_gate()
    wait_until(lambda: server.status("GET", "/echo/x") == 200, 20, "the handler to be done")


def test_request_that_got_503_before_its_turn(web):
    """Its handler does not run when a thread is free at last."""
    server = web(request_ms=300, workers=1)
    streams = send_all(server, 1, "/wait")
    assert server.status("GET", "/livez") == 200 and server.status("POST", "/mark") == 503
    server.open_gate()
    wait_until(lambda: server.status("GET", "/echo/x") == 200, 20, "the handler to be done")
    assert not server.gate.with_name("gate.mark").exists()
    assert server.status("POST", "/mark") == 200 and server.gate.with_name("gate.mark").exists()
    close_all(streams)


def test_request_that_got_503_makes_room(web):
    """What waited in a full pool until it got 503 keeps nobody out: the next one waits in its place."""
    server = web(request_ms=1000, workers=1, waiting=1)
    stuck = send_all(server, 2, "/wait")
    assert [read_answer(stream)[0] for stream in stuck] == [503, 503]
    with server.connect() as stream:
        stream.sendall(request("GET", "/echo/x"))
        assert b"takes too long" in read_to_end(stream)[0]  # it was taken in, not refused
    server.open_gate()
    close_all(stuck)


def test_idle_clients(web):
    """2,000 idle clients: probes are answered at once, and so is who asks for something else."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = web(health_address="own")
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    streams = []
    try:
        for _ in range(2000):
            streams.append(server.connect())
        assert max(server.probe() for _ in range(20)) < PROBE_SECONDS
        assert server.status("GET", "/echo/x") == 200
    finally:
        close_all(streams)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("begun, limit", [
    (b"", "head_ms"),
    (b"GET /echo/x HTTP/1.1\r\nHost: localhost\r\nX-", "head_ms"),
    (b"POST /echo/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n", "body_ms"),
    (b"POST /echo/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n100\r\n", "body_ms"),
    (request("GET", "/livez"), "idle_ms"),
])
def test_dripping_clients(web, begun, limit):
    """A client that sends a byte now and then is ended when its time is up, and meanwhile no probe notices it."""
    server = web(health_address="own", **{limit: 1000})
    stream = server.connect()
    began = time.monotonic()
    stream.sendall(begun)
    stream.settimeout(0.1)
    ended = False
    while not ended and time.monotonic() - began < 30:
        assert server.probe() < PROBE_SECONDS
        try:
            stream.sendall(b"a")
            ended = stream.recv(65536) == b""
        except TimeoutError:
            pass
        except OSError:
            ended = True
    stream.close()
    assert ended and time.monotonic() - began > 0.8


def test_times_are_whole(web):
    """The time of a head runs from the connection on: a request line near its end does not begin it anew."""
    server = web(head_ms=6000)
    with server.connect() as stream:
        began = time.monotonic()
        stream.settimeout(5)
        with pytest.raises(TimeoutError):
            stream.recv(1)
        stream.sendall(b"GET /echo/x HTTP/1.1\r\nHost: localhost\r\n")
        assert read_to_end(stream)[0] == b"" and 5.5 < time.monotonic() - began < 10.5


def begin_bodies(server, count):
    """Connections with a request each whose body does not come; the server has their headers."""
    streams = []
    for _ in range(count):
        stream = server.connect()
        streams.append(stream)
        stream.sendall(b"POST /echo/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\nExpect: 100-continue\r\n\r\n")
        assert stream.recv(65536).startswith(b"HTTP/1.1 100")
    return streams


def test_too_many_connections(web):
    """All connections have a request under way: a new one gets 503 and a close, health is answered all the same."""
    server = web(health_address="own", connections=4)
    wait_until(lambda: server.status("GET", "/echo/x") == 200, 20, "a first answer")
    streams = begin_bodies(server, 4)
    bodiless = b"POST /echo/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n"
    for sent in (request("GET", "/echo/x"), bodiless):
        with server.connect() as stream:
            stream.sendall(sent)
            data, _ = read_to_end(stream)
        assert data.startswith(b"HTTP/1.1 503") and b"Retry-After: 1" in data and b"too many connections" in data
    assert max(server.probe() for _ in range(5)) < PROBE_SECONDS
    close_all(streams)
    wait_until(lambda: server.status("GET", "/echo/x") == 200, 20, "room")


def test_limit_of_connections_holds(web):
    """An idle connection that ends makes no room while all others have requests under way; health is answered."""
    server = web(connections=4)
    wait_until(lambda: server.status("GET", "/echo/x") == 200, 20, "a first answer")
    streams = begin_bodies(server, 4)
    for _ in range(8):
        streams += [server.connect(), server.connect()]
        streams[-1].sendall(request("GET", "/echo/x"))
        data, _ = read_to_end(streams[-1])
        assert data.startswith(b"HTTP/1.1 503") and b"too many connections" in data
    assert server.status("GET", "/livez") == 200
    close_all(streams)


def test_oldest_idle_connection_ends(web):
    """Above the limit the connection that is idle longest ends, whoever asks is served."""
    server = web(connections=4)
    streams = [server.connect() for _ in range(5)]
    assert streams[0].recv(1) == b""
    streams[4].sendall(request("GET", "/echo/x"))
    assert read_answer(streams[4])[0] == 200
    close_all(streams)


@pytest.mark.parametrize("limit, expected", [(2, 503), (0, 200)])
def test_connections_per_address(web, limit, expected):
    """Off by default; with a limit the address gets 503, and health all the same."""
    server = web(per_address=limit)
    streams = begin_bodies(server, 2)
    assert server.status("GET", "/echo/x") == expected and server.status("GET", "/livez") == 200
    close_all(streams)


@pytest.mark.parametrize("head, why", [
    (b"POST /echo/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "two lengths, equal"),
    (b"POST /echo/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "two lengths"),
    (b"POST /echo/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3, 3\r\n\r\nabc", "a list of lengths"),
    (b"POST /echo/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: +3\r\n\r\nabc", "a sign"),
    (b"POST /echo/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0x3\r\n\r\nabc", "no decimal digits"),
    (b"POST /echo/x HTTP/1.1\r\nHost: localhost\r\nContent-Length:\r\n\r\nabc", "empty length"),
    (b"POST /echo/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "both"),
    (b"POST /echo/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", "both, turned"),
    (b"POST /echo/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "two codings"),
    (b"POST /echo/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: identity\r\n\r\n", "another coding"),
    (b"POST /echo/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n", "two"),
    (b"POST /echo/x HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "a coding in HTTP/1.0"),
    (b"POST /echo/x HTTP/1.1\r\nHost: localhost\r\nContent-Length : 3\r\n\r\nabc", "blank behind a name"),
    (b"POST /echo/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", "tab behind a name"),
    (b"POST /echo/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n 2\r\n\r\n", "a length in two lines"),
    (b"POST /echo/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n x\r\n\r\n", "a coding in two lines"),
    (b"GET /echo/x HTTP/1.1\r\nHost: localhost\r\nX: a\rContent-Length: 3\r\n\r\n", "a CR in a value"),
    (b"GET /echo/x HTTP/1.1\r\n\r\n", "no Host"),
    (b"GET /echo/x HTTP/1.1\r\nHost: localhost\r\nhost: a\r\n\r\n", "two Hosts"),
    (b"GET /echo/x HTTP/1.1\r\nHost: a, b\r\n\r\n", "a list of Hosts"),
    (b"GET /echo/%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", "zero byte"),
    (b"GET /echo/%FF HTTP/1.1\r\nHost: localhost\r\n\r\n", "no UTF-8"),
    (b"GET /echo/%C0%AF HTTP/1.1\r\nHost: localhost\r\n\r\n", "overlong UTF-8"),
    (b"GET /echo/\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", "a raw byte that is no UTF-8"),
    (b"GET /echo/x?q=%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", "zero byte in an argument"),
    (b"GET echo HTTP/1.1\r\nHost: localhost\r\n\r\n", "no path"),
])
def test_refused_at_once(web, head, why):
    """What two servers may read differently gets 400 and a close: nothing behind it is taken for a request."""
    server = web()
    with server.connect() as stream:
        stream.sendall(head + request("GET", "/echo/smuggled"))
        data, seconds = read_to_end(stream)
    assert data.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400")) and seconds < 15, why
    assert b" 200 " not in data and b"smuggled" not in data, why


def test_refused_before_the_body(web):
    """The refusal comes when the headers are there; no byte of the body is waited for."""
    server = web()
    with server.connect() as stream:
        stream.sendall(b"POST /echo/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nContent-Length: 9\r\n\r\n")
        assert read_to_end(stream)[0].startswith(b"HTTP/1.1 400")


def test_taken(web):
    """Chunked bodies, HTTP/1.0 without Host, several requests on a connection, and a body before the next request."""
    server = web()
    chunked = b"POST /echo/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    with server.connect() as stream:
        for _ in range(3):
            stream.sendall(chunked)
            status, _, body = read_answer(stream)
            assert status == 200 and json.loads(body)["length"] == 5
    with server.connect() as stream:
        stream.sendall(b"GET /echo/x HTTP/1.0\r\n\r\n")
        assert b" 200 " in read_to_end(stream)[0].split(b"\r\n")[0]


def test_paths_and_arguments(web):
    """Paths and arguments are unescaped UTF-8; what is no escape stays; plus is a blank in arguments only."""
    server = web()

    def echo(target):
        return json.loads(server.ask("GET", target)[2])
    assert echo("/echo/%E6%97%A5+1")["rest"] == "日+1"
    assert echo("/echo/100%")["rest"] == "100%" and echo("/echo/a%2Fb")["rest"] == "a/b"
    assert echo("/echo/x?p=1&q=a+b%26c&q=2")["q"] == "a b&c"
    assert echo("/echo/x?q")["q"] == "" and echo("/echo/x")["q"] is None
    assert json.loads(server.ask("GET", "/echo/x", headers=[("x-TEST", "v")])[2])["header"] == "v"


def test_forms_and_bytes(web):
    """Fields of a form; bytes as they came, zero bytes too; more than 1 MiB is 413, chunked or not."""
    server = web()
    form = ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")

    def field(body, *headers):
        return json.loads(server.ask("POST", "/echo/x", body, headers)[2])["field"]
    assert field(b"p=1&q=%E6%97%A5+x", form) == "日 x"
    assert [field(b"q=1"), field(b"q=%FF", form), field(b"q=1\0", form)] == [None] * 3
    raw = bytes(range(256)) * 16
    status, headers, body = server.ask("POST", "/bytes", raw)
    assert (status, body) == (200, raw) and dict(headers)["content-type"] == "application/octet-stream"
    most = b"x" * (1 << 20)
    assert server.status("POST", "/bytes", most) == 200
    assert server.status("POST", "/bytes", most + b"x") == 413


def test_methods(web):
    """HEAD is GET without the body; another method than a path has is 405 with Allow."""
    server = web()
    status, headers, body = server.ask("HEAD", "/page")
    assert status == 200 and body == b"" and dict(headers)["content-length"] == "11"
    assert server.status("HEAD", "/livez") == server.status("HEAD", "/metrics") == 200
    for target, allow in (("/echo/x", "GET, HEAD, POST"), ("/page", "GET, HEAD"), ("/livez", "GET, HEAD"),
                          ("/metrics", "GET, HEAD"), ("/bytes", "POST")):
        status, headers, _ = server.ask("DELETE", target)
        assert (status, dict(headers)["allow"]) == (405, allow)
    assert server.status("GET", "/none") == 404


def test_headers_of_answers(web):
    """Cookies, Location, ETag, CSP; a tag the client has is 304; no header is split."""
    server = web()
    status, headers, _ = server.ask("GET", "/page")
    assert status == 200 and [value for name, value in headers if name == "set-cookie"] == ["a=1; HttpOnly", "b=2"]
    told = dict(headers)
    assert told["content-security-policy"] == "default-src 'none'" and told["location"] == "/page"
    assert told["etag"] == '"v1"' and "x-split" not in told and "x-other" not in told
    for known, expected in (('"v1"', 304), ('W/"v0", W/"v1"', 304), ("*", 304), ('"v11"', 200), ('"v"', 200)):
        status, headers, body = server.ask("GET", "/page", headers=[("If-None-Match", known)])
        assert (status, bool(body)) == (expected, expected == 200), known


def test_ipv6(web):
    """On ::1, and on a health address in brackets."""
    port = free_port()
    server = web(http_address="::1", health_address=f"[::1]:{port}")
    assert server.status("GET", "/echo/x") == 200 and server.status("GET", "/livez", port=port) == 200
    assert server.status("GET", "/echo/x", headers=[("Host", "[::1]:80")]) == 200


def test_unix_socket(web, folder):
    """A socket's file: made anew when a killed program has left it, taken away at the end."""
    path = folder / "http.sock"
    server = web(http_address=str(path))
    assert server.status("GET", "/echo/x", headers=[("Host", "any.name")]) == 200
    server.stop(signal.SIGKILL)
    assert path.is_socket()
    server.start()
    assert server.status("GET", "/echo/x") == 200 and server.stop() == 0 and not path.exists()


def test_health_address_has_nothing_else(web):
    server = web(health_address="own")
    assert [server.status("GET", target, port=server.health_port) for target in
            ("/livez", "/readyz", "/metrics", "/echo/x")] == [200, 200, 404, 404]


def test_names_of_the_host(web):
    """On a loopback address: addresses, localhost and http_hosts; another name, as of a rebound page, is 421."""
    server = web(http_hosts="monitor.example")

    def status(host, target="/echo/x"):
        return server.status("GET", target, headers=[("Host", host)])
    assert [status(host) for host in ("127.0.0.1:1", "localhost", "LOCALHOST.:80", "[::1]", "10.0.0.1", "Monitor.Example:8")] \
        == [200] * 6
    assert [status(host) for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "")] == [421] * 4
    assert status("evil.example", "/livez") == 200
    assert web(http_hosts="*").status("GET", "/echo/x", headers=[("Host", "evil.example")]) == 200
    assert web(http_address="0.0.0.0").status("GET", "/echo/x", headers=[("Host", "any.example")]) == 200


def hash_of(password, salt=b"$6$rounds=5000$saltsalt$"):
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    return library.crypt(password.encode(), salt).decode()


def write_users(path, *lines):
    """In one step, as who edits it should."""
    new = path.with_suffix(".new")
    new.write_text("".join(f"{line}\n" for line in lines))
    os.replace(new, path)


def credentials(text, scheme="Basic"):
    return [("Authorization", f"{scheme} {base64.b64encode(text.encode()).decode()}")]


def test_rights(web, folder):
    """401 without a user, 403 without the right; the scheme in any case; what is no credential admits nobody."""
    path = folder / "users"
    write_users(path, f"ana:{hash_of('secret')}", f"bob:{hash_of('secret')}:operate", f"eve:{hash_of('a:b')}:read,operate")
    server = web(auth_file=path)

    def statuses(user, **options):
        return [server.status(method, target, headers=credentials(user, **options))
                for method, target in (("GET", "/page"), ("POST", "/bytes"), ("GET", "/echo/x"))]
    assert statuses("ana:secret") == [200, 403, 200]
    assert statuses("bob:secret") == [403, 200, 200]
    assert statuses("eve:a:b") == [200, 200, 200]
    for scheme in ("basic", "BASIC", "bAsIc", "Basic  "):
        assert statuses("ana:secret", scheme=scheme) == [200, 403, 200]
    for wrong in ("ana:wrong", "ana", ":secret", "ana:", "ANA:secret", "ana:secret\0", "eve:a"):
        assert statuses(wrong) == [401] * 3, wrong
    assert statuses("ana:secret", scheme="Bearer") == [401] * 3
    for value in ("Basic", "Basic ====", "Basic YW5hOnNlY3JldA=", "Basicx YW5hOnNlY3JldA=="):
        status, headers, _ = server.ask("GET", "/page", headers=[("Authorization", value)])
        assert status == 401 and dict(headers)["www-authenticate"] == 'Basic realm="outbox"', value
    assert server.status("GET", "/livez") == 200 and server.status("GET", "/none") == 401


def test_credentials_are_remembered(web, folder):
    """The slow hash is made once; a changed file, and only a right one, counts at once.

    Told by the processor time of the program, which a busy machine does not change."""
    slow = b"$6$rounds=500000$saltsalt$"
    path = folder / "users"
    write_users(path, f"ana:{hash_of('secret', slow)}")
    server = web(auth_file=path)

    def spent():
        fields = Path(f"/proc/{server.child.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def ask(user):
        """The status, and the ticks that it took."""
        before = spent()
        return server.status("GET", "/page", headers=credentials(user)), spent() - before
    status, first = ask("ana:secret")
    assert status == 200 and first >= 5
    before = spent()
    assert [ask("ana:secret")[0] for _ in range(20)] == [200] * 20 and spent() - before < 10 * first
    status, wrong = ask("ana:secret2")
    assert status == 401 and wrong > first / 3
    write_users(path, f"ana:{hash_of('changed')}")
    assert ask("ana:secret")[0] == 401 and ask("ana:changed")[0] == 200
    write_users(path, "ana:clear")
    assert ask("ana:secret")[0] == 401 and ask("ana:changed")[0] == 200
    write_users(path, f"ana:{hash_of('secret', slow)}")
    status, again = ask("ana:secret")
    assert status == 200 and again > first / 3
    assert server.stop() == 0


def test_stop(web):
    """At the end what runs has its answer sent, what comes gets 503, and the exit code is 0."""
    server = web(workers=1)
    with server.connect() as waiting, server.connect() as coming:
        waiting.sendall(request("GET", "/wait"))
        coming.sendall(request("GET", "/livez"))
        assert read_answer(coming)[0] == 200
        server.child.send_signal(signal.SIGTERM)

        def is_ending():
            with server.connect() as stream:
                stream.settimeout(0.2)
                stream.sendall(request("GET", "/echo/x"))
                status, headers, body = read_answer(stream)
                return status == 503 and dict(headers)["connection"] == "close" and b"the program ends" in body
        wait_until(is_ending, 20, "the end to begin")
        assert server.probe() < PROBE_SECONDS
        server.open_gate()
        assert read_answer(waiting)[0] == 200
    assert server.child.process.wait(20) == 0


def test_stop_with_a_parked_request(web):
    """Nobody resumes it: it gets 503 at the end."""
    server = web(workers=1)
    with server.connect() as parked:
        parked.sendall(request("GET", "/park"))
        wait_until(lambda: server.status("GET", "/echo/x") == 200, 20, "a free thread")
        server.child.send_signal(signal.SIGTERM)
        data, _ = read_to_end(parked)
    assert data.startswith(b"HTTP/1.1 503") and b"the program ends" in data and server.child.process.wait(20) == 0


def test_stop_with_a_parked_request_of_an_ended_connection(web):
    """A connection ends for a newer one as its request comes, and the handler parks it: the exit code is 0."""
    server = web(workers=1, connections=3)
    with server.connect() as parked:
        parked.sendall(request("GET", "/echo/x"))
        assert read_answer(parked)[0] == server.status("GET", "/livez") == 200
        server.child.freeze()
        with server.connect(), server.connect(), server.connect():
            parked.sendall(request("GET", "/park"))
            server.child.send_signal(signal.SIGCONT)
            wait_until(lambda: server.status("GET", "/echo/x") in (200, 503), 20, "the server to go on")
            server.child.send_signal(signal.SIGTERM)
            assert server.child.process.wait(20) == 0


@pytest.mark.parametrize("setting, reason", [
    ("http_address = localhost", "http_address: no IPv4 address"),
    ("http_address = ::1::", "http_address: no IPv4 address"),
    ("http_address = /" + "x" * 120, "http_address: no IPv4 address"),
    ("health_address = 127.0.0.1", "health_address: neither an address with a port"),
    ("health_address = 127.0.0.1:0", "health_address: neither an address with a port"),
    ("health_address = 127.0.0.1:70000", "health_address: neither an address with a port"),
    ("health_address = ::1:8281", "health_address: neither an address with a port"),
    ("health_address = localhost:8281", "health_address: neither an address with a port"),
    ("http_hosts = a:80", "http_hosts: an item is neither a name without a port nor *"),
])
def test_wrong_settings(web_program, folder, setting, reason):
    path = folder / "web.conf"
    path.write_text(f"{setting}\n")
    done = subprocess.run([web_program, "--config", path, "--check-config"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and reason in done.stderr
