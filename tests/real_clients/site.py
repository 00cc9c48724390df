"""The folder that is served: files, a film, a wheel, a repository of git, one of apt. Made without a network."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import random
import shutil
import time
import zipfile
from pathlib import Path

from tests.real_clients.trial import digest, run_program

# No two hexadecimal digits behind the per cent sign: wget decodes twice when it names the file.
NAMES = ("plain.txt", "with space.txt", "100%.txt", "número.txt", "question?.txt", "hash#.txt", "empty.txt")
OLD = 3600  # seconds. A file changed less than 2 s ago has a weak ETag, by which no client resumes.


def make_site(site: Path, workshop: Path) -> None:
    """All of it. What needs a program that is not installed is left out."""
    randomness = random.Random(7)
    (site / "big.bin").write_bytes(randomness.randbytes(32 << 20))
    make_tree(site / "tree", randomness)
    make_wheel(site / "wheels")
    if shutil.which("git"):
        make_git_repository(site / "repo.git", workshop / "work", randomness)
    if shutil.which("dpkg-deb"):
        make_apt_repository(site / "apt", workshop / "package")
    if shutil.which("ffmpeg"):
        make_film(site / "film.mp4", workshop)
    then = time.time() - OLD
    for path in site.rglob("*"):
        os.utime(path, (then, then))


def make_tree(tree: Path, randomness: random.Random) -> None:
    """Folders in folders, names that need escapes, an empty file."""
    for folder in (tree, tree / "below", tree / "below" / "more & more"):
        folder.mkdir(parents=True)
        for name in NAMES:
            (folder / name).write_bytes(b"" if name == "empty.txt" else randomness.randbytes(5000))


def make_wheel(wheels: Path) -> None:
    """``tiny`` 1.0, a wheel being a zip with a record."""
    wheels.mkdir()
    files = {
        "tiny.py": b"SIZE = 'tiny'\n",
        "tiny-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        "tiny-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: ktrio\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},sha256={urlsafe(content)},{len(content)}\n" for name, content in files.items())
    files["tiny-1.0.dist-info/RECORD"] = (record + "tiny-1.0.dist-info/RECORD,,\n").encode()
    with zipfile.ZipFile(wheels / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)


def urlsafe(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def make_git_repository(bare: Path, work: Path, randomness: random.Random) -> None:
    """A pack of twenty commits, and loose objects of one more: dumb HTTP fetches them differently."""
    work.mkdir()
    git = ("git", "-c", "user.name=ktrio", "-c", "user.email=ktrio@example.org")
    run_program(*git, "init", "-q", "-b", "main", cwd=work)
    for number in range(21):
        (work / f"file-{number}").write_bytes(randomness.randbytes(20_000))
        run_program(*git, "add", ".", cwd=work)
        run_program(*git, "commit", "-q", "-m", f"commit {number}", cwd=work)
        if number == 19:
            run_program(*git, "clone", "-q", "--bare", "--no-local", work, bare, cwd=work)
            run_program(*git, "repack", "-adq", cwd=bare)
    run_program(*git, "push", "-q", bare, "main", cwd=work)
    run_program(*git, "update-server-info", cwd=bare)


def make_apt_repository(apt: Path, package: Path) -> None:
    """A flat one: a package, and the list of it written by hand."""
    apt.mkdir()
    control = "Package: ktrio-tiny\nVersion: 1.0\nArchitecture: all\nMaintainer: ktrio <ktrio@example.org>\n"
    described = "Description: a tiny package\n"
    (package / "DEBIAN").mkdir(parents=True)
    (package / "DEBIAN" / "control").write_text(control + described, encoding="utf-8")
    (package / "usr" / "share" / "ktrio-tiny").mkdir(parents=True)
    (package / "usr" / "share" / "ktrio-tiny" / "data").write_bytes(random.Random(8).randbytes(100_000))
    deb = apt / "ktrio-tiny_1.0_all.deb"
    run_program("dpkg-deb", "--root-owner-group", "-b", package, deb, cwd=package)
    where = f"Filename: {deb.name}\nSize: {deb.stat().st_size}\nSHA256: {digest(deb)}\n"
    packages = (control + where + described).encode()
    (apt / "Packages").write_bytes(packages)
    (apt / "Packages.gz").write_bytes(gzip.compress(packages, mtime=0))


def make_film(film: Path, workshop: Path) -> None:
    """A minute; its index stands at the end of the file, so that a player has to seek."""
    source = "testsrc2=size=640x360:rate=25:duration=60"
    coded = ("-c:v", "mpeg4", "-b:v", "4M", "-g", "25", "-movflags", "-faststart")
    run_program("ffmpeg", "-v", "error", "-nostdin", "-f", "lavfi", "-i", source, *coded, film, cwd=workshop)
