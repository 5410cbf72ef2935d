"""The world's listening sockets, opened by the supervisor before any child starts."""

from __future__ import annotations

import socket

from nearpoint.world.layout import WorldError

BACKLOG = 1024
LOOPBACK = "127.0.0.1"


def _bound(name: str, port: int, *, exact: bool) -> socket.socket:
    for candidate in dict.fromkeys((port, port if exact else 0)):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((LOOPBACK, candidate))
            return sock
        except OSError as error:
            sock.close()
            if exact:
                raise WorldError(f"Port {port} for the {name} cannot be used: {error.strerror}.") from error
    raise WorldError(f"No free port for the {name}.")


def listen(name: str, port: int, *, exact: bool) -> socket.socket:
    """A listening loopback socket. Without `exact`, a port that is taken is replaced by a free one.

    Raises WorldError when the wanted port is taken and `exact` is set.
    """
    while True:
        sock = _bound(name, port, exact=exact)
        try:
            sock.listen(BACKLOG)
            return sock
        except OSError as error:  # bound, but somebody else who shares addresses listens there
            sock.close()
            if exact:
                raise WorldError(f"Port {port} for the {name} cannot be used: {error.strerror}.") from error
            port = 0


def reserve(name: str, port: int) -> socket.socket:
    """A port for a program that opens its own: bound, not listening, so that nobody else is given it.

    The program can listen there all the same, since both set SO_REUSEADDR and one of them alone listens (socket(7)).
    """
    with listen(name, port, exact=False) as free:
        found = int(free.getsockname()[1])
    return _bound(name, found, exact=True)
