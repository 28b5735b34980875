# SPDX-License-Identifier: PostgreSQL
"""How late this machine wakes a process that asked for little: whether a time measured here counts."""

import threading
import time


class LateTimer:
    """While open, a thread asks to be woken each 10 ms; late is the longest (s) it overslept."""

    STEP = 0.01

    def __enter__(self):
        self.late = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self):
        before = time.monotonic()
        while not self._stop.wait(self.STEP):
            now = time.monotonic()
            self.late = max(self.late, now - before - self.STEP)
            before = now

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
