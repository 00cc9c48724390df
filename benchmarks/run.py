"""Measure ktrio beside other servers: ``make bench``, or ``.venv/bin/python benchmarks/run.py --help``.

Every server runs on one core and the load on the others. Servers take turns, round by round, so that a busy minute of
the machine falls on all of them. What is compared is the server's CPU time per request. See README.md here.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import latency
import questions
import queue_latency
from measure import Cores, StartError, on, raise_open_file_limit, split_cores
from peers import PEERS, SUBJECT, Peer, versions
from report import render, summary

HERE = Path(__file__).parent
BIG_FILE_BYTES = 1_000_000_000
ALL = (*(question.key for question in questions.QUESTIONS), "workqueue", "queue-latency", "latency")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Measure ktrio beside other servers.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often every server has its turn")
    parser.add_argument("--seconds", type=int, default=2, help="of load, for each server in each round")
    parser.add_argument("--repetitions", type=int, default=10, help="newcomers for each latency promise")
    parser.add_argument("--only", nargs="+", choices=ALL, default=list(ALL), metavar="QUESTION", help=" ".join(ALL))
    names = [peer.name for peer in PEERS if peer.name != SUBJECT]
    parser.add_argument("--peers", nargs="*", choices=names, default=names, metavar="PEER", help=" ".join(names))
    parser.add_argument("--own-load", action="store_true", help="do not use wrk and ab even if they are there")
    parser.add_argument("--out", type=Path, help="where the JSON goes (a new file in benchmarks/results/local)")
    parser.add_argument("--show", type=Path, metavar="FILE", help="show an earlier result and measure nothing")
    given = parser.parse_args()
    for name in ("rounds", "seconds", "repetitions"):
        if not 1 <= getattr(given, name) <= 1000:
            parser.error(f"--{name} must be from 1 to 1000")
    return given


def make_site(folder: Path) -> Path:
    """What is served; readable for nginx's worker, which is somebody else when root starts it."""
    folder.chmod(0o755)
    site = folder / "site"
    site.mkdir()
    (site / questions.FILE).write_bytes(questions.BODY)
    with (site / "big.bin").open("wb") as file:
        file.truncate(BIG_FILE_BYTES)  # sparse: takes no room
    # A file changed less than two seconds ago is served with more care; that is not what is asked about.
    os.utime(site / questions.FILE, (0, 0))
    return site


def measure_http(given: argparse.Namespace, cores: Cores, site: Path, scratch: Path) -> dict[str, dict[str, object]]:
    wanted = [question for question in questions.QUESTIONS if question.key in given.only]
    chosen: tuple[Peer, ...] = tuple(peer for peer in PEERS if peer.name == SUBJECT or peer.name in given.peers)
    found: dict[str, dict[str, object]] = {}
    if not wanted:
        return found
    with contextlib.ExitStack() as stack:
        servers, skipped = questions.start_all(stack, chosen, cores, site, scratch)
        for question in wanted:
            found[question.key] = questions.measure(
                question,
                servers,
                rounds=given.rounds,
                seconds=given.seconds,
                own=given.own_load,
                cores=cores,
                scratch=scratch,
            )
            found[question.key]["skipped"] = skipped
    return found


def measure_workqueue(given: argparse.Namespace, cores: Cores) -> dict[str, object]:
    items, items_shown = run_beside("workqueue.py", given, cores)
    costs, costs_shown = run_beside("workqueue_costs.py", given, cores)
    skipped = (
        {} if importlib.util.find_spec("aiojobs") else {"aiojobs": "the module is not installed (make bench does)"}
    )
    return {
        "question": "queueing and running an item that does nothing: bursts of 50; and one item per turn of the loop",
        "command": f"{items_shown}; {costs_shown}",
        "against": ["start_soon", "create_task"],
        "samples": items,
        "costs": costs,
        "skipped": skipped,
    }


def run_beside(script: str, given: argparse.Namespace, cores: Cores) -> tuple[object, str]:
    """The samples that a script here prints, run on the server's core, and what it was run as."""
    command = [str(HERE / script), "--rounds", str(given.rounds)]
    shown = " ".join(["python", script, *command[1:]])
    print(f"  {shown}", flush=True)
    with on(cores.server):
        done = subprocess.run([sys.executable, *command], stdout=subprocess.PIPE, text=True, check=True, timeout=1800)
    return json.loads(done.stdout), shown


def measure_queue_latency(given: argparse.Namespace, cores: Cores) -> dict[str, object]:
    samples, shown = run_beside("queue_latency.py", given, cores)
    return {
        "question": "how long short items take while heavy ones compute",
        "command": shown,
        "width": queue_latency.WIDTH,
        "against": ["nursery", "limiter", "two limiters"],
        "loads": {load.key: asdict(load) for load in queue_latency.LOADS},
        "ways": queue_latency.TEXTS,
        "samples": samples,
        "skipped": {},
    }


def measure_latency(given: argparse.Namespace, cores: Cores, site: Path, open_files: int) -> dict[str, object]:
    kept, skipped = latency.measure_all(site, cores, given.repetitions, open_files)
    return {"question": "how long one more request takes beside a crowd", "promises": kept, "skipped": skipped}


# -- the machine


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def stolen_and_all() -> tuple[int, int]:
    """Ticks that the hypervisor gave to others, and all ticks, since boot."""
    fields = list(map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]))
    return fields[7], sum(fields)


def commit() -> str:
    """Which sources these are; ``-dirty`` if they are changed."""
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def measure(given: argparse.Namespace) -> dict[str, object]:
    """Everything asked for, with what is needed to judge it."""
    cores = split_cores()
    open_files = raise_open_file_limit()
    began, measured = datetime.datetime.now(datetime.UTC), commit()  # the checkout may move on meanwhile
    load_before, (stolen_before, all_before) = os.getloadavg(), stolen_and_all()
    found: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory(prefix="ktrio-bench-") as name:
        scratch = Path(name)
        site = make_site(scratch)
        found |= measure_http(given, cores, site, scratch)
        if "workqueue" in given.only:
            found["workqueue"] = measure_workqueue(given, cores)
        if "queue-latency" in given.only:
            found["queue-latency"] = measure_queue_latency(given, cores)
        if "latency" in given.only:
            found["latency"] = measure_latency(given, cores, site, open_files)
    stolen, everything = stolen_and_all()
    result: dict[str, object] = {
        "format": 1,
        "taken": began.isoformat(timespec="seconds"),
        "took_seconds": round((datetime.datetime.now(datetime.UTC) - began).total_seconds(), 1),
        "commit": measured,
        "settings": {"rounds": given.rounds, "seconds": given.seconds, "repetitions": given.repetitions},
        "machine": {
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "server_cores": sorted(cores.server),
            "load_cores": sorted(cores.load),
            "cores_apart": cores.apart,
            "kernel": platform.release(),
            "python": platform.python_version(),
            "open_files": open_files,
            "load_average_before": load_before,
            "load_average_after": os.getloadavg(),
            "stolen": (stolen - stolen_before) / max(1, everything - all_before),
        },
        "versions": versions(),
        "peers": {peer.name: {"does": peer.does, "command": " ".join(peer.command)} for peer in PEERS},
        "questions": found,
    }
    result["ratios"] = summary(result)
    return result


def write(result: dict[str, object], out: Path | None) -> Path:
    """Results are never edited, and never overwritten by accident."""
    if out is None:
        now = datetime.datetime.now(datetime.UTC)
        out = HERE / "results" / "local" / f"{now:%Y%m%d-%H%M%S}.json"
        out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    return out


def main() -> int:
    given = parse_arguments()
    if given.show:
        print(render(json.loads(given.show.read_text())))
        return 0
    if not Path("/proc/self/stat").exists() or not hasattr(os, "sched_setaffinity"):
        print("benchmarks need Linux: /proc tells what a server costs", file=sys.stderr)
        return 2
    if given.out and given.out.exists():
        print(f"{given.out} exists; a result is never overwritten", file=sys.stderr)
        return 2
    # So that a SIGTERM, too, leaves through every `finally` and no server stays behind.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    print("measuring (servers take turns; a quiet machine tells more):", flush=True)
    try:
        result = measure(given)
    except KeyboardInterrupt:
        print("interrupted: nothing is kept", file=sys.stderr)
        return 130
    except StartError as error:
        print(f"{error.said}\n{error}", file=sys.stderr)
        return 1
    out = write(result, given.out)
    print()
    print(render(result))
    print(f"\nraw result: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
