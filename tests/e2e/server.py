"""Starts a server program for a test, and the checks that the end-to-end tests share."""

import re
import select
import signal
import socket
import subprocess
import sys
import time

START_SECONDS_MAX = 10
IO_SECONDS_MAX = 20


class Failure(Exception):
    """A test did not hold."""


def check(condition, text):
    if not condition:
        raise Failure(text)


class Server:
    """A running server. Use it in a `with`: it is ended at the end in any case."""

    def __init__(self, program, *arguments):
        self.start(program, "--port", "0", *arguments)

    def start(self, *command):
        self.errors = ""  # what it wrote to stderr, once it has ended
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        ready, _, _ = select.select([self.process.stdout], [], [], START_SECONDS_MAX)
        line = self.process.stdout.readline().decode() if ready else ""
        match = re.fullmatch(r"listening on (\[[0-9a-f:]+\]|[0-9.]+):([0-9]+)\n", line)
        if not match:
            self.process.kill()
            raise Failure(f"no `listening on HOST:PORT`, but {line!r}: "
                          f"{self.process.communicate()[1].decode()}")
        self.host = match[1].strip("[]")
        self.port = int(match[2])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.communicate()

    def connect(self):
        stream = socket.create_connection((self.host, self.port), IO_SECONDS_MAX)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return stream

    def signal(self, number):
        self.process.send_signal(number)

    def expect_exit(self, status, seconds_max):
        """Waits for the end; how long it took."""
        begin = time.monotonic()
        try:
            self.process.wait(seconds_max)
        except subprocess.TimeoutExpired:
            raise Failure(f"still running after {seconds_max} s") from None
        self.errors = self.process.stderr.read().decode()
        check(self.process.returncode == status,
              f"exit status {self.process.returncode}, not {status}: {self.errors}")
        return time.monotonic() - begin


def receive(stream, size):
    """@size bytes, or fewer if the other side closed."""
    parts = []
    while size > 0:
        part = stream.recv(min(size, 1 << 16))
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def exchange(stream, message):
    stream.sendall(message)
    answer = receive(stream, len(message))
    check(answer == message, f"sent {len(message)} bytes, {len(answer)} came back, or changed")


def run_tests(tests):
    """Calls every test with the program's path, says which failed, and exits."""
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} PROGRAM [TEST]")
    failed = False
    for test in tests:
        if len(sys.argv) > 2 and test.__name__ != sys.argv[2]:
            continue
        begin = time.monotonic()
        try:
            test(sys.argv[1])
            outcome = "ok"
        except (Failure, OSError, subprocess.TimeoutExpired) as failure:
            failed = True
            outcome = f"FAILED: {type(failure).__name__}: {failure}"
        print(f"{test.__name__}: {outcome} ({time.monotonic() - begin:.2f} s)", flush=True)
    sys.exit(1 if failed else 0)
