# SPDX-License-Identifier: PostgreSQL
"""A payment gateway as outbox-payment calls it: slow, idempotent by key, and it remembers all it was asked."""

import collections
import contextlib
import http.server
import json
import threading

HELD_MAX = 120  # seconds a request is held at most


class Request:
    """One request: its path ("charges", "refunds"), order and key, and whether it is answered."""

    def __init__(self, path, order, key):
        self.path = path
        self.order = order
        self.key = key
        self.answered = False


class Gateway:
    """POST /charges and /refunds on a free port. What is done is done once for each Idempotency-Key, after the delay;
    who asks again gets the same answer, at once when it is there, else when it is.

    delay     seconds an execution takes, or a function of the order's name that returns them
    answers   {order: [status, ...]} instead of 200, in turn, the last one for ever; not remembered by key
    requests  every Request, in order of arrival      most  requests under way at once, at most
    charged, refunded  how often it was done, by order
    """

    def __init__(self):
        self.delay = 0
        self.answers = {}
        self.requests = []
        self.most = 0
        self.charged = collections.Counter()
        self.refunded = collections.Counter()
        self._under_way = collections.Counter()
        self._done = {}
        self._held = set()
        self._changed = threading.Condition()
        gateway = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status = gateway._answer(Request(self.path.strip("/"), body["orderId"], self.headers["Idempotency-Key"]))
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # who was killed is gone
                    self.send_response(status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 256

        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self):
        self.release()
        self.server.shutdown()
        self.server.server_close()

    def hold(self, *orders):
        """Answer requests of these orders only after release()."""
        with self._changed:
            self._held.update(orders)

    def release(self, *orders):
        """No order named: all that are held."""
        with self._changed:
            self._held -= set(orders) or set(self._held)
            self._changed.notify_all()

    def asked(self, order, path="charges"):
        """How often it was asked for the order."""
        return sum(request.order == order and request.path == path for request in list(self.requests))

    def keys(self, path="charges"):
        """{order: its keys} of the requests."""
        found = collections.defaultdict(set)
        for request in list(self.requests):
            if request.path == path:
                found[request.order].add(request.key)
        return dict(found)

    def under_way(self):
        return sum(not request.answered for request in list(self.requests))

    def _answer(self, request):
        with self._changed:
            self.requests.append(request)
            self._under_way[request.order] += 1
            self.most = max(self.most, sum(self._under_way.values()))
        try:
            return self._execute(request)
        finally:
            with self._changed:
                request.answered = True
                self._under_way[request.order] -= 1

    def _execute(self, request):
        with self._changed:
            self._changed.wait_for(lambda: request.order not in self._held, HELD_MAX)
            answers = self.answers.get(request.order)
            if answers:
                status = answers.pop(0) if len(answers) > 1 else answers[0]
                if status != 200:
                    return status
            first = request.key not in self._done
            if first:
                self._done[request.key] = None
            else:
                self._changed.wait_for(lambda: self._done[request.key] is not None, HELD_MAX)
                return self._done[request.key]
        threading.Event().wait(self.delay(request.order) if callable(self.delay) else self.delay)
        with self._changed:
            self._done[request.key] = self._do(request)
            self._changed.notify_all()
            return self._done[request.key]

    def _do(self, request):
        if request.path == "charges":
            self.charged[request.order] += 1
            return 200
        if self.charged[request.order] == 0:
            return 404
        self.refunded[request.order] += 1
        return 200
