"""`make dist`: the sdist and the wheel, the same bytes on every machine with the same setuptools.

What goes in is what git knows or does not ignore, never what lies about (an old egg-info adds its own list of files);
in an unpacked sdist, what it came with. Every time stamp is that of the last commit (which an sdist keeps), or
SOURCE_DATE_EPOCH where it is set; owners and modes are fixed.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Written by whoever packs, so that only an unpacked sdist has them.
PACKED, PACKED_LIST = ROOT / "PKG-INFO", ROOT / "flask_outmail.egg-info/SOURCES.txt"


def build(out: Path) -> tuple[Path, Path]:
    """Builds both into `out`, which may hold older ones, and returns their paths. Fetches setuptools by pip."""
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or _changed_at())
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        here = Path(temporary)
        _export(here / "tree")
        raw = _built("--sdist", here / "tree", here / "raw", epoch)
        sdist = out / raw.name
        _normalise(raw, sdist, epoch)
        with tarfile.open(sdist) as archive:
            archive.extractall(here / "sdist", filter="data")
        [tree] = (here / "sdist").iterdir()
        # From the sdist, so that both carry what is needed.
        made = _built("--wheel", tree, here / "wheel", epoch)
        return sdist, Path(shutil.copy(made, out))


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout  # noqa: S607


def _changed_at() -> str:
    return str(int(PACKED.stat().st_mtime)) if PACKED.exists() else _git("log", "-1", "--format=%ct")


def _names() -> list[str]:
    if PACKED.exists():
        names = PACKED_LIST.read_text().splitlines()
        return [name for name in names if not name.startswith(PACKED_LIST.parent.name)]
    return _git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")


def _export(to: Path) -> None:
    for name in _names():
        if name and (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, to / name)
            (to / name).chmod(0o644)


def _built(kind: str, tree: Path, out: Path, epoch: int) -> Path:
    command = [sys.executable, "-m", "build", kind, "--outdir", str(out), str(tree)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
    # The files that the build writes itself go into the wheel with the modes that the umask gives them.
    done = subprocess.run(command, env=environment, umask=0o022, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    [made] = out.iterdir()
    return made


def _normalise(raw: Path, to: Path, epoch: int) -> None:
    """The same files in the order of their names, with nothing of the machine that packed them."""
    with (
        tarfile.open(raw) as old,
        to.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=epoch) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda one: one.name):
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mtime = epoch
            member.mode = 0o755 if member.isdir() else 0o644
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)


if __name__ == "__main__":
    for path in build(Path(sys.argv[1])):
        print(path)
