#!/usr/bin/env python3
"""Goal: docs/examples/udp_echo answers as its users meet it, and ends with 0 after SIGTERM.
Method: the real program on a port of its own, two clients, datagrams of no bytes up to the largest."""

import signal
import socket
import subprocess
import sys

SIZES = (1, 64, 0, 1472, 9000, 65507, 64, 1)


def exchange(client, address, turn):
    for size in SIZES:
        sent = bytes((turn * 7 + size + i) % 256 for i in range(size))
        client.sendto(sent, address)
        received, sender = client.recvfrom(70000)
        if received != sent or sender != address:
            raise SystemExit(f"{size} bytes: {len(received)} came back from {sender}")


def main():
    server = subprocess.Popen([sys.argv[1], "127.0.0.1", "0"], stdout=subprocess.PIPE, text=True)
    try:
        port = int(server.stdout.readline().rsplit(":", 1)[1])
        clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        for client in clients:
            client.settimeout(10)
        for turn in range(20):
            exchange(clients[turn % 2], ("127.0.0.1", port), turn)
        server.send_signal(signal.SIGTERM)
        return server.wait(10)
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


sys.exit(main())
