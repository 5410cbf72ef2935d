"""Sends files over a transport's own socket, without reading them first (sendfile(2)), which transports can't."""

from __future__ import annotations

import os
import socket
from typing import Any

from nearpoint.wire.filebody import FileBody


class PeerGoneError(Exception):
    """The client takes no more; the transport has not noticed yet."""


class FileSender:
    """For one connection. `detach` when the transport has closed its socket."""

    __slots__ = ("_sock", "_transport")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        own = transport.get_extra_info("socket")
        self._sock = socket.socket(own.family, own.type, own.proto, own.fileno())

    def detach(self) -> None:
        """Let go of the descriptor, which is the transport's."""
        self._sock.detach()

    def send(self, head: bytes, body: FileBody, first: int = 0) -> int:
        """Write `head`, and as much of `body` from byte `first` on as the socket takes; returns how much that was.

        What the socket does not take of the head, and all of it when something waits already, goes by the transport.
        Raises PeerGoneError.
        """
        transport = self._transport
        if transport.get_write_buffer_size() or transport.is_closing():
            transport.write(head)
            return 0
        try:
            if head:
                taken = self._sock.send(head, socket.MSG_MORE | socket.MSG_DONTWAIT)
                head = head[taken:]
            if not head:
                return os.sendfile(self._sock.fileno(), body.file.fileno(), body.first + first, body.length - first)
        except BlockingIOError:
            pass
        except OSError as error:
            raise PeerGoneError from error
        transport.write(head)
        return 0
