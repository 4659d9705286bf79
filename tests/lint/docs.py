#!/usr/bin/env python3
"""Checks that the documents are true about the tree: the programs they print are the files that the
tests compile, relative links lead somewhere, functions and files they name exist.
Prints `path:line: message`; exits 1 if there was one."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRINTED_IN = ("README.md", "docs/tutorial.md", "docs/tuning.md")
EXAMPLES = "docs/examples"

BLOCK = re.compile(r"^(?P<before>[^\n]*)\n```c\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
NAMED = re.compile(r"^<!-- (?P<path>docs/examples/\w+\.c) -->$")
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
FUNCTION = re.compile(r"`(?P<path>[\w./-]+\.[ch]):(?P<name>\w+)`")
FILE = re.compile(r"`(?P<path>(?:src|include|tests|tools|docs)/[\w./-]+)`")
PLACEHOLDER = re.compile(r"@@\w+@@")


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def without_programs(text):
    """@text with what stands between fences blanked."""
    return FENCE.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def anchors(path):
    """What GitHub calls the headings of a Markdown file."""
    for heading in re.findall(r"^#+ (.*)$", without_programs(path.read_text("utf-8")), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def check_programs(text):
    for block in BLOCK.finditer("\n" + text):
        line = line_of(text, block.start("text") - 1)
        named = NAMED.match(block["before"])
        if not named:
            yield line, f"a C program without a line <!-- {EXAMPLES}/NAME.c --> above it"
        elif not (ROOT / named["path"]).is_file():
            yield line, f"{named['path']} does not exist"
        elif (ROOT / named["path"]).read_text("utf-8") != block["text"]:
            yield line, f"this is not the text of {named['path']}"


def check_links(path, text):
    for link in LINK.finditer(without_programs(text)):
        target, _, anchor = link["target"].partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        line = line_of(text, link.start())
        file = (path.parent / target).resolve() if target else path
        if not file.exists():
            yield line, f"the link to {target} leads nowhere"
        elif anchor and (file.suffix != ".md" or anchor not in anchors(file)):
            yield line, f"{target or 'this file'} has no heading #{anchor}"


def check_names(text):
    """Functions as `path:name`, and files by their path from the root."""
    for named in FUNCTION.finditer(text):
        file = ROOT / named["path"]
        line = line_of(text, named.start())
        if not file.is_file():
            yield line, f"{named['path']} does not exist"
        elif not re.search(rf"^\S[^;\n]*\b{named['name']}\(", file.read_text("utf-8"), re.MULTILINE):
            yield line, f"{named['path']} has no function {named['name']}()"
    for named in FILE.finditer(text):
        if not (ROOT / named["path"]).exists():
            yield line_of(text, named.start()), f"{named['path']} does not exist"


def check_examples():
    """Every program of the folder is compiled, and printed or listed somewhere."""
    build = (ROOT / EXAMPLES / "meson.build").read_text("utf-8")
    printed = "".join((ROOT / path).read_text("utf-8") for path in PRINTED_IN)
    listed = ROOT / EXAMPLES / "README.md"
    listed = listed.read_text("utf-8") if listed.exists() else ""
    for program in sorted((ROOT / EXAMPLES).glob("*.c")):
        if f"'{program.stem}'" not in build and f"'{program.name}'" not in build:
            yield program, "meson.build beside it does not compile it"
        if (f"<!-- {EXAMPLES}/{program.name} -->" not in printed
                and f"]({program.name})" not in listed):
            yield program, f"neither of {', '.join(PRINTED_IN)} prints it, nor README.md lists it"


def check(path):
    text = path.read_text("utf-8")
    name = str(path.relative_to(ROOT))
    problems = list(check_links(path, text)) + list(check_names(text))
    if name in PRINTED_IN:
        problems += check_programs(text)
    problems += [(line_of(text, found.start()), f"{found.group()} is not filled in")
                 for found in PLACEHOLDER.finditer(text)]
    return sorted(problems)


def main():
    paths = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"),
                    *(ROOT / "tests").rglob("*.md")])
    failed = False
    for path in paths:
        for line, message in check(path):
            print(f"{path.relative_to(ROOT)}:{line}: {message}")
            failed = True
    for path, message in check_examples():
        print(f"{path.relative_to(ROOT)}:1: {message}")
        failed = True
    print(f"{len(paths)} documents checked")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
