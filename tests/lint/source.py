#!/usr/bin/env python3
"""Checks the C and C++ files of src, include, tools and tests: lengths, white space, banned words
and calls, comments at atomics. Prints `path:line: message`; exits 1 if there was one."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("src", "include", "tools", "tests")
SUFFIXES = (".c", ".h", ".cc", ".cpp", ".hpp", ".S")

LINE_COLUMNS_MAX = 100
FILE_LINES_NOTE = 500
FILE_LINES_MAX = 800
FUNCTION_LINES_MAX = 80
ATOMIC_COMMENT_LINES = 3

BANNED_WORD = re.compile(r"\b(TODO|FIXME|XXX)\b")
BANNED_CALL = re.compile(
    r"(?<![.\w])(?<!->)"
    r"((?:v?sprintf|strcpy|strcat|(?:__builtin_)?alloca|rand|gettimeofday|usleep|atoi)(?=\s*\()"
    r"|(?:_|sig)?setjmp\b)")
ERRNO = re.compile(r"\berrno\b")
ATOMIC = re.compile(
    r"\bmemory_order_\w+"
    r"|\b(?:load|store|exchange|add|sub|or|and|xor|cas|cas_weak|fence)"
    r"_(?:acquire|release|acq_rel|seq_cst)\s*\(")
TOKEN = re.compile(
    r"""(?P<comment>/\*.*?\*/|//[^\n]*)|(?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')""",
    re.DOTALL)


def blank(text):
    return re.sub(r"[^\n]", " ", text)


def split(text):
    """The lines with comments and strings blanked, and the set of lines that hold a comment."""
    commented = set()

    def replace(match):
        if match.lastgroup == "string":
            return match.group()[0] + blank(match.group()[1:-1]) + match.group()[-1]
        first = text.count("\n", 0, match.start()) + 1
        commented.update(range(first, first + match.group().count("\n") + 1))
        return blank(match.group())

    return TOKEN.sub(replace, text).split("\n"), commented


def check_layout(text, lines):
    if not text.endswith("\n"):
        yield len(lines), "no newline at the end of the file"
    if text.endswith("\n\n"):
        yield len(lines), "empty line at the end of the file"
    if len(lines) > FILE_LINES_MAX:
        yield len(lines), f"file of {len(lines)} lines, at most {FILE_LINES_MAX}"
    for number, line in enumerate(lines, 1):
        if len(line) > LINE_COLUMNS_MAX:
            yield number, f"line of {len(line)} columns, at most {LINE_COLUMNS_MAX}"
        if "\t" in line:
            yield number, "tab"
        if line != line.rstrip():
            yield number, "white space at the end of the line"
        word = BANNED_WORD.search(line)
        if word:
            yield number, f"banned word {word[1]}"


def check_functions(code):
    start = None
    for number, line in enumerate(code, 1):
        if line.startswith("{"):
            start = number
        elif line.startswith("}") and start is not None:
            length = number - start + 1
            if length > FUNCTION_LINES_MAX:
                yield start, f"function of {length} lines, at most {FUNCTION_LINES_MAX}"
            start = None


def check_library(path, text, code):
    """What holds in src/ only."""
    if not text.startswith("/*"):
        yield 1, "the file does not start with a block comment"
    errno_allowed = path.parts[1] == "base"
    for number, line in enumerate(code, 1):
        call = BANNED_CALL.search(line)
        if call:
            yield number, f"banned call {call[1]}"
        included = line.lstrip().startswith("#") and "include" in line
        if not errno_allowed and not included and ERRNO.search(line):
            yield number, "errno outside src/base: the caller may have moved to another thread"


def check_atomics(code, commented):
    for number, line in enumerate(code, 1):
        atomic = ATOMIC.search(line)
        near = range(number - ATOMIC_COMMENT_LINES, number + 1)
        if atomic and commented.isdisjoint(near):
            name = atomic.group().rstrip("( ")
            yield number, (f"{name} without a comment on the line or within the "
                           f"{ATOMIC_COMMENT_LINES} lines above: say what it pairs with")


def check(path):
    try:
        text = (ROOT / path).read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return [(1, "not UTF-8")]
    lines = text.removesuffix("\n").split("\n")
    code, commented = split(text)
    problems = list(check_layout(text, lines)) + list(check_functions(code))
    if path.parts[0] == "src":
        problems += check_library(path, text, code)
        if path.parts[1] == "queue":
            problems += check_atomics(code, commented)
    if FILE_LINES_NOTE < len(lines) <= FILE_LINES_MAX:
        print(f"{path}:{len(lines)}: note: {len(lines)} lines, more than {FILE_LINES_NOTE}")
    return sorted(problems)


def main():
    paths = sorted(path.relative_to(ROOT)
                   for folder in FOLDERS for path in (ROOT / folder).rglob("*")
                   if path.suffix in SUFFIXES and path.is_file())
    failed = not paths
    for path in paths:
        for number, message in check(path):
            print(f"{path}:{number}: {message}")
            failed = True
    print(f"{len(paths)} files checked")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
