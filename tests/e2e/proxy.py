#!/usr/bin/env python3
"""The example tcp_proxy between a client and a target, both played by the test.

Goal: bytes come through both ways unchanged, ends and resets are passed on, a slow side holds up
the other, SIGTERM drains. Method: each test connects a client through the program to a socket of its
own and looks at both."""

import hashlib
import random
import signal
import socket
import struct
import threading
import time

from server import IO_SECONDS_MAX, Failure, Server, check, receive, run_tests

SEED = 20241124
BIG_SIZE = 8 << 20
HELD_UP_MAX = 64 << 20  # what the kernel's buffers and the proxy may take from a sender
CONNECTIONS = 64
MESSAGES = 50


class Proxy(Server):
    """The proxy, and the target that it connects to."""

    def __init__(self, program, target_port=None):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=CONNECTIONS)
        self.listener.settimeout(IO_SECONDS_MAX)
        port = target_port or self.listener.getsockname()[1]
        self.start(program, "0", "127.0.0.1", str(port))

    def __exit__(self, *exception):
        super().__exit__(*exception)
        self.listener.close()

    def accept(self):
        stream = self.listener.accept()[0]
        stream.settimeout(IO_SECONDS_MAX)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return stream

    def pair(self):
        """A client and what it is connected to, after a first byte: the proxy is in between."""
        client = self.connect()
        client.sendall(b"!")
        target = self.accept()
        check(receive(target, 1) == b"!", "the first byte did not come through")
        return client, target


def exchange_through(client, target):
    """A message up and back down."""
    client.sendall(b"x" * 1000)
    target.sendall(receive(target, 1000))
    check(receive(client, 1000) == b"x" * 1000, "1000 bytes did not come back")


def digest(data):
    return hashlib.sha256(data).digest()


def receive_all(stream):
    """Until the other side has sent its last byte."""
    parts = []
    while part := stream.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def reset(stream):
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()


def expect_end(stream, why):
    """Closed or reset, not silent."""
    try:
        check(stream.recv(1) == b"", f"{why}: a byte instead of the end")
    except ConnectionResetError:
        pass
    except TimeoutError:
        raise Failure(f"{why}: still open after {IO_SECONDS_MAX} s") from None


def is_turned_away(proxy, why):
    """Connects and expects the end. False: it does not even listen."""
    try:
        expect_end(proxy.connect(), why)
    except ConnectionRefusedError:
        return False
    except ConnectionResetError:
        pass  # The reset was there before connect() returned.
    return True


class Sender(threading.Thread):
    """Sends @data and then the end, so that both ways can be busy at the same time."""

    def __init__(self, stream, data):
        super().__init__(daemon=True)
        self.stream, self.data = stream, data
        self.start()

    def run(self):
        self.stream.sendall(self.data)
        self.stream.shutdown(socket.SHUT_WR)


def bytes_come_through_both_ways_unchanged(program):
    generator = random.Random(SEED)
    up, down = (generator.randbytes(BIG_SIZE + extra) for extra in (1, 12345))
    with Proxy(program) as proxy:
        client, target = proxy.pair()
        Sender(client, up)
        Sender(target, down)
        results = {}
        reader = threading.Thread(target=lambda: results.update(up=receive_all(target)))
        reader.start()
        results["down"] = receive_all(client)
        reader.join(IO_SECONDS_MAX)
        for way, sent in (("up", up), ("down", down)):
            got = results.get(way, b"")
            check(len(got) == len(sent), f"{way}: {len(got)} of {len(sent)} bytes")
            check(digest(got) == digest(sent), f"{way}: the checksum differs")


def single_bytes_come_through(program):
    with Proxy(program) as proxy:
        client, target = proxy.pair()
        for value in range(200):
            client.sendall(bytes([value]))
            check(receive(target, 1) == bytes([value]), f"byte {value} up")
            target.sendall(bytes([255 - value]))
            check(receive(client, 1) == bytes([255 - value]), f"byte {value} down")


def the_end_of_the_client_is_passed_on_and_answers_still_come(program):
    with Proxy(program) as proxy:
        client, target = proxy.pair()
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        check(receive_all(target) == b"question", "the target did not get the question and the end")
        target.sendall(b"answer")
        check(receive(client, 6) == b"answer", "no answer after the half close")
        target.close()
        expect_end(client, "the target closed")


def the_end_of_the_target_is_passed_on_and_more_may_be_sent(program):
    with Proxy(program) as proxy:
        client, target = proxy.pair()
        target.sendall(b"bye")
        target.shutdown(socket.SHUT_WR)
        check(receive_all(client) == b"bye", "the client did not get the last bytes and the end")
        client.sendall(b"one more")
        check(receive(target, 8) == b"one more", "nothing came through after the half close")
        client.close()
        expect_end(target, "the client closed")


def a_reset_of_one_side_closes_the_other(program):
    with Proxy(program) as proxy:
        client, target = proxy.pair()
        reset(client)
        expect_end(target, "the client reset")
        client, target = proxy.pair()
        reset(target)
        expect_end(client, "the target reset")
        exchange_through(*proxy.pair())


def a_target_that_is_down_closes_the_client(program):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with Proxy(program, port) as proxy:
        for _ in range(3):
            check(is_turned_away(proxy, "nobody listens"), "the proxy does not listen")
        proxy.signal(signal.SIGTERM)
        proxy.expect_exit(0, IO_SECONDS_MAX)
        check(proxy.errors.count("ECONNREFUSED") == 3, f"on stderr: {proxy.errors!r}")


def a_target_that_never_reads_holds_up_the_client(program):
    block = random.Random(SEED).randbytes(1 << 16)
    with Proxy(program) as proxy:
        client, target = proxy.pair()
        client.settimeout(1)
        sent = 0
        try:
            while sent < HELD_UP_MAX:
                sent += client.send(block[sent % len(block):])
        except TimeoutError:
            pass
        check(sent < HELD_UP_MAX, f"{sent} bytes were taken that nobody reads")
        client.settimeout(IO_SECONDS_MAX)
        client.shutdown(socket.SHUT_WR)
        got = receive_all(target)
        check(len(got) == sent, f"{len(got)} of {sent} bytes")
        check(digest(got) == digest((block * (sent // len(block) + 1))[:sent]), "they changed")


def many_connections_at_once(program):
    with Proxy(program) as proxy:
        clients = [proxy.connect() for _ in range(CONNECTIONS)]
        targets = [proxy.accept() for _ in range(CONNECTIONS)]

        def echo(target):
            while part := target.recv(1 << 16):
                target.sendall(part)
            target.close()

        for target in targets:
            threading.Thread(target=echo, args=(target,), daemon=True).start()
        generator = random.Random(SEED)
        for _ in range(MESSAGES):
            messages = [generator.randbytes(generator.randint(1, 3000)) for _ in clients]
            for client, message in zip(clients, messages):
                client.sendall(message)
            for client, message in zip(clients, messages):
                check(receive(client, len(message)) == message, "a message changed")
        for client in clients:
            client.shutdown(socket.SHUT_WR)
            expect_end(client, "its end came back")
        exchange_through(*proxy.pair())


def sigterm_lets_what_is_under_way_finish(program):
    with Proxy(program) as proxy:
        client, target = proxy.pair()
        proxy.signal(signal.SIGTERM)
        until = time.monotonic() + IO_SECONDS_MAX
        while is_turned_away(proxy, "it ends"):
            check(time.monotonic() < until, "it still listens after SIGTERM")
        exchange_through(client, target)
        client.close()
        expect_end(target, "the client closed")
        target.close()
        proxy.expect_exit(0, IO_SECONDS_MAX)


def main():
    run_tests([
        bytes_come_through_both_ways_unchanged,
        single_bytes_come_through,
        the_end_of_the_client_is_passed_on_and_answers_still_come,
        the_end_of_the_target_is_passed_on_and_more_may_be_sent,
        a_reset_of_one_side_closes_the_other,
        a_target_that_is_down_closes_the_client,
        a_target_that_never_reads_holds_up_the_client,
        many_connections_at_once,
        sigterm_lets_what_is_under_way_finish,
    ])


if __name__ == "__main__":
    main()
