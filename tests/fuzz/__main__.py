"""Fuzz the parsers and the whole connection: `python -m tests.fuzz [--seconds N] [TARGET ...]`, or `make fuzz`.

Each target runs in a process of its own, with atheris if it is installed (the group ``fuzz``; Linux, CPython to 3.13),
which searches by coverage; else with mutated seeds, blindly, and it says so. What atheris has learned stays in
``build/fuzz/TARGET/corpus``, for the next run. An input that finds something is written to ``build/fuzz/TARGET``; copy
it to ``tests/fuzz/found/TARGET/NAME.bin``, where the tests try it ever after.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import io
import os
import random
import re
import sys
import time
import traceback
from pathlib import Path

BUILD = Path(__file__).parents[2] / "build" / "fuzz"
# Of one input, in seconds and MiB: ours take milliseconds, and none has a reason to take memory.
SLOWEST, MOST_MEMORY = 10, 1024
# The names only: the targets are imported under the eyes of atheris, or it cannot watch them.
NAMES = ("target", "ranges", "conditional", "negotiation", "head", "chunks", "connection", "files")
WATCHED = ["ktrio.http", "ktrio.handlers", "ktrio.protocols", "h11"]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"{', '.join(NAMES)}; all of them if none is named"
    )
    parser.add_argument("--seconds", type=float, default=60, help="for each target (60)")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers; 0: a new one each time")
    arguments = parser.parse_args()
    if unknown := set(arguments.targets) - set(NAMES):
        parser.error(f"there is no target {', '.join(sorted(unknown))}: choose from {', '.join(NAMES)}")
    return arguments


def main() -> int:
    """Run each target in turn; 1 if any found something."""
    arguments = parse_arguments()
    has_atheris = importlib.util.find_spec("atheris") is not None
    if has_atheris:
        import atheris

        with contextlib.redirect_stderr(io.StringIO()), atheris.instrument_imports(include=WATCHED):
            import tests.fuzz.targets  # noqa: F401 - watched, once for all
    else:
        print("skipped: searching by coverage, for atheris is not installed; mutated seeds only", flush=True)
    failed = [
        name
        for name in arguments.targets or NAMES
        if not holds(name, arguments.seconds, arguments.seed, has_atheris=has_atheris)
    ]
    print(f"FOUND SOMETHING: {', '.join(failed)}; see {BUILD}" if failed else "nothing found")
    return 1 if failed else 0


def holds(name: str, seconds: float, seed: int, *, has_atheris: bool) -> bool:
    """Fuzz one target in a fork, whose words go to a file; says how it went."""
    folder = BUILD / name
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log"
    sys.stdout.flush()
    child = os.fork()
    if not child:
        try:
            with log.open("wb") as words:
                os.dup2(words.fileno(), 1)
                os.dup2(words.fileno(), 2)
            (run_with_atheris if has_atheris else run_blindly)(name, folder, seconds, seed)
        except BaseException:
            traceback.print_exc()
        finally:  # never back into the parent's code
            sys.stderr.flush()
            sys.stdout.flush()
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said = log.read_text(errors="replace")
    counted = re.search(r"stat::number_of_executed_units: *(\d+)", said)
    print(f"{name:12} {counted[1] if counted else '?':>9} inputs: {'ok' if not status else 'FOUND'}", flush=True)
    if status:
        print(said[-8000:], flush=True)
    return not status


def run_with_atheris(name: str, folder: Path, seconds: float, seed: int) -> None:
    """Search by coverage; ends the process."""
    import atheris

    from tests.fuzz.targets import LONGEST, SEEDS, TARGETS, WORDS, found

    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for data in [*SEEDS[name], *found(name)]:
        (corpus / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data[:LONGEST])
    dictionary = folder / "dictionary"
    escaped = ["".join(f"\\x{byte:02x}" for byte in word) for word in WORDS[name]]
    dictionary.write_text("".join(f'"{word}"\n' for word in escaped))
    options = {
        "max_total_time": max(1, round(seconds)),
        "max_len": LONGEST,
        "timeout": SLOWEST,
        "rss_limit_mb": MOST_MEMORY,
        "dict": dictionary,
        "artifact_prefix": f"{folder}/",
        "seed": seed,
        "print_final_stats": 1,
    }
    atheris.Setup(["fuzz", *(f"-{key}={value}" for key, value in options.items()), str(corpus)], TARGETS[name])
    atheris.Fuzz()


def run_blindly(name: str, folder: Path, seconds: float, seed: int) -> None:
    """Mutated seeds, until the time is over; ends the process."""
    from tests.fuzz.targets import SEEDS, TARGETS, WORDS, found, mutate

    chosen = random.Random(seed or None)
    seeds = [*SEEDS[name], *found(name)]
    until, count = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        data = mutate(chosen.choice(seeds), WORDS[name], chosen)
        count += 1
        try:
            TARGETS[name](data)
        except BaseException:
            place = folder / f"crash-{hashlib.sha1(data, usedforsecurity=False).hexdigest()}"
            place.write_bytes(data)
            print(f"{data!r}\nis in {place}", flush=True)
            raise
    print(f"stat::number_of_executed_units: {count}", flush=True)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
