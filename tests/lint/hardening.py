#!/usr/bin/env python3
"""The programs and the library of a build are hardened as docs/security.md says.

Usage: tests/lint/hardening.py BUILD

Reads the ELF files with readelf: no executable stack, relocations read-only and bound at start,
position independent, stack protector and fortified calls in use, only rondo_ symbols exported.
"""
import pathlib
import subprocess
import sys


def readelf(option, path):
    words = ["readelf", option, "-W", str(path)]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def exported(path):
    names = []
    for line in readelf("--dyn-syms", path).splitlines():
        columns = line.split()
        if len(columns) >= 8 and columns[4] in ("GLOBAL", "WEAK") and columns[6] != "UND":
            if columns[3] in ("FUNC", "OBJECT", "TLS") and columns[6] != "ABS":
                names.append(columns[7].split("@")[0])
    return names


def problems_of(path, is_library):
    headers = readelf("-l", path)
    dynamic = readelf("-d", path)
    symbols = readelf("--dyn-syms", path)
    stack = [line for line in headers.splitlines() if "GNU_STACK" in line]
    if not stack or "RWE" in stack[0]:
        yield "the stack is executable"
    if "GNU_RELRO" not in headers:
        yield "relocations stay writable (no relro)"
    if "BIND_NOW" not in dynamic and "NOW" not in dynamic:
        yield "symbols are bound late (no -z now)"
    if "DYN" not in readelf("-h", path).split("Type:")[1].splitlines()[0]:
        yield "it is not position independent"
    if "__stack_chk_fail" not in symbols:
        yield "no stack protector"
    if "_chk@" not in symbols.replace("__stack_chk_fail", ""):
        yield "no fortified calls"
    if is_library:
        for name in exported(path):
            if not name.startswith("rondo_"):
                yield f"it exports {name}"


def main():
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return 2
    build = pathlib.Path(sys.argv[1])
    files = [(build / "src" / "librondo.so.0", True), (build / "tools" / "rondo-echo", False)]
    tls = build / "src" / "tls" / "librondo-tls.so.0"
    if tls.exists():  # Only where OpenSSL was found.
        files.append((tls, True))
    failed = False
    for path, is_library in files:
        for problem in problems_of(path, is_library):
            print(f"{path}: {problem}")
            failed = True
    print(f"{len(files)} files checked")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
