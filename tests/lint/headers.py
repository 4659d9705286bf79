#!/usr/bin/env python3
"""Checks the public headers: each compiles alone, as C17 and as C++17, without a warning, and each
function has a block comment directly above it that says since which version it exists.
Prints `path:line: message`; exits 1 if there was one."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ["-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Iinclude"]
COMPILERS = (["gcc", "-std=c17", "-x", "c"], ["g++", "-std=c++17", "-x", "c++"])

HIDDEN = re.compile(
    r"""/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|^[ \t]*\#(?:\\\n|[^\n])*""",
    re.DOTALL | re.MULTILINE)
FUNCTION = re.compile(r"\b(rondo_\w+)\s*\(")


def check_compiles(header):
    for compiler in COMPILERS:
        run = subprocess.run(compiler + FLAGS + ["-"], cwd=ROOT, text=True, capture_output=True,
                             input=f"#include <rondo/{header.name}>\n", check=False)
        if run.returncode != 0:
            yield 1, f"does not compile alone with {' '.join(compiler[:2])}:\n{run.stderr.rstrip()}"


def statements(code):
    """(offset, text) of each declaration or definition outside braces; extern "C" { is none."""
    code = re.sub(r"\bextern\s*\{", lambda match: " " * len(match.group()), code)
    depth = 0
    start = 0
    for offset, character in enumerate(code):
        if character == "{":
            depth += 1
        elif character == "}":
            depth = max(depth - 1, 0)
        ends = character == ";" or (character == "}" and code[offset + 1:].lstrip()[:1] != ";")
        if ends and depth == 0:
            text = code[start:offset + 1]
            skipped = len(text) - len(text.lstrip())
            yield start + skipped, text.strip()
            start = offset + 1


def comment_above(text, offset):
    """The block comment that ends on the line above @offset, or an empty string."""
    above = text[:offset].rstrip(" ")
    if not above.endswith("*/\n"):
        return ""
    return above[above.rindex("/*"):]


def check_comments(text):
    code = HIDDEN.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)
    for offset, statement in statements(code):
        function = FUNCTION.search(statement)
        if not function or statement.startswith("typedef"):
            continue
        line = text.count("\n", 0, offset) + 1
        comment = comment_above(text, offset)
        if not comment:
            yield line, f"{function[1]} has no block comment directly above it"
        elif not re.search(r"\bSince\b", comment):
            yield line, f"the comment of {function[1]} does not say \"Since\""


def main():
    headers = sorted((ROOT / "include/rondo").glob("*.h"))
    failed = not headers
    for header in headers:
        path = header.relative_to(ROOT)
        problems = list(check_compiles(header)) + list(check_comments(header.read_text("utf-8")))
        for line, message in problems:
            print(f"{path}:{line}: {message}")
            failed = True
    print(f"{len(headers)} public headers checked")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
