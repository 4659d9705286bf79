#!/usr/bin/env python3
"""The TLS server of the tutorial and a client, against those of openssl's command line.

Goal: they speak with programs that are not ours, in both versions, and resume sessions. Method: a
certificate made by openssl; s_client sends a line and must print the echo, the verification and the
protocol; s_server must send a line back reversed. What our programs print is compared.

Usage: interop.py TUTORIAL_TLS TLS_CLIENT"""

import pathlib
import socket
import subprocess
import sys
import tempfile
import time

LINE = "an echo, please\n"
TIMEOUT_S = 20
SKIPPED = 77


def check(condition, words):
    if not condition:
        print(f"FAILED: {words}")
        sys.exit(1)


def openssl(*arguments, talk=""):
    return subprocess.run(["openssl", *arguments], input=talk, capture_output=True, text=True,
                          timeout=TIMEOUT_S, check=False)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def connect(port, certificate, *arguments):
    """One connection of s_client that waits for its echo: what it printed."""
    words = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", certificate,
             "-verify_return_error", "-verify_hostname", "localhost", "-servername", "localhost",
             "-ign_eof", *arguments]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True) as client:
        client.stdin.write(LINE)
        client.stdin.flush()
        printed = ""
        for line in client.stdout:
            printed += line
            if line.endswith(LINE):
                break
        client.terminate()
        check(LINE in printed, f"no echo:\n{printed}")
        return printed


def certify(folder):
    certificate, key = f"{folder}/certificate.pem", f"{folder}/key.pem"
    made = openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                   "-subj", "/CN=localhost", "-keyout", key, "-out", certificate)
    check(made.returncode == 0, made.stderr)
    return certificate, key


def serve(program, certificate, key, folder):
    """Our server, their client."""
    port = free_port()
    with subprocess.Popen([program, certificate, key, str(port)], stdout=subprocess.PIPE,
                          text=True) as server:
        try:
            talk(server, port, certificate, folder)
        finally:
            server.terminate()


def talk(server, port, certificate, folder):
    wait_for(port)
    check("during the handshake" in server.stdout.readline(), "the probe's end")
    for version, name in (("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")):
        session = f"{folder}/session{version}"
        printed = connect(port, certificate, version, "-alpn", "echo", "-sess_out", session)
        check("Verify return code: 0 (ok)" in printed, printed)
        check("ALPN protocol: echo" in printed, printed)
        told = next_handshake(server)
        check(told.startswith(name) and told.endswith("protocol echo\n"), told)
        connect(port, certificate, version, "-sess_in", session)
        told = next_handshake(server)
        check(told.endswith("protocol none, resumed\n"), told)
    refused = openssl("s_client", "-connect", f"127.0.0.1:{port}", "-alpn", "other")
    check("no application protocol" in refused.stderr, refused.stderr)


def wait_for(port):
    """Until it listens; leaves in the middle of a handshake."""
    for _ in range(1000):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.01)
    check(False, "the server does not listen")


def next_handshake(server):
    """The next line about a handshake: killed clients leave words of their own."""
    for line in server.stdout:
        if line.startswith("TLS"):
            return line
    return ""


def call(client, certificate, key):
    """Our client, their server."""
    for version, name in (("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")):
        port = free_port()
        words = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", certificate,
                 "-key", key, "-rev", "-quiet", version]
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                wait_for(port)
                said = run_client(client, port, certificate, "localhost", "olleh", "3")
                resumed = f"{name} resumed\nhello\n"
                check(said == (0, f"{name}\nhello\n" + resumed * 2), f"{version}: {said}")
                status, printed = run_client(client, port, certificate, "elsewhere", "x")
                check(status == 1 and "EKEYREJECTED: certificate verify failed: hostname mismatch"
                      in printed, printed)
                said = run_client(client, port, certificate, "localhost", "olleh")
                check(said == (0, f"{name}\nhello\n"), f"after a refusal: {said}")
            finally:
                server.terminate()


def run_client(*words):
    run = subprocess.run([str(word) for word in words], capture_output=True, text=True,
                         timeout=TIMEOUT_S, check=False)
    return run.returncode, run.stdout


def main():
    if len(sys.argv) != 3:
        print(__doc__)
        return 2
    if subprocess.run(["which", "openssl"], capture_output=True, check=False).returncode:
        print("skipped: no openssl command")
        return SKIPPED
    server, client = (str(pathlib.Path(program).resolve()) for program in sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = certify(folder)
        serve(server, certificate, key, folder)
        call(client, certificate, key)
    print("ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
