"""Connections with bytes that no process reads, over TCP and a pipe, are at rest; a paused stream is too."""

import os
import socket
import threading
import time

listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
server, _ = listener.accept()
client.sendall(b"x" * 50_000)
read_end, write_end = os.pipe()
os.write(write_end, b"unread")
server.setblocking(False)
sent = 0
try:
    while True:
        sent += server.send(b"y" * 65536)
except BlockingIOError:
    print("the other side reads nothing:", sent > 0)
woken: list[float] = []
thread = threading.Thread(target=lambda: (time.sleep(1800), woken.append(time.monotonic())))
begun = time.monotonic()
thread.start()
time.sleep(3600)
print(f"parked asked 3600.000 passed {time.monotonic() - begun:.3f}; a thread woke after {woken[0] - begun:.3f}")
client.setblocking(True)
got = 0
client.settimeout(5)
begun = time.monotonic()
try:
    while True:
        got += len(client.recv(1 << 20))
except TimeoutError:
    print(f"all read: {got == sent}; silence asked 5.000 passed {time.monotonic() - begun:.3f}")
