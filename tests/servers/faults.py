"""A TCP proxy that does to a connection what networks and failing servers do. It runs in threads of the test."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Literal, Self

from servers.ports import free_port

Mode = Literal[
    "refuse", "reset", "blackhole", "latency", "cut", "end", "corrupt", "status", "stall", "refuse-upload", "cut-upload"
]
_METHODS = (b"GET ", b"HEAD ", b"PUT ", b"POST ", b"PATCH ", b"DELETE ", b"COPY ", b"OPTIONS ")


@dataclass
class Fault:
    """What happens to requests.

    :param mode: ``refuse``: nobody listens any more; ``reset`` the connection at the request; ``blackhole``
        swallows it; ``latency`` delays each piece of the answer; ``cut`` resets, ``end`` closes, ``stall`` holds
        the answer after so many bytes; ``corrupt`` flips a bit of the byte there; ``status`` answers itself;
        ``refuse-upload`` answers after so many bytes of the body, and resets; ``cut-upload`` resets there
    :param after: bytes of the answer (or of the body that is sent) that pass
    :param match: only requests whose head holds this
    :param times: how many requests; all when None
    :param body: of the answer that the proxy gives itself
    :param seconds: of the latency
    """

    mode: Mode
    after: int = 0
    match: bytes = b""
    times: int | None = None
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"fault"
    seconds: float = 0.05


class FaultProxy:
    """Stands before a server; what happens can be changed at any time, for open connections too."""

    def __init__(self, port: int) -> None:
        self._upstream = ("127.0.0.1", port)
        self.port = free_port()  # which is still its own when it listens again
        self._server = socket.create_server(("127.0.0.1", self.port))
        self._lock = threading.Lock()
        self._fault: Fault | None = None
        self._open: list[_Connection] = []
        self._threads: list[threading.Thread] = []
        self._closed = threading.Event()
        #: the first lines of the requests that came
        self.requests: list[str] = []
        #: how many connections came
        self.connections = 0
        self._start(self._accept)

    def fail(self, mode: Mode, **options: object) -> None:
        """From now on this happens."""
        with self._lock:
            self._fault = Fault(mode, **options)  # type: ignore[arg-type]
        if mode == "refuse":
            self._stop_listening()
            for connection in list(self._open):
                connection.reset()

    def heal(self) -> None:
        """From now on nothing happens; what is held is let go by a reset."""
        with self._lock:
            refused = self._fault is not None and self._fault.mode == "refuse"
            self._fault = None
            held = [connection for connection in self._open if connection.fault]
        if refused:
            self._server = socket.create_server(("127.0.0.1", self.port))
            self._start(self._accept)
        for connection in held:
            connection.reset()

    def count(self, text: str) -> int:
        """How many requests had this in their first line."""
        with self._lock:
            return sum(text in line for line in self.requests)

    def take(self, head: bytes) -> Fault | None:
        """What happens to the request that begins so."""
        with self._lock:
            self.requests.append(head.split(b"\r\n", 1)[0].decode("latin-1"))
            fault = self._fault
            if fault is None or fault.match not in head or fault.times == 0:
                return None
            if fault.times is not None:
                fault.times -= 1
            return fault

    def close(self) -> None:
        """Ends all connections and threads."""
        self._closed.set()
        self._stop_listening()
        for connection in list(self._open):
            connection.reset()
        for thread in list(self._threads):
            thread.join(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stop_listening(self) -> None:
        with suppress(OSError):  # wakes the thread that accepts
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name="fault-proxy", daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        listening = self._server
        while not self._closed.is_set():
            try:
                client = listening.accept()[0]
            except OSError:
                return
            try:
                server = socket.create_connection(self._upstream, 5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            connection = _Connection(self, client, server)
            with self._lock:
                self.connections += 1
                self._open = [other for other in self._open if not other.ended.is_set()] + [connection]
            self._start(connection.up)
            self._start(connection.down)


class _Connection:
    """A client, the server, and what happens to the present request between them."""

    def __init__(self, proxy: FaultProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self.fault: Fault | None = None
        self._sent = self._received = 0
        self.ended = threading.Event()

    def up(self) -> None:
        """From the client to the server."""
        with suppress(OSError):
            while chunk := self._client.recv(65536):
                if chunk.startswith(_METHODS) and b" HTTP/1." in chunk:
                    self.fault, self._sent, self._received = self._proxy.take(chunk), 0, 0
                    chunk_is_head = True
                else:
                    chunk_is_head = False
                if not self._pass_up(chunk, chunk_is_head):
                    return
        self._end()

    def _pass_up(self, chunk: bytes, is_head: bool) -> bool:
        fault = self.fault
        mode = fault.mode if fault else None
        self._sent += len(chunk)
        if mode == "reset":
            self.reset()
        elif mode == "cut-upload" and fault and self._sent > fault.after:
            self._server.sendall(chunk[: max(0, len(chunk) - (self._sent - fault.after))])
            self._end()
        elif mode == "status" or (mode == "refuse-upload" and fault and self._sent > fault.after):
            self._answer()
        elif mode == "blackhole":
            return True
        else:
            self._server.sendall(chunk)
            return True
        return False

    def down(self) -> None:
        """From the server to the client."""
        with suppress(OSError):
            while chunk := self._server.recv(65536):
                if not self._pass_down(chunk):
                    return
        self._end()

    def _pass_down(self, chunk: bytes) -> bool:
        fault, before = self.fault, self._received
        self._received += len(chunk)
        if fault is None or fault.mode == "latency":
            if fault:
                self.ended.wait(fault.seconds)
            self._client.sendall(chunk)
            return True
        reached = self._received > fault.after
        keep = max(0, fault.after - before)
        if fault.mode == "corrupt" and before <= fault.after < self._received:
            changed = bytearray(chunk)
            changed[keep] ^= 1
            chunk, reached = bytes(changed), False
        if fault.mode not in ("cut", "end", "stall") or not reached:
            self._client.sendall(chunk)
            return True
        self._client.sendall(chunk[:keep])
        if fault.mode == "cut":
            self.reset()
        elif fault.mode == "end":
            self._end()
        else:
            self.ended.wait()
        return False

    def _answer(self) -> None:
        fault = self.fault
        assert fault
        lines = [
            f"HTTP/1.1 {fault.status} Fault",
            f"Content-Length: {len(fault.body)}",
            "Connection: close",
            f"Date: {formatdate(usegmt=True)}",
        ]
        lines += [f"{name}: {value}" for name, value in fault.headers.items()]
        self._client.sendall("\r\n".join([*lines, "", ""]).encode() + fault.body)
        if fault.mode == "refuse-upload":
            self.reset()
        else:
            self._end()

    def reset(self) -> None:
        """Both sides lose the connection at once (RST)."""
        with suppress(OSError):
            self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._end()

    def _end(self) -> None:
        self.ended.set()
        for end in (self._client, self._server):
            # A thread that waits in recv() is only woken by this.
            with suppress(OSError):
                end.shutdown(socket.SHUT_RD)
            with suppress(OSError):
                end.close()
