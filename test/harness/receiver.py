# SPDX-License-Identifier: PostgreSQL
"""A local HTTP server that keeps what is posted to it."""

import contextlib
import http.server
import json
import threading


class Receiver:
    """Takes POSTs on a free port: `posts` are (path, body as JSON), in order of arrival.

    status  what is answered: 200, or what a test sets by {path: status}
    judge   None, or (path, body) -> status, called before status is looked at; it may take its time. None: as status says
    """

    def __init__(self):
        self.posts = []
        self.attempts = []
        self.status = {}
        self.judge = None
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.attempts.append(self.path)
                judge = receiver.judge
                status = (judge and judge(self.path, body)) or receiver.status.get(self.path, 200)
                if status < 300:
                    receiver.posts.append((self.path, body))
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # who has waited too long is gone
                    self.send_response(status)
                    self.end_headers()

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def bodies(self, path):
        return [body for where, body in list(self.posts) if where == path]

    def close(self):
        self.server.shutdown()
        self.server.server_close()
