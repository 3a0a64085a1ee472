#!/usr/bin/env python3
"""Runs a command with another tch of the supported range, and the libtorch that it is written for:

    scripts/with_tch.py 0.24 make test

`make test TCH=0.24` is the same. The command runs in target/tch-0.24/tree, a copy of the working tree
(all files that git does not ignore) with a lock file and a target folder of its own, so that neither
pair builds the other's tch again. Only the versions of tch and torch-sys differ from this lock file.
Downloads (.libtorch, .minilm) are shared. A libtorch of your own (LIBTORCH) is of one version, and so
not taken here. The copy is no checkout: what asks git does not work in it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from libtorch import LIBTORCH_OF_TCH, ROOT

SHARED = [".libtorch", ".minilm"]
# What a make or a cargo above has set, or a person for the other pair.
INHERITED = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "TCH", "LIBTORCH", "LIBTORCH_LIB",
             "LIBTORCH_INCLUDE", "LIBTORCH_USE_PYTORCH")


def fail(message):
    sys.exit(f"with_tch: {message}")


def copy_tree(tree):
    """Makes `tree` a copy of the working tree; files that have not changed keep their times."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, stdout=subprocess.PIPE,
    ).stdout
    names = [name for name in os.fsdecode(listed).split("\0") if name and (ROOT / name).is_file()]
    own, known = ("target", ".cargo", *SHARED), set(names)
    for top in [top for top in tree.iterdir() if top.name not in own]:
        for path in [top] if top.is_file() else [path for path in top.rglob("*") if path.is_file()]:
            if str(path.relative_to(tree)) not in known:
                path.unlink()
    for name in names:
        source, copy = ROOT / name, tree / name
        if name == "Cargo.lock" or (copy.exists() and copy.read_bytes() == source.read_bytes()):
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, copy)


def lock(tree, tch):
    """This lock file with another tch."""
    ours, theirs = ROOT / "Cargo.lock", tree / "Cargo.lock"
    made_of = tree / "target" / "locked-from"
    if theirs.exists() and made_of.exists() and made_of.read_bytes() == ours.read_bytes():
        return
    shutil.copy(ours, theirs)
    for package in ("tch", "torch-sys"):
        command = ["cargo", "update", "--quiet", package, "--precise", f"{tch}.0"]
        if subprocess.run(command, cwd=tree).returncode != 0:
            fail(f"cargo could not lock {package} {tch}.0 (its message is above)")
    made_of.parent.mkdir(exist_ok=True)
    shutil.copy(ours, made_of)


def config_of(tree):
    """What libtorch.py has told cargo there."""
    path = tree / ".cargo" / "config.toml"
    return path.read_text() if path.exists() else ""


def environment(tree):
    """What cargo is to see there, and nothing of a make or a cargo above."""
    made = {key: value for key, value in os.environ.items() if key not in INHERITED}
    # Wins over whatever a configuration of cargo says.
    made["CARGO_TARGET_DIR"] = str(tree / "target")
    # Cargo adds the flags of this project's .cargo/config.toml to those of the copy, which lies within
    # it; documentation tests would then find this project's libtorch first.
    found = re.search(r"^rustdocflags = (\[.*\])$", config_of(tree), re.MULTILINE)
    if found:
        made["CARGO_ENCODED_RUSTDOCFLAGS"] = "\x1f".join(json.loads(found[1]))
    return made


def main():
    if len(sys.argv) < 3 or sys.argv[1] not in LIBTORCH_OF_TCH:
        fail(f"usage: scripts/with_tch.py {'|'.join(LIBTORCH_OF_TCH)} COMMAND...")
    tch, *command = sys.argv[1:]
    tree = ROOT / "target" / f"tch-{tch}" / "tree"
    tree.mkdir(parents=True, exist_ok=True)
    (ROOT / ".libtorch").mkdir(exist_ok=True)
    if "LIBTORCH_USE_PYTORCH" in config_of(ROOT):
        fail(f"{ROOT / '.cargo' / 'config.toml'} takes libtorch from Python, and the copy within this "
             "folder would too; run `make libtorch` without LIBTORCH_USE_PYTORCH first")
    for name in SHARED:
        link = tree / name
        if link.is_symlink() and not link.exists():
            link.unlink()
        if (ROOT / name).exists() and not link.exists():
            link.symlink_to(Path(os.path.relpath(ROOT / name, tree)), target_is_directory=True)
    copy_tree(tree)
    lock(tree, tch)
    without = {key: value for key, value in os.environ.items() if key not in INHERITED}
    if subprocess.run([sys.executable, "scripts/libtorch.py"], cwd=tree, env=without).returncode != 0:
        fail("libtorch could not be set up (its message is above)")
    sys.exit(subprocess.run(command, cwd=tree, env=environment(tree)).returncode)


if __name__ == "__main__":
    main()
