"""Where the app is served: on this machine alone unless told otherwise."""

from __future__ import annotations

import socket
from dataclasses import dataclass

LOCAL = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Place:
    """`port` None is the first free one from 7860 on."""

    host: str = "127.0.0.1"
    port: int | None = None

    def check(self) -> None:
        """Raise OSError where it cannot be served, as far as that is known before."""
        kind = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        with socket.socket(kind) as door:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                door.bind((self.host, self.port or 0))
            except OSError as error:
                port = "" if self.port is None else f" at port {self.port}"
                raise OSError(
                    f"The app cannot be served on {self.host}{port}: {error.strerror}. Name "
                    "another by --host or --port."
                ) from error
