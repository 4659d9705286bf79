#!/usr/bin/env python3
"""rondo-echo as its users meet it: its command line, its messages, and that it echoes.

Goal: each promise of `--help` holds. Method: run the program, talk to it over TCP, compare."""

import random
import signal
import socket
import statistics
import subprocess
import threading
import time

from server import Failure, Server, check, exchange, receive, run_tests

SEED = 20240131
BIG_SIZE = 5 << 20
CONNECTIONS = 300
HEAVY_CLIENTS = 4
BURN_US = 200000
LIGHT_SECONDS_MAX = 0.1


def run(program, *arguments):
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=20,
                          check=False)


def help_explains_and_exits_with_0(program):
    result = run(program, "--help")
    check(result.returncode == 0, f"exit status {result.returncode}")
    for word in ("Usage:", "Examples:", "--port", "--workers", "--burn-us", "exits with 0"):
        check(word in result.stdout, f"no {word!r} in the help")
    check(not result.stderr, f"on stderr: {result.stderr}")
    version = run(program, "--version")
    check(version.returncode == 0 and version.stdout.startswith("rondo-echo "), version.stdout)


def wrong_flags_exit_with_2_and_are_named(program):
    for arguments, word in (
            (["--no-such-flag"], "no-such-flag"),
            (["--port"], "port"),
            (["--port", "70000"], "--port"),
            (["--port", "-1"], "--port"),
            (["--port", ""], "--port"),
            (["--workers", "many"], "--workers"),
            (["--workers", "1x"], "--workers"),
            (["--burn-us", "99999999999999999999999"], "--burn-us"),
            (["--spin-us", "1001"], "--spin-us"),
            (["--port", "0", "surplus"], "surplus")):
        result = run(program, *arguments)
        check(result.returncode == 2, f"{arguments}: exit status {result.returncode}")
        check(word in result.stderr, f"{arguments}: {result.stderr!r} does not name {word}")
        check("--help" in result.stderr or word.startswith("--"),
              f"{arguments}: no way forward in {result.stderr!r}")


def impossible_settings_exit_with_1_and_are_named(program):
    for arguments, word in (
            (["--workers", "0"], "workers"),
            (["--workers", "100000"], "workers"),
            (["--lanes", "0"], "lanes"),
            (["--workers", "4", "--max-workers", "2"], "max_workers"),
            (["--host", "localhost"], "localhost"),
            (["--host", "1.2.3"], "1.2.3")):
        result = run(program, "--port", "0", *arguments)
        check(result.returncode == 1, f"{arguments}: exit status {result.returncode}")
        check(word in result.stderr, f"{arguments}: {result.stderr!r} does not name {word}")


def a_taken_port_exits_with_1_and_a_remedy(program):
    with Server(program) as server:
        result = run(program, "--port", str(server.port))
        check(result.returncode == 1, f"exit status {result.returncode}")
        check(str(server.port) in result.stderr and "another port" in result.stderr, result.stderr)


def it_echoes_on_ipv6(program):
    with Server(program, "--host", "::1") as server:
        check(server.host == "::1", f"listens on {server.host}")
        with server.connect() as stream:
            exchange(stream, b"over IPv6")


def an_ipv6_wildcard_takes_ipv4_too(program):
    with Server(program, "--host", "::") as server:
        for host in ("::1", "127.0.0.1"):
            with socket.create_connection((host, server.port), 10) as stream:
                exchange(stream, host.encode())


def half_close_returns_everything_then_the_end(program):
    message = random.Random(SEED).randbytes(100000)
    with Server(program) as server, server.connect() as stream:
        stream.sendall(message)
        stream.shutdown(socket.SHUT_WR)
        check(receive(stream, len(message) + 1) == message, "not everything came back")


def single_bytes_come_back(program):
    with Server(program) as server, server.connect() as stream:
        for number in range(2000):
            exchange(stream, bytes([number % 256]))
        for number in range(5000):
            stream.send(bytes([number % 256]))
        check(receive(stream, 5000) == bytes(number % 256 for number in range(5000)), "changed")


def megabytes_come_back_unchanged(program):
    message = random.Random(SEED).randbytes(BIG_SIZE)
    with Server(program) as server, server.connect() as stream:
        sender = threading.Thread(target=stream.sendall, args=(message,))
        sender.start()
        answer = receive(stream, len(message))
        sender.join()
        check(answer == message, f"{len(answer)} of {len(message)} bytes came back, or changed")


def hundreds_of_connections_at_once(program):
    with Server(program) as server:
        streams = [server.connect() for _ in range(CONNECTIONS)]
        for step in range(3):
            for number, stream in enumerate(streams):
                stream.sendall(b"%d of %d;" % (step, number))
            for number, stream in enumerate(streams):
                expected = b"%d of %d;" % (step, number)
                check(receive(stream, len(expected)) == expected, f"connection {number}")
        for stream in streams:
            stream.close()


class Heavy(threading.Thread):
    """A client whose every message costs the server BURN_US of computing."""

    def __init__(self, server, stopping):
        super().__init__()
        self.stream = server.connect()
        self.stopping = stopping
        self.exchanges = 0
        self.failure = None

    def run(self):
        try:
            while not self.stopping.is_set():
                exchange(self.stream, b"Compute")
                self.exchanges += 1
        except (Failure, OSError) as failure:
            self.failure = failure
        self.stream.close()


def computing_clients_do_not_hold_up_others(program):
    with Server(program, "--workers", "2", "--burn-us", str(BURN_US)) as server:
        stopping = threading.Event()
        heavy = [Heavy(server, stopping) for _ in range(HEAVY_CLIENTS)]
        times = []
        for client in heavy:
            client.start()
        with server.connect() as stream:
            until = time.monotonic() + 2
            while time.monotonic() < until:
                begin = time.monotonic()
                exchange(stream, b"light")
                times.append(time.monotonic() - begin)
        stopping.set()
        for client in heavy:
            client.join()
            check(not client.failure, f"a heavy client: {client.failure}")
            check(client.exchanges > 0, "a heavy client got no answer")
        times.sort()
        # The pool grows in the first moments; the processor itself is shared by all.
        check(times[len(times) * 99 // 100] < LIGHT_SECONDS_MAX,
              f"p99 of the light client {times[len(times) * 99 // 100] * 1000:.1f} ms, "
              f"median {statistics.median(times) * 1000:.1f} ms, {len(times)} answers")
        check(times[-1] < 2 * BURN_US / 1e6, f"longest wait {times[-1] * 1000:.1f} ms")


def sigterm_and_sigint_exit_with_0(program):
    for number in (signal.SIGTERM, signal.SIGINT):
        with Server(program) as server, server.connect() as stream:
            exchange(stream, b"before")
            server.signal(number)
            server.expect_exit(0, 5)
            check(stream.recv(1) == b"", "bytes after the end")


if __name__ == "__main__":
    run_tests([
        help_explains_and_exits_with_0,
        wrong_flags_exit_with_2_and_are_named,
        impossible_settings_exit_with_1_and_are_named,
        a_taken_port_exits_with_1_and_a_remedy,
        it_echoes_on_ipv6,
        an_ipv6_wildcard_takes_ipv4_too,
        half_close_returns_everything_then_the_end,
        single_bytes_come_back,
        megabytes_come_back_unchanged,
        hundreds_of_connections_at_once,
        computing_clients_do_not_hold_up_others,
        sigterm_and_sigint_exit_with_0,
    ])
