"""`make gpu-bundle`: what scripts/gpu_check.sh needs on a machine without Rust, in target/gpu-check.

Programs are built with the tch whose libtorch is that of the torch to be found there, and stripped.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from libtorch import LIBTORCH_OF_TCH  # noqa: E402

TCH = "0.24"
MADE, PART = ROOT / "target" / "gpu-check", ROOT / "target" / "gpu-check.part"
LIMIT = 60e6
SCRIPTS = ["gpu_check.sh", *(f"gpu_check/{name}.py" for name in
                             ("check", "contender", "loops", "qwen2", "training"))]
# Those that tests/cuda.rs reads.
MODELS = ["bert", "roberta", "distilbert", "gpt2", "llama", "mistral", "qwen2", "qwen3"]
BUILDS = [["bench", "--bench", "rank_loss", "--bench", "peers"], ["test", "--release", "--test", "cuda"]]


def build():
    """Programs by their names."""
    found = {}
    for kind in BUILDS:
        command = [sys.executable, ROOT / "scripts" / "with_tch.py", TCH, "cargo", *kind, "--locked",
                   "--no-run", "--message-format=json-render-diagnostics"]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        for line in said.splitlines():
            message = json.loads(line) if line.startswith("{") else {}
            if message.get("executable"):
                found[message["target"]["name"]] = Path(message["executable"])
    return found


def newest(programs, name):
    """The newest version of a system library's symbols that programs ask for."""
    found = set()
    for program in programs:
        found |= set(re.findall(name + rb"_(\d+(?:\.\d+)+)\0", program.read_bytes()))
    return max((version.decode() for version in found),
               key=lambda version: [int(part) for part in version.split(".")], default=None)


def commit():
    def said(*arguments):
        return subprocess.run(["git", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout

    changed = said("status", "--porcelain", "--untracked-files=no").strip()
    return said("rev-parse", "HEAD").strip() + (" and changes" if changed else "")


def main():
    built = build()
    shutil.rmtree(PART, ignore_errors=True)
    (PART / "programs").mkdir(parents=True)
    for name, program in built.items():
        copy = shutil.copy(program, PART / "programs" / name)
        subprocess.run(["strip", copy], check=True)
    for name in SCRIPTS:
        (PART / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / "scripts" / name, PART / name)
    for name in MODELS:
        shutil.copytree(ROOT / "tests/fixtures/models" / name, PART / "tests/fixtures/models" / name)
    programs = list((PART / "programs").iterdir())
    about = {"commit": commit(), "tch": TCH, "libtorch": LIBTORCH_OF_TCH[TCH],
             "glibc": newest(programs, b"GLIBC"), "libstdc++": newest(programs, b"GLIBCXX")}
    (PART / "bundle.json").write_text(json.dumps(about, indent=1) + "\n")
    size = sum(path.stat().st_size for path in PART.rglob("*") if path.is_file())
    if size >= LIMIT:
        sys.exit(f"gpu-bundle: {size / 1e6:.1f} MB, and is to stay under {LIMIT / 1e6:.0f}")
    shutil.rmtree(MADE, ignore_errors=True)
    PART.rename(MADE)
    print(f"{MADE.relative_to(ROOT)}: {size / 1e6:.1f} MB, {about}\n"
          f"copy it to a machine with a GPU and torch {about['libtorch']}, and run gpu_check.sh in it")


if __name__ == "__main__":
    main()
