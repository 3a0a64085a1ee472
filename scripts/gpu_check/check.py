"""The steps of `scripts/gpu_check.sh`: tests, the loss, training steps beside two PyTorch loops.

Each has a time limit and gives an outcome. One that fails does not keep later ones from running, and
the file of results is written after each.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

import torch
from contender import Failed, end_of, text
from training import Training

HERE = Path(__file__).resolve().parent
# Of a bundle, or of a checkout.
HOME = HERE.parent if (HERE.parent / "bundle.json").exists() else HERE.parent.parent
BUNDLE = json.loads((HOME / "bundle.json").read_text()) if (HOME / "bundle.json").exists() else None

# Seconds in all, and of a single step.
WHOLE = 450
LIMITS = {"cuda_tests": 130, "rank_loss": 70, "training": 250}
DRY_WHOLE = 120

# Of the loss in f32 and its gradient, by the size of the value and of the largest number.
LOSS_TOLERANCE = 1e-5


class Check:
    """One run of all steps."""

    def __init__(self, dry, threads):
        self.dry, self.threads = dry, threads
        self.device = "cpu" if dry else "cuda"
        self.deadline = time.monotonic() + (DRY_WHOLE if dry else WHOLE)
        # Programs of a bundle find libtorch in this Python's torch; cargo's know where theirs is.
        self.environment = os.environ | {"OMP_NUM_THREADS": str(threads), "RUST_BACKTRACE": "0"}
        if BUNDLE:
            folders = [str(Path(torch.__file__).parent / "lib"), os.environ.get("LD_LIBRARY_PATH")]
            self.environment["LD_LIBRARY_PATH"] = ":".join(filter(None, folders))

    def left(self, limit):
        """Seconds of a step that has so many, if the whole has them."""
        left = min(limit, self.deadline - time.monotonic())
        if left <= 0:
            raise Failed("no time left")
        return left

    def run(self, command, limit, **environment):
        """What a program prints, if it ends well and in time."""
        try:
            done = subprocess.run(command, cwd=HOME, env=self.environment | environment,
                                  capture_output=True, text=True, timeout=self.left(limit))
        except subprocess.TimeoutExpired as late:
            log = text(late.stdout) + text(late.stderr)
            raise Failed(f"not done after {late.timeout:.0f} s: {end_of(log)}") from None
        except OSError as error:
            raise Failed(str(error)) from None
        if done.returncode != 0:
            raise Failed(f"ended with {done.returncode}: {end_of(done.stdout + done.stderr)}")
        return done.stdout + done.stderr

    # Step 1.

    def cuda_tests(self, program, limit):
        asked = {} if self.dry else {"REWARD_MODEL_CUDA": "1"}
        said = self.run([program, "--nocapture"], limit, **asked)
        skipped = re.search(r"skipped: (.*)", said)
        return {"outcome": "skipped", "why": skipped[1]} if skipped else {"outcome": "passed"}

    # Step 2.

    def rank_loss(self, program, limit):
        """Value, gradient and time of the loss on each device, the former against f64 on a CPU."""
        seconds = "1" if self.dry else "4"
        found = {"outcome": "passed", "tolerance": LOSS_TOLERANCE, "rows": {}}
        start = time.monotonic()
        for device in dict.fromkeys(["cpu", self.device]):
            said = self.run([program, "--json", "--device", device, "--seconds", seconds, "--threads",
                             str(self.threads)], limit - (time.monotonic() - start))
            found["rows"][device] = [json.loads(line) for line in said.splitlines()
                                     if line.startswith("{")]
            for row in found["rows"][device]:
                ours = row["name"] in ("rank_loss", "fused(false)")
                if ours and not max(row["value_apart"], row["gradient_apart"]) <= LOSS_TOLERANCE:
                    found |= {"outcome": "failed", "error": f"{device} is not f64 on a CPU: {row}"}
        return found

    # Steps 3 to 5.

    def training(self, program, limit):
        return Training(self.dry, self.threads, self.environment).run(program, self.left(limit))


def programs():
    """Our programs by the step that runs them: beside this script, or built."""
    if BUNDLE:
        return {step: HOME / "programs" / name for step, name in PROGRAMS.items()}
    cargo, found = os.environ.get("CARGO", "cargo"), {}
    for kind in (["bench", "--bench", "rank_loss", "--bench", "peers"],
                 ["test", "--release", "--test", "cuda"]):
        command = [cargo, *kind, "--locked", "--no-run", "--message-format=json-render-diagnostics"]
        said = subprocess.run(command, cwd=HOME, check=True, stdout=subprocess.PIPE, text=True).stdout
        for message in map(json.loads, said.splitlines()):
            if message.get("executable"):
                found[message["target"]["name"]] = message["executable"]
    return {step: found[name] for step, name in PROGRAMS.items()}


PROGRAMS = {"cuda_tests": "cuda", "rank_loss": "rank_loss", "training": "peers"}


def about(dry):
    """Where this runs."""
    found = {"dry_run": dry, "torch": torch.__version__, "python": platform.python_version(),
             "glibc": platform.libc_ver()[1], "cores": os.cpu_count(), "bundle": BUNDLE}
    if dry:
        return found | {"device": "cpu"}
    query = "--query-gpu=driver_version,power.limit,clocks.max.sm,clocks.max.mem"
    try:
        driver = subprocess.run(["nvidia-smi", query, "--format=csv,noheader"], capture_output=True,
                                text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        driver = None
    name, total = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory
    return found | {"device": name, "device_bytes": total, "cuda": torch.version.cuda,
                    "nvidia_smi": driver}


def summary(results):
    """What a person wants to see of them."""
    for step, found in results["steps"].items():
        print(f"{step}: {found['outcome']}, {found['seconds']:.0f} s"
              + "".join(f"; {found[key]}" for key in ("why", "error") if key in found))
    rows = results["steps"].get("rank_loss", {}).get("rows", {})
    for device, cases in rows.items():
        for row in cases:
            print(f"  {device:4} {row['lists']:5} lists of {row['len']:4}  {row['name']:12} "
                  f"{row['both_us']:10.1f} us, value {row['value_apart']:.1e} and gradient "
                  f"{row['gradient_apart']:.1e} from f64 on a CPU")
    training = results["steps"].get("training", {})
    for name, row in training.get("contenders", {}).items():
        if "share" in row:
            held = row.get("gpu_bytes") or row.get("resident_bytes") or 0
            peak = row.get("peak_allocated_bytes")
            print(f"  {name:7} {row['lists_per_second']:8.2f} lists/s, "
                  f"{row['tokens_per_second']:9.0f} tokens/s, share {row['share']:.2f}, "
                  f"{held / 2**20:.0f} MiB held"
                  + (f" ({peak / 2**20:.0f} MiB allocated at the most)" if peak else "")
                  + (f", ours {row['ours_is_faster_by']:.2f} times as fast" if name != "ours"
                     and "ours_is_faster_by" in row else "")
                  + (f"; {row['attention']}" if "attention" in row else ""))
    print(f"{results['seconds']:.0f} s in all")


def main():
    parser = argparse.ArgumentParser(prog="gpu_check.sh", description=__doc__.splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="in small, in f32, on a CPU")
    parser.add_argument("--output", type=Path, default=Path("gpu_check.json"),
                        help="the results [default: gpu_check.json]")
    parser.add_argument("--threads", type=int, help="[default: 8, and 1 with --dry-run]")
    arguments = parser.parse_args()
    threads = arguments.threads or (1 if arguments.dry_run else min(8, os.cpu_count()))
    if not arguments.dry_run and not torch.cuda.is_available():
        sys.exit("gpu_check: torch finds no GPU here; --dry-run does the same in small on a CPU")
    if BUNDLE and torch.__version__.split("+")[0] != BUNDLE["libtorch"]:
        sys.exit(f"gpu_check: these programs are for torch {BUNDLE['libtorch']}, and {sys.executable} "
                 f"has {torch.__version__}; PYTHON=... names another Python")
    made = programs()
    torch.set_num_threads(threads)
    start = time.monotonic()
    results = {**about(arguments.dry_run), "threads": threads, "steps": {}}
    check = Check(arguments.dry_run, threads)
    for step, limit in LIMITS.items():
        print(f"{step}:", flush=True)
        began = time.monotonic()
        try:
            found = getattr(check, step)(made[step], limit)
        except Exception as error:  # Later steps are to run whatever it is.
            kind = "" if isinstance(error, Failed) else f"{type(error).__name__}: "
            found = {"outcome": "failed", "error": f"{kind}{error}"}
        results["steps"][step] = found | {"seconds": time.monotonic() - began}
        results["seconds"] = time.monotonic() - start
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")
    summary(results)
    print(f"results are in {arguments.output}")
    if any(found["outcome"] == "failed" for found in results["steps"].values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
