"""A service manager's end of the notification socket."""

from __future__ import annotations

import queue
import socket
import threading
import time


class FakeManager:
    """Listens where `$NOTIFY_SOCKET` says."""

    def __init__(self, path):
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path.replace("@", "\0", 1) if self.path[0] == "@" else self.path)
        self._came = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self):
        while text := self._socket.recv(65536).decode():
            self._came.put(dict(line.split("=", 1) for line in text.splitlines()))

    def next(self, within_s=5.0):
        """The next datagram as a dictionary; None if there is none in time."""
        try:
            return self._came.get(timeout=within_s)
        except queue.Empty:
            return None

    def until(self, name, within_s=20.0):
        """All datagrams up to the first that has this field; it is the last."""
        deadline, seen = time.monotonic() + within_s, []
        while (left := deadline - time.monotonic()) > 0:
            message = self.next(left)
            if message is None:
                break
            seen.append(message)
            if name in message:
                return seen
        raise AssertionError(f"no {name} came, only {seen}")

    def close(self):
        if self._thread.is_alive():
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
                last.sendto(b"", self.path.replace("@", "\0", 1) if self.path[0] == "@" else self.path)
            self._thread.join()
        self._socket.close()
