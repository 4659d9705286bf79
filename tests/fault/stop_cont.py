#!/usr/bin/env python3
"""rondo-echo under signals that come at a bad moment.

Goal: a server that was stopped for two seconds under load loses no byte; a drain that a connection
holds up is ended by the second signal. Method: signals to the program while clients talk to it."""

import os
import random
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
# pylint: disable=wrong-import-position
from server import Failure, Server, check, exchange, receive, run_tests  # noqa: E402

CLIENTS = 8
STOPPED_SECONDS = 2
MESSAGE_SIZE_MAX = 30000
HELD_SIZE = 32 << 20
EXIT_SECONDS_MAX = 2
SEED = 17


class Client(threading.Thread):
    """Exchanges messages until it is told to stop."""

    def __init__(self, server, number, stopping):
        super().__init__()
        self.stream = server.connect()
        self.generator = random.Random(SEED + number)
        self.stopping = stopping
        self.exchanges = 0
        self.failure = None

    def run(self):
        try:
            while not self.stopping.is_set():
                exchange(self.stream,
                         self.generator.randbytes(self.generator.randint(1, MESSAGE_SIZE_MAX)))
                self.exchanges += 1
        except (Failure, OSError) as failure:
            self.failure = failure
        self.stream.close()


def wait_for(condition, seconds, text):
    until = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < until, text)
        time.sleep(0.005)


def stopped_and_continued_under_load_every_byte_comes_back(program):
    with Server(program) as server:
        stopping = threading.Event()
        clients = [Client(server, number, stopping) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        wait_for(lambda: all(client.exchanges > 20 for client in clients), 10, "no traffic before")
        server.signal(signal.SIGSTOP)
        time.sleep(STOPPED_SECONDS)
        server.signal(signal.SIGCONT)
        before = [client.exchanges for client in clients]
        wait_for(lambda: all(client.exchanges > count + 20 or client.failure
                             for client, count in zip(clients, before)),
                 10, "no traffic after")
        stopping.set()
        for client in clients:
            client.join()
            check(not client.failure, f"a client: {client.failure}")
        server.signal(signal.SIGTERM)
        server.expect_exit(0, EXIT_SECONDS_MAX)


def hold_up(server):
    """A connection whose answers nobody reads: the drain has to wait for it."""
    stream = server.connect()
    stream.settimeout(0.5)
    try:
        stream.sendall(bytes(HELD_SIZE))
    except TimeoutError:
        pass
    return stream


def a_drain_that_is_held_up_ends_at_its_deadline(program):
    with Server(program, "--drain-ms", "500") as server, hold_up(server):
        server.signal(signal.SIGTERM)
        seconds = server.expect_exit(0, 5)
        check(0.4 < seconds < 2, f"it took {seconds:.2f} s, not half a second")


def a_second_signal_ends_a_drain_at_once(program):
    with Server(program, "--drain-ms", "60000") as server, hold_up(server):
        server.signal(signal.SIGTERM)
        time.sleep(0.3)
        check(server.process.poll() is None, "the drain was not held up: nothing was tested")
        server.signal(signal.SIGTERM)
        server.expect_exit(0, EXIT_SECONDS_MAX)


def answers_that_were_on_their_way_arrive_before_the_exit(program):
    with Server(program) as server, server.connect() as stream:
        message = random.Random(SEED).randbytes(1 << 20)
        stream.setsockopt(1, 8, 4096)  # SOL_SOCKET, SO_RCVBUF: keep the answer at the server
        sender = threading.Thread(target=stream.sendall, args=(message[:100000],))
        sender.start()
        first = receive(stream, 1000)
        sender.join()
        time.sleep(0.1)
        server.signal(signal.SIGTERM)
        rest = receive(stream, 100000 - 1000)
        check(first + rest == message[:100000], f"{len(first + rest)} of 100000 bytes arrived")
        server.expect_exit(0, EXIT_SECONDS_MAX)


if __name__ == "__main__":
    run_tests([
        stopped_and_continued_under_load_every_byte_comes_back,
        a_drain_that_is_held_up_ends_at_its_deadline,
        a_second_signal_ends_a_drain_at_once,
        answers_that_were_on_their_way_arrive_before_the_exit,
    ])
