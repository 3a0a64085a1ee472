"""Steps 3 to 5 of `scripts/gpu_check.sh`: whole training steps beside two PyTorch loops, the memory of
each, and how much of what the device can multiply is used.
"""

import json
import random
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

import qwen2
import torch
from contender import Contender, Failed

HERE = Path(__file__).resolve().parent

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


class Training:
    def __init__(self, dry, threads, environment):
        self.dry, self.threads, self.environment = dry, threads, environment
        self.device = "cpu" if dry else "cuda"
        self.shape = SHAPES["dry" if dry else "gpu"]

    def run(self, program, limit):
        end = time.monotonic() + limit
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
                        found["contenders"][name] = contender.ready | self.held(before, contender)
                        if name != "ours":
                            # All three at their most may be more than a GPU has.
                            contender.ask("rest", remaining())
                        contenders[name] = contender
                    except Failed as failed:
                        found["errors"][name] = str(failed)
                self.agree(contenders, found)
                self.time(contenders, found, remaining)
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
            print(f"training: {name} (ours) on {CHECK_STEPS} steps: "
                  + "; ".join(f"{what} " + ", ".join(f"{a:.6f} ({b:.6f})" for a, b in pairs[what])
                              for what in tolerance), flush=True)
            if not all(apart[what] <= tolerance[what] for what in tolerance):
                found["errors"][name] = f"computes something else than ours: {apart} apart"
                contenders.pop(name).end()

    def time(self, contenders, found, remaining):
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
