"""The steps of `scripts/gpu_check.sh`: tests, the loss, training steps beside two PyTorch loops.

Each has a time limit and gives an outcome. One that fails does not keep later ones from running, and
the file of results is written after each.
"""

import argparse
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import qwen2
import torch

HERE = Path(__file__).resolve().parent
# Of a bundle, or of a checkout.
HOME = HERE.parent if (HERE.parent / "bundle.json").exists() else HERE.parent.parent
BUNDLE = json.loads((HOME / "bundle.json").read_text()) if (HOME / "bundle.json").exists() else None

# Seconds in all, and of a single step.
WHOLE = 450
LIMITS = {"cuda_tests": 130, "rank_loss": 70, "training": 250}
DRY_WHOLE = 120

LOSS_TOLERANCE = 1e-5
# Losses, absolute, and norms of gradients, relative, on the first steps; in bf16, and in f32.
TOLERANCES = {"bf16": {"losses": 1e-2, "norms": 2e-2}, "f32": {"losses": 1e-4, "norms": 1e-4}}

# Qwen2-0.5B's, and one that a CPU trains in no time. Fields as in qwen2.FIELDS.
SHAPES = {
    "gpu": {"model": (896, 14, 2, 4864, 24, 151936), "lists": 32, "prompt": 512,
            "responses": [256] * 4, "ids": 4096, "learning_rate": 1e-5, "rounds": (5, 15)},
    # Lengths that differ, so that padding and packing do.
    "dry": {"model": (64, 4, 2, 96, 2, 256), "lists": 8, "prompt": 24,
            "responses": [None] * 4, "ids": 256, "learning_rate": 1e-3, "rounds": (2, 2)},
}
LISTS_PER_STEP, CHECK_STEPS, SEED = 4, 3, 7
# Seconds in which one of them is to be ready, and that rounds go on for if there are enough of them.
READY, TIMED = 65, 60
PEERS = {"plain": False, "packed": True}


class Failed(Exception):
    pass


def text(data):
    return (data.decode(errors="replace") if isinstance(data, bytes) else data) or ""


def end_of(log, lines=12):
    return "\n".join(text(log).splitlines()[-lines:])


class Check:
    """One run of all steps."""

    def __init__(self, dry, threads):
        self.dry, self.threads = dry, threads
        self.device = "cpu" if dry else "cuda"
        self.shape = SHAPES["dry" if dry else "gpu"]
        self.deadline = time.monotonic() + (DRY_WHOLE if dry else WHOLE)
        # Programs of a bundle find libtorch in this Python's torch; cargo's know where theirs is.
        self.environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
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
        end = time.monotonic() + self.left(limit)
        remaining = lambda: end - time.monotonic()
        with tempfile.TemporaryDirectory(prefix="gpu_check-") as work:
            job = self.job(Path(work))
            contenders, found = {}, {"outcome": "passed", "errors": {}, "contenders": {}}
            try:
                for name in ["ours", *PEERS]:
                    print(f"training: {name} gets ready, {remaining():.0f} s left", flush=True)
                    before, own = self.memory(), job | {"packed": PEERS.get(name)}
                    path = Path(work, f"{name}.json")
                    path.write_text(json.dumps(own))
                    command = [program] if name == "ours" else [sys.executable, HERE / "loops.py"]
                    try:
                        contender = Contender([*command, path], Path(work, f"{name}.log"),
                                              self.environment, min(READY, remaining()))
                    except Failed as failed:
                        found["errors"][name] = str(failed)
                        continue
                    contenders[name] = contender
                    found["contenders"][name] = contender.ready | self.held(before, contender)
                    if name != "ours":
                        # All three at their most may be more than a GPU has.
                        contender.ask("rest", remaining())
                self.agree(contenders, found)
                self.time(contenders, found, job, remaining)
            finally:
                for contender in contenders.values():
                    contender.end()
        if found["errors"]:
            found |= {"outcome": "failed", "error": "; ".join(
                f"{name}: {error}" for name, error in found["errors"].items())}
        return found

    def job(self, work):
        """Random weights and lists, and what all are to do with them."""
        shape = self.shape
        qwen2.make(work / "model", shape["model"], SEED, self.device)
        if not self.dry:
            torch.cuda.empty_cache()
        generator = random.Random(SEED)

        def ids(count):
            return [generator.randrange(2, shape["ids"]) for _ in range(count)]

        lists = []
        for _ in range(shape["lists"]):
            prompt = ids(shape["prompt"])
            lists.append([prompt + ids(length or generator.randrange(4, 40))
                          for length in shape["responses"]])
        (work / "lists.jsonl").write_text("".join(json.dumps(texts) + "\n" for texts in lists))
        self.operations = sum(map(self.needed_operations, lists))
        self.tokens = sum(len(text) for texts in lists for text in texts)
        return {"model": str(work / "model"), "lists": str(work / "lists.jsonl"),
                "lists_per_step": LISTS_PER_STEP, "check_lists": LISTS_PER_STEP,
                "check_steps": CHECK_STEPS, "learning_rate": shape["learning_rate"],
                "dropout": False, "threads": self.threads, "device": self.device, "seed": SEED}

    def needed_operations(self, texts):
        """Of a list, as in scripts/bench_peers.py: forward and backward of what is needed of a decoder,
        the prompt once, and in the last layer keys and values of all tokens and the rest of those that
        are scored."""
        hidden, heads, key_heads, inner, layers, _ = self.shape["model"]
        queries, keys, prompt = hidden, hidden // heads * key_heads, self.shape["prompt"]
        responses = [len(text) - prompt for text in texts]
        tokens, scored = prompt + sum(responses), len(responses)
        per_token = hidden * (2 * queries + 2 * keys) + 3 * hidden * inner
        seen = prompt**2 / 2 + sum(prompt * length + length**2 / 2 for length in responses)
        weights = ((layers - 1) * tokens * per_token + tokens * 2 * hidden * keys
                   + scored * (2 * hidden * queries + 3 * hidden * inner))
        attention = 2 * queries * ((layers - 1) * seen + scored * prompt + sum(responses))
        return 3 * 2 * (weights + attention)

    def memory(self):
        """Bytes of the GPU that are taken, by whomever."""
        if self.dry:
            return 0
        free, total = torch.cuda.mem_get_info()
        return total - free

    def held(self, before, contender):
        """What a process that is ready has taken, by one measure for all. libtorch gives nothing back by
        itself, so that this is the most that it has needed, as its allocator divides it, and the
        driver's own part."""
        if not self.dry:
            return {"gpu_bytes": self.memory() - before}
        status = Path(f"/proc/{contender.process.pid}/status")
        peak = re.search(r"VmHWM:\s+(\d+)", status.read_text()) if status.exists() else None
        return {"resident_bytes": int(peak[1]) * 1024 if peak else None}

    def agree(self, contenders, found):
        """Leaves out who computes something else than ours."""
        precision = "f32" if self.dry else "bf16"
        tolerance = TOLERANCES[precision]
        found |= {"precision": precision, "tolerance": tolerance}
        if "ours" not in contenders:
            return
        ours = contenders["ours"].ready
        for name in [name for name in contenders if name != "ours"]:
            theirs = contenders[name].ready
            pairs = {what: list(zip(theirs[what], ours[what], strict=True)) for what in tolerance}
            apart = {"losses": max(abs(a - b) for a, b in pairs["losses"]),
                     "norms": max(abs(a / b - 1) for a, b in pairs["norms"])}
            found["contenders"][name]["apart"] = apart
            print(f"training: {name} and ours on {CHECK_STEPS} steps: losses {theirs['losses']} and "
                  f"{ours['losses']}, norms {theirs['norms']} and {ours['norms']}", flush=True)
            if not all(apart[what] <= tolerance[what] for what in tolerance):
                found["errors"][name] = f"computes something else than ours: {apart} apart"
                contenders.pop(name).end()

    def time(self, contenders, found, job, remaining):
        """Passes in turn, and the rate of matrix products after each round."""
        least, most = self.shape["rounds"]
        rates, start = [], time.monotonic()
        while contenders and len(rates) < most:
            # A round that does not end counts for nobody.
            spent = time.monotonic() - start
            if rates and remaining() < 2 * spent / len(rates):
                break
            if len(rates) >= least and spent > TIMED:
                break
            for name, contender in list(contenders.items()):
                try:
                    contender.turn(remaining())
                except Failed as failed:
                    found["errors"][name] = str(failed)
                    contenders.pop(name).end()
            rates.append(self.matrix_rate())
        found |= {"lists": self.shape["lists"], "tokens": self.tokens, "matrix_rates": rates,
                  "needed_operations": self.operations}
        for name, contender in contenders.items():
            seconds = statistics.median(contender.seconds)
            shares = [self.operations / own / rate
                      for own, rate in zip(contender.seconds, rates, strict=True)]
            row = found["contenders"][name]
            row |= {"seconds": contender.seconds, "lists_per_second": self.shape["lists"] / seconds,
                    "tokens_per_second": self.tokens / seconds, "share": statistics.median(shares)}
            if "ours" in contenders:
                ratios = [theirs / ours for theirs, ours
                          in zip(contender.seconds, contenders["ours"].seconds, strict=True)]
                row["ours_is_faster_by"] = statistics.median(ratios)

    def matrix_rate(self):
        """Operations a second of square matrices' products: what the device can do at this moment."""
        size, dtype = (1024, torch.float32) if self.dry else (8192, torch.bfloat16)
        a, b = (torch.randn(size, size, device=self.device).to(dtype) for _ in range(2))
        times = []
        for _ in range(11):
            start = time.perf_counter()
            # A number that is read is a product that is done.
            (a @ b)[0, 0].item()
            times.append(time.perf_counter() - start)
        return 2 * size**3 / statistics.median(times)


class Contender:
    """A process that trains, a pass at a time."""

    def __init__(self, command, log, environment, limit):
        self.log, self.seconds = log, []
        with open(log, "w") as file:
            try:
                self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                                stderr=file, text=True, env=environment)
            except OSError as error:
                raise Failed(str(error)) from None
        self.ready = self.answer(limit)

    def answer(self, limit):
        """The next line; a process that takes too long is ended, which ends the waiting."""
        watch = threading.Timer(max(limit, 0), self.process.kill)
        watch.start()
        try:
            for line in self.process.stdout:
                if line.startswith('{"'):
                    return json.loads(line)
        finally:
            watch.cancel()
        code = self.process.wait()
        late = f"not done after {max(limit, 0):.0f} s" if code == -9 else f"ended with {code}"
        raise Failed(f"{late}: {end_of(self.log.read_text())}")

    def ask(self, what, limit):
        try:
            self.process.stdin.write(f"{what}\n")
            self.process.stdin.flush()
        except OSError:
            pass  # It has ended; its answer says why.
        return self.answer(limit)

    def turn(self, limit):
        self.seconds.append(self.ask("go", limit)["seconds"])

    def end(self):
        try:
            self.process.stdin.close()
        except OSError:
            pass
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


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
