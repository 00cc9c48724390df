"""What programs do: those that fetch files, those that fetch packages."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.real_clients.trial import Place, Trial, digest, must_be_equal, run_program, tree_digests

BIG = "big.bin"
HALF = 12_345_678


def version_of(*command: str) -> Callable[[], str | None]:
    """Asks the program; None if there is none."""

    def ask() -> str | None:
        if shutil.which(command[0]) is None:
            return None
        said = subprocess.run(command, capture_output=True, timeout=20, stdin=subprocess.DEVNULL).stdout.decode()
        found = re.search(r"\d+(\.\d+)+[\w.+-]*", said)
        return found[0] if found else "?"

    return ask


def begun(place: Place) -> Path:
    """A copy of the big file that was broken off."""
    part = place.scratch / BIG
    part.write_bytes((place.site / BIG).read_bytes()[:HALF])
    return part


def curl_fetches(place: Place) -> None:
    run_program("curl", "-qsSf", "-O", place.url + BIG, cwd=place.scratch)
    must_be_equal(BIG, digest(place.scratch / BIG), digest(place.site / BIG))


def curl_resumes(place: Place) -> None:
    part = begun(place)
    run_program("curl", "-qsSf", "-C", "-", "-O", place.url + BIG, cwd=place.scratch)
    must_be_equal(BIG, digest(part), digest(place.site / BIG))


def curl_asks_for_ranges(place: Place) -> None:
    content = (place.site / BIG).read_bytes()
    for asked, wanted in (("0-0", content[:1]), ("1000-1999", content[1000:2000]), ("-500", content[-500:])):
        run_program("curl", "-qsSf", "-r", asked, "-o", "part", place.url + BIG, cwd=place.scratch)
        must_be_equal(asked, (place.scratch / "part").read_bytes(), wanted)
    run_program("curl", "-qsSf", "-r", "0-9,5000-5009", "-o", "parts", place.url + BIG, cwd=place.scratch)
    several = re.findall(rb"\r\n\r\n(.*?)\r\n--", (place.scratch / "parts").read_bytes(), re.DOTALL)
    must_be_equal("several ranges", several, [content[:10], content[5000:5010]])


def curl_fetches_again_only_if_changed(place: Place) -> None:
    fetch = ("curl", "-qsSf", "--etag-save", "tag", "--etag-compare", "tag", "-w", "%{http_code}", "-o", "again")
    must_be_equal("first", run_program(*fetch, place.url + BIG, cwd=place.scratch), "200")
    must_be_equal("second", run_program(*fetch, place.url + BIG, cwd=place.scratch), "304")
    must_be_equal(BIG, digest(place.scratch / "again"), digest(place.site / BIG))


def wget_mirrors(place: Place) -> None:
    options = (
        "--no-config",
        "-q",
        "-m",
        "-np",
        "-nH",
        "--restrict-file-names=nocontrol",
        "-e",
        "robots=off",
        "-R",
        "index.html*",
    )
    run_program("wget", "--no-config", *options, place.url + "tree/", cwd=place.scratch)
    must_be_equal("the tree", tree_digests(place.scratch / "tree"), tree_digests(place.site / "tree"))


def wget_resumes(place: Place) -> None:
    part = begun(place)
    run_program("wget", "--no-config", "-q", "-c", place.url + BIG, cwd=place.scratch)
    must_be_equal(BIG, digest(part), digest(place.site / BIG))


def aria2c_fetches_in_parallel(place: Place) -> None:
    options = ("--no-conf", "-q", "-x8", "-s8", "-k1M", "--file-allocation=none", "--async-dns=false")
    run_program("aria2c", *options, place.url + BIG, cwd=place.scratch)
    must_be_equal(BIG, digest(place.scratch / BIG), digest(place.site / BIG))


def ffprobe_seeks(place: Place) -> None:
    """Two seconds at three places, in any order, with the SHA-256 of each packet: from the server as from the file."""
    options = ("-v", "error", "-read_intervals", "50%+2,10%+2,30%+2", "-show_data_hash", "sha256", "-of", "csv")
    seen = [
        run_program("ffprobe", *options, "-show_packets", source, cwd=place.scratch)
        for source in (place.url + "film.mp4", str(place.site / "film.mp4"))
    ]
    must_be_equal("there are packets", "SHA256:" in seen[1], True)
    must_be_equal("packets", seen[0], seen[1])


def ffmpeg_reads_the_film(place: Place) -> None:
    options = ("-c", "copy", "-f", "hash", "-hash", "sha256", "-")
    seen = [
        run_program("ffmpeg", "-v", "error", "-nostdin", "-ss", "31", "-i", source, *options, cwd=place.scratch)
        for source in (place.url + "film.mp4", str(place.site / "film.mp4"))
    ]
    must_be_equal("there is a hash", seen[1].startswith("SHA256="), True)
    must_be_equal("the film", seen[0], seen[1])


def pip_downloads(place: Place) -> None:
    pip = (sys.executable, "-m", "pip", "--isolated", "--no-cache-dir", "--disable-pip-version-check")
    run_program(*pip, "download", "-q", "--no-index", "--find-links", place.url + "wheels/", "tiny", cwd=place.scratch)
    name = "tiny-1.0-py3-none-any.whl"
    must_be_equal(name, digest(place.scratch / name), digest(place.site / "wheels" / name))


def git_clones(place: Place) -> None:
    run_program("git", "clone", "-q", place.url + "repo.git", "clone", cwd=place.scratch)
    clone = place.scratch / "clone"
    run_program("git", "fsck", "--full", "--strict", cwd=clone)
    heads = [run_program("git", "rev-parse", "main", cwd=folder) for folder in (clone, place.site / "repo.git")]
    must_be_equal("the commit", heads[0], heads[1])
    must_be_equal("the files", len(list(clone.glob("file-*"))), 21)


def apt_asks_with_a_dot(place: Place) -> None:
    apt_updates_and_downloads(place, f"{place.url}apt ./")


def apt_asks_with_a_slash(place: Place) -> None:
    apt_updates_and_downloads(place, f"{place.url}apt /")


def apt_updates_and_downloads(place: Place, source: str) -> None:
    """The second update finds nothing new."""
    here = place.scratch
    for folder in ("state/lists/partial", "cache/archives/partial", "etc/parts"):
        (here / folder).mkdir(parents=True)
    (here / "status").touch()
    (here / "etc" / "sources.list").write_text(f"deb [trusted=yes] {source}\n", encoding="utf-8")
    settings = {
        "Dir::State": here / "state",
        "Dir::State::status": here / "status",
        "Dir::Cache": here / "cache",
        "Dir::Etc::sourcelist": here / "etc" / "sources.list",
        "Dir::Etc::sourceparts": here / "etc" / "parts",
        "Acquire::http::Proxy": "DIRECT",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "",
        "APT::Update::Error-Mode": "any",
    }
    apt = ["apt-get", "-q", *(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))]
    run_program(*apt, "update", cwd=here)
    run_program(*apt, "update", cwd=here)
    run_program(*apt, "download", "ktrio-tiny", cwd=here)
    name = "ktrio-tiny_1.0_all.deb"
    must_be_equal(name, digest(here / name), digest(place.site / "apt" / name))


FETCH = """
const { createHash } = require('node:crypto');
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');
const bytes = async (answer) => Buffer.from(await answer.arrayBuffer());
const get = (from, to) => fetch(process.argv[1], { headers: { Range: `bytes=${from}-${to}` } });
(async () => {
  const whole = await bytes(await fetch(process.argv[1]));
  const step = 4 << 20, starts = [...Array(Math.ceil(whole.length / step)).keys()].map((n) => n * step);
  const parts = await Promise.all(starts.map(async (from) => bytes(await get(from, from + step - 1))));
  console.log(sha256(whole), sha256(Buffer.concat(parts)));
})();
"""


def node_fetches(place: Place) -> None:
    said = run_program("node", "-e", FETCH, place.url + BIG, cwd=place.scratch)
    must_be_equal(BIG, said.split(), [digest(place.site / BIG)] * 2)


CURL = version_of("curl", "--version")
WGET = version_of("wget", "--version")
APT = version_of("apt-get", "--version")
PIP = version_of(sys.executable, "-m", "pip", "--version")

TRIALS = [
    Trial("curl", "fetched 32 MiB", CURL, curl_fetches),
    Trial("curl", "resumed a broken-off fetch (`-C -`)", CURL, curl_resumes, partial=True),
    Trial("curl", "asked for ranges, single ones and two at once (`-r`)", CURL, curl_asks_for_ranges, partial=True),
    Trial("curl", "fetched again only if changed (`--etag-compare`)", CURL, curl_fetches_again_only_if_changed),
    Trial("wget", "mirrored a tree by its listings, with names that need escapes (`-m`)", WGET, wget_mirrors),
    Trial("wget", "resumed a broken-off fetch (`-c`)", WGET, wget_resumes, partial=True),
    Trial(
        "aria2c",
        "fetched 32 MiB by eight connections (`-x8 -s8`)",
        version_of("aria2c", "--version"),
        aria2c_fetches_in_parallel,
        partial=True,
    ),
    Trial(
        "ffprobe",
        "sought to three places of a film, whose index is at its end",
        version_of("ffprobe", "-version"),
        ffprobe_seeks,
        programs=("ffmpeg",),
        partial=True,
    ),
    Trial(
        "ffmpeg",
        "read that film from its middle to its end",
        version_of("ffmpeg", "-version"),
        ffmpeg_reads_the_film,
        partial=True,
    ),
    Trial("pip", "found a wheel in a listing and fetched it (`download --find-links`)", PIP, pip_downloads),
    Trial("git", "cloned a bare repository, packed and loose (dumb HTTP)", version_of("git", "--version"), git_clones),
    Trial(
        "apt-get",
        "took a folder for a flat repository, `deb URL ./`: `update`, twice, and `download`",
        APT,
        apt_asks_with_a_dot,
        programs=("dpkg-deb",),
        known="apt asks for `/apt/./Packages`, and a path with a dot segment is refused; write `deb URL /`",
    ),
    Trial(
        "apt-get",
        "the same, `deb URL /`, and no `./` in `Filename`",
        APT,
        apt_asks_with_a_slash,
        programs=("dpkg-deb",),
    ),
    Trial(
        "node",
        "`fetch`: 32 MiB at once, and in eight ranges side by side",
        version_of("node", "--version"),
        node_fetches,
        partial=True,
    ),
]
