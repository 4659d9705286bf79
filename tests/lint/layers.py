#!/usr/bin/env python3
"""Proves the layers of src: with the compile command of each layer, a header of a layer above it
compiles and a header of a layer below it is not found. (Above: earlier in LAYERS.)

Usage: layers.py BUILD_DIR    (a configured one: it holds compile_commands.json)
Prints one line a pair; exits 1 if a pair came out wrong."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("base", "queue", "sched", "ring", "timer", "task", "io", "loop")
NOT_FOUND = "No such file or directory"


def commands_by_layer(build):
    """The compile command of the first C file of each layer that has one."""
    commands = {}
    for entry in json.loads((build / "compile_commands.json").read_text("utf-8")):
        source = Path(entry["directory"], entry["file"]).resolve()
        for layer in LAYERS:
            if source.suffix == ".c" and source.parent == ROOT / "src" / layer:
                commands.setdefault(layer, entry)
    return commands


def probe_header(layer):
    """A header of @layer whose name no other folder has, or None."""
    for header in sorted((ROOT / "src" / layer).glob("*.h")):
        others = [path for folder in ("src", "include") for path in (ROOT / folder).rglob("*.h")
                  if path.name == header.name and path != header]
        if not others:
            return header.name
    return None


def arguments(command, source):
    """@command for another @source, to check only: no output file, no dependency file."""
    words = iter(shlex.split(command))
    kept = []
    for word in words:
        if word in ("-o", "-MF", "-MQ", "-MT", "-c"):
            next(words)
        elif word not in ("-MD", "-MMD"):
            kept.append(word)
    return kept + ["-fsyntax-only", str(source)]


def compile_with(entry, header, folder):
    """What the compiler said of a file that only includes @header; empty if it compiled."""
    source = Path(folder, f"{Path(entry['file']).stem}_{header}.c")
    source.write_text(f'#include "{header}"\nextern int layer_probe;\n', "utf-8")
    run = subprocess.run(arguments(entry["command"], source), cwd=entry["directory"], text=True,
                         capture_output=True, env={**os.environ, "LC_ALL": "C"}, check=False)
    return run.stderr if run.returncode else ""


def judge(layer, other, header, complaint):
    """The line to print for a pair, and whether it came out as it must."""
    above = LAYERS.index(other) < LAYERS.index(layer)
    if above:
        right = not complaint
        text = "compiles" if right else f"must compile and does not:\n{complaint.rstrip()}"
    else:
        right = f"{header}: {NOT_FOUND}" in complaint
        text = "does not compile" if right else "must not be found, and is"
        if complaint and not right:
            text = f"was refused for another reason:\n{complaint.rstrip()}"
    return f"{'ok  ' if right else 'FAIL'} src/{layer} including {other}'s {header}: {text}", right


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    build = Path(sys.argv[1])
    if not (build / "compile_commands.json").is_file():
        print(f"{build}: no compile_commands.json here: configure it with meson setup first")
        return 1
    commands = commands_by_layer(build)
    headers = {layer: probe_header(layer) for layer in LAYERS if (ROOT / "src" / layer).is_dir()}
    for layer in headers:
        if layer not in commands:
            print(f"skip src/{layer} has no C file in the build: its own includes are not probed")
        if not headers[layer]:
            print(f"skip src/{layer} has no header of a name of its own: not included by others")
    pairs = [(layer, other) for layer in headers if layer in commands
             for other in headers if other != layer and headers[other]]

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        def probe(pair):
            layer, other = pair
            complaint = compile_with(commands[layer], headers[other], folder)
            return judge(layer, other, headers[other], complaint)

        failed = not pairs
        for line, right in pool.map(probe, pairs):
            print(line)
            failed = failed or not right
    print(f"{len(pairs)} pairs of layers checked")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
