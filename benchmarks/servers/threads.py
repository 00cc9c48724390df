"""A thread for each connection, from the standard library's sockets, with a constant reply and no parser.

This is what kecho and khttpd were before they had workqueues, with Python's threads in place of the kernel's.
"""

from __future__ import annotations

import socket
import sys
import threading

from constant import REPLY, keeps_open


def converse(sock: socket.socket) -> None:
    received = b""
    with sock:
        try:
            while data := sock.recv(65536):
                received += data
                while b"\r\n\r\n" in received:
                    head, _, received = received.partition(b"\r\n\r\n")
                    sock.sendall(REPLY)
                    if not keeps_open(head):
                        return
        except OSError:
            return


def main() -> None:
    with socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=1024) as listener:
        while True:
            sock, _peer = listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=converse, args=(sock,), daemon=True).start()


main()
