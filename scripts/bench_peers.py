#!/usr/bin/env python3
"""Whole training steps beside other libraries': `make bench-peers`.

The same weights, lists, optimiser (AdamW, fused, clipped to a norm of 1), f32 and number of threads for
all. Every contender is a process that waits: each makes one pass over the row's lists in turn, ours,
theirs, ours, theirs, with nothing else running. What comes before the first such pass (three steps
in which all must agree in loss and gradient norm, but for CrossEncoder, whose texts have a token more;
the choice of the micro-batch with which a pass of the plain loop is fastest, which torch.compile takes
over, and of the one with which TRL's first step is; then one pass to warm up and compile) is left out
for all alike. CrossEncoder has its own batches, shuffled, a step's lists at once. Medians of the
passes, in
ranked lists per second, go to target/peers/table.md and what was measured to results.json beside it.

The peers live in target/peers/venv-TORCH, made once (torch with its CUDA libraries is 5 GB), or in the
environment that `--python DIR` names.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
import venv
from pathlib import Path

from libtorch import LIBTORCH_OF_TCH, locked_version

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "target" / "peers"
WORK = HOME / "work"
# The libtorch of the peers is ours.
TORCH = locked_version()
PACKAGES = [f"torch=={TORCH}", "transformers==4.57.6", "trl==1.16.0", "sentence-transformers==5.7.0",
            "accelerate==1.15.0", "datasets==5.0.1"]
VOCABULARY = 4096
LISTS_PER_STEP = {"decoder": 4, "minilm": 8}
CHECK_STEPS = 3
TOLERANCE, BF16_TOLERANCE = 1e-4, 2e-2
TICKS = os.sysconf("SC_CLK_TCK")
# What others may take of a core while a turn is timed, and how often it is tried.
DISTURBANCE, ATTEMPTS = 0.15, 3

# Lists of a pass, prompt, responses; what TRL gets of them (its steps are long; the lists are alike).
SHAPES = {
    "k2": {"lists": 32, "prompt": 128, "responses": [64] * 2, "trl": 32},
    "k4": {"lists": 16, "prompt": 128, "responses": [64] * 4, "trl": 16},
    "k8": {"lists": 16, "prompt": 256, "responses": [64] * 8, "trl": 4},
    # Lengths from 16 to 256 whose logarithms are spread evenly.
    "skewed": {"lists": 32, "prompt": 32, "responses": [None] * 4, "trl": 32},
    # Nothing is trained: the best of N answers.
    "score": {"lists": 8, "prompt": 256, "responses": [64] * 16, "trl": 0},
    # For a GPU, in bf16.
    "gpu": {"lists": 32, "prompt": 512, "responses": [256] * 4, "trl": 0},
}
# Hidden size, queries, keys, inner size, layers: the decoder of most rows, and Qwen2-0.5B.
SMALL, LARGE = (256, 256, 256, 688, 6), (896, 896, 128, 4864, 24)
NAMES = {"k2": "K=2, P=128, R=64", "k4": "K=4, P=128, R=64", "k8": "K=8, P=256, R=64",
         "skewed": "K=4, P=32, R=16 to 256",
         "score": "scoring alone, K=16, P=256, R=64", "minilm": "all-MiniLM-L6-v2, SST-5", "gpu": "Qwen2 0.5B, K=4, P=512, R=256, bf16"}
PEERS = {"plain": "plain PyTorch loop, by length", "compiled": "the same, torch.compile",
         "trl": "TRL RewardTrainer", "shuffled": "plain PyTorch loop, shuffled",
         "cross_encoder": "CrossEncoder, RankNetLoss",
         "scoring": "transformers, a list as one padded batch",
         "other_tch": "this crate with the other libtorch"}
DECODER_PEERS = ["plain", "compiled", "trl"]
ENCODER_PEERS = ["plain", "shuffled", "cross_encoder"]
ROW_PEERS = {"minilm": ENCODER_PEERS, "score": ["scoring"], "gpu": ["plain", "compiled"]}
# What is aimed at, of a row by its peer; "best" is the faster one of the plain loops.
TARGETS = {
    "k2": {"trl": 1.5, "best": 1.5}, "k4": {"trl": 6, "best": 2.0}, "k8": {"trl": 24, "best": 3.2},
    "skewed": {"trl": 5, "best": 1.7}, "score": {"scoring": 3}, "minilm": {"plain": 1.2, "shuffled": 1.5},
    "gpu": {"plain": 2},
}


def environment(given):
    """The Python that has the peers."""
    if given:
        inside = given / "bin" / "python"
        return inside if inside.exists() else given
    home = HOME / f"venv-{TORCH}"
    if not (home / "complete").exists():
        print(f"making {home.relative_to(ROOT)}: " + " ".join(PACKAGES), file=sys.stderr)
        venv.create(home, with_pip=True, clear=True)
        subprocess.run([home / "bin" / "python", "-m", "pip", "install", "--quiet",
                        "--disable-pip-version-check", *PACKAGES], check=True)
        (home / "complete").touch()
    return home / "bin" / "python"


def ours(tch=None):
    """Our program, built with the locked tch or with another one."""
    command = [os.environ.get("CARGO", "cargo"), "bench", "--no-run", "--bench", "peers",
               "--message-format=json-render-diagnostics"]
    if tch:
        command = [sys.executable, ROOT / "scripts" / "with_tch.py", tch, *command]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    messages = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    return [message["executable"] for message in messages if message.get("executable")][-1]


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_job(name, **job):
    path = WORK / f"{name}.json"
    path.write_text(json.dumps(job))
    return path


def busy():
    """Seconds that all cores together have worked."""
    try:
        ticks = Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
    except OSError:
        return 0.0
    # Not idle, not waiting for a disk.
    return sum(int(tick) for at, tick in enumerate(ticks) if at not in (3, 4)) / TICKS


def used(process):
    """Seconds of these that were a process's own."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def gpu_memory(process):
    """MiB that a process has on the GPU, where nvidia-smi tells."""
    command = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return None
    used = dict(line.split(", ") for line in lines if line.count(", ") == 1)
    return used.get(str(process))


class Contender:
    """A process that trains, a pass at a time."""

    def __init__(self, name, command):
        self.name, self.seconds, self.others = name, [], 0.0
        # Operations a second of matrix products, after each pass; of ours.
        self.rates = []
        self.log = WORK / f"{name}.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=log, text=True, env=os.environ | ENVIRONMENT)
        self.ready = self.answer()

    def answer(self):
        """The next line that is ours to read: trainers print, too."""
        for line in self.process.stdout:
            if line.startswith('{"'):
                return json.loads(line)
        last = "".join(self.log.read_text().splitlines(keepends=True)[-15:])
        sys.exit(f"bench_peers: {self.name} ended; the end of {self.log}:\n{last}")

    def turn(self):
        """A pass; again, if something else took a part of the machine meanwhile."""
        for attempt in range(ATTEMPTS):
            others, start = busy() - used(self.process.pid), time.monotonic()
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
            answer = self.answer()
            others = (busy() - used(self.process.pid) - others) / (time.monotonic() - start)
            if others <= DISTURBANCE:
                break
            print(f"{self.name}: others take {others:.2f} of a core", file=sys.stderr)
            if attempt < ATTEMPTS - 1:
                time.sleep(5)
        self.seconds.append(answer["seconds"])
        self.rates.append(answer.get("matrix_rate"))
        self.others = max(self.others, others)

    def end(self):
        self.process.stdin.close()
        self.process.wait()


ENVIRONMENT = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}


def decoder_lists(shape):
    generator = random.Random(7)

    def ids(count):
        return [generator.randrange(2, VOCABULARY) for _ in range(count)]

    lists = []
    for _ in range(shape["lists"]):
        prompt = ids(shape["prompt"])
        lengths = [length or round(16 * 16 ** generator.random()) for length in shape["responses"]]
        lists.append([prompt + ids(length) for length in lengths])
    return lists


def sample(lists, lengths, size, steps):
    """So many steps' worth of lists, as they would meet if all were sorted by length: the pass is
    short, and its batches are no better and no worse than those of all lists."""
    order = sorted(range(len(lists)), key=lambda at: max(lengths[at]))
    batches = [order[at : at + size] for at in range(0, len(order) - size + 1, size)]
    chosen = [batches[(2 * step + 1) * len(batches) // (2 * steps)] for step in range(steps)]
    return [at for batch in chosen for at in batch]


def read_tsv(path):
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


def needed_operations(row, texts):
    """Of a list: forward and backward of what is needed of a decoder, the prompt once, and in the last
    layer keys and values of all tokens and the rest of those that are scored."""
    hidden, queries, keys, inner, layers = LARGE if row == "gpu" else SMALL
    prompt = SHAPES[row]["prompt"]
    responses = [len(text) - prompt for text in texts]
    tokens, scored = prompt + sum(responses), len(responses)
    per_token = hidden * (2 * queries + 2 * keys) + 3 * hidden * inner
    seen = prompt**2 / 2 + sum(prompt * length + length**2 / 2 for length in responses)
    weights = ((layers - 1) * tokens * per_token + tokens * 2 * hidden * keys
               + scored * (2 * hidden * queries + 3 * hidden * inner))
    attention = 2 * queries * ((layers - 1) * seen + scored * prompt + sum(responses))
    return 3 * 2 * (weights + attention)


def prepare_decoder(python, row, common):
    large = row == "gpu"
    shape, model = SHAPES[row], WORK / ("decoder-large" if large else "decoder")
    if not model.exists():
        job = write_job("make-decoder", peer="make_decoder", vocabulary=VOCABULARY, seed=7, threads=2,
                        model=str(model), tokenizer=str(WORK / "numbers.json"), large=large)
        run_once(python, job)
    lists = WORK / f"{row}.jsonl"
    write_lines(lists, decoder_lists(shape))
    return common | {
        "model": str(model), "tokenizer": str(WORK / "numbers.json"), "lists": str(lists),
        "lists_per_step": LISTS_PER_STEP["decoder"], "trl_lists": shape["trl"], "dropout": False,
        "check_lists": LISTS_PER_STEP["decoder"], "learning_rate": 1e-5, "score": row == "score",
    }, shape["lists"]


def prepare_minilm(python, arguments, common, steps=16):
    model, size, names = WORK / "encoder", LISTS_PER_STEP["minilm"], ("train", "test")
    files = {name: (WORK / f"sst5_{name}.text.jsonl", WORK / f"sst5_{name}.jsonl") for name in names}
    for name, (texts, _) in files.items():
        write_lines(texts, read_tsv(arguments.data / f"sst5_{name}.tsv"))
    job = write_job("make-encoder", peer="make_encoder", seed=7, threads=2, model=str(model),
                    files=[[str(texts), str(ids)] for texts, ids in files.values()],
                    **{"from": str(arguments.minilm)})
    run_once(python, job)
    texts, ids = ([json.loads(line) for line in path.read_text().splitlines()]
                  for path in files["train"])
    chosen = sample(ids, [[len(text) for text in list] for list in ids], size, steps)
    some_texts, some_ids = WORK / "minilm.text.jsonl", WORK / "minilm.jsonl"
    write_lines(some_texts, [texts[at] for at in chosen])
    write_lines(some_ids, [ids[at] for at in chosen])
    return common | {
        "model": str(model), "lists": str(some_ids), "texts": str(some_texts),
        "all_lists": str(files["train"][1]), "all_texts": str(files["train"][0]),
        "held_out": str(files["test"][1]), "held_out_texts": str(files["test"][0]),
        "lists_per_step": size, "check_lists": size, "learning_rate": 5e-5, "dropout": True,
    }, len(chosen)


def run_once(python, job):
    command = [python, ROOT / "scripts" / "peer_loops.py", job]
    subprocess.run(command, check=True, env=os.environ | ENVIRONMENT, stdout=subprocess.DEVNULL)


def contenders(row, peers, python, program, job):
    """Jobs and commands by name: ours first."""
    for name in ["ours", *peers]:
        given = {key: value for key, value in job.items() if not key.startswith(("all_", "held_"))}
        if name in ("ours", "other_tch"):
            yield name, [program[name], write_job(f"{row}-{name}", **given)]
        else:
            if name != "compiled":
                given.pop("micro", None)
            peer = "plain" if name == "shuffled" else name
            order = "random" if name == "shuffled" else "sorted"
            path = write_job(f"{row}-{name}", **given | {"peer": peer, "order": order})
            yield name, [python, ROOT / "scripts" / "peer_loops.py", path]


def measure(row, peers, repeats, python, program, job, lists):
    """Passes in turn; the speeds of each, and whether all did the same work."""
    running, found = [], {"row": row, "speeds": {}, "ready": {}}
    try:
        for name, command in contenders(row, peers, python, program, job):
            print(f"{row}: {name} gets ready", file=sys.stderr)
            running.append(Contender(name, command))
            found["ready"][name] = running[-1].ready
            # Another size would be compiled again, for sizes that vary.
            if name == "plain":
                job["micro"] = found["ready"][name].get("micro")
        first = running[0].ready
        for contender in running[1:]:
            ready = contender.ready
            if job.get("score"):
                pairs = [pair for lists in zip(first["rewards"], ready["rewards"], strict=True)
                         for pair in zip(*lists, strict=True)]
                apart = max(abs(a - b) for a, b in pairs)
                print(f"{row}: rewards of {len(pairs)} texts are {apart:.1e} apart", flush=True)
                if not apart <= TOLERANCE:
                    sys.exit(f"bench_peers: {contender.name} computes something else")
                continue
            apart = max(abs(a - b) for a, b in zip(first["losses"], ready["losses"], strict=True))
            print(f"{row}: {contender.name}, {CHECK_STEPS} steps on the same lists: losses "
                  + ", ".join(f"{loss:.6f}" for loss in ready["losses"])
                  + f" (ours {', '.join(f'{loss:.6f}' for loss in first['losses'])}), norms "
                  + ", ".join(f"{norm:.4f}" for norm in ready["norms"])
                  + f" (ours {', '.join(f'{norm:.4f}' for norm in first['norms'])})", flush=True)
            # An empty query is a token more; a trainer logs rounded losses.
            norms = max(abs(a / b - 1) for a, b in zip(ready["norms"], first["norms"], strict=True))
            apart = max(apart, norms)
            tolerance = TOLERANCE if job.get("device", "cpu") == "cpu" else BF16_TOLERANCE
            if contender.name != "cross_encoder" and not apart <= tolerance:
                sys.exit(f"bench_peers: {contender.name} computes something else: {apart:.1e} apart")
            if "micro" in ready:
                print(f"{row}: {contender.name} is best with {ready['micro']} "
                      f"{'pairs' if contender.name == 'trl' else 'lists'} a forward pass", flush=True)
        # Before ours multiplies large matrices to see what the GPU can do.
        memory = {contender.name: row == "gpu" and gpu_memory(contender.process.pid)
                  for contender in running}
        for _ in range(repeats):
            for contender in running:
                contender.turn()
        if row == "gpu":
            with open(job["lists"]) as file:
                tokens = sum(len(text) for line in file for text in json.loads(line))
            for contender in running:
                seconds = statistics.median(contender.seconds)
                print(f"{row}: {contender.name}: {tokens / seconds:.0f} tokens/s of all texts, "
                      f"{memory[contender.name] or '(not known)'} MiB of the GPU held", flush=True)
    finally:
        for contender in running:
            contender.end()
    for contender in running:
        some = job.get("trl_lists", lists) if contender.name == "trl" else lists
        found["speeds"][contender.name] = [some / seconds for seconds in contender.seconds]
    found["others"] = max(contender.others for contender in running)
    if found["others"] > DISTURBANCE:
        print(f"{row}: DISTURBED: others took up to {found['others']:.2f} of a core", flush=True)
    if row in SHAPES and not job.get("score"):
        with open(job["lists"]) as file:
            operations = sum(needed_operations(row, json.loads(line)) for line in file)
        shares = [operations / seconds / rate for seconds, rate
                  in zip(running[0].seconds, running[0].rates, strict=True)]
        rate = statistics.median(running[0].rates)
        found |= {"matrix_rate": rate, "matrix_shares": shares}
        print(f"{row}: square matrices' products make {rate / 1e9:.0f} GFLOP/s here; what ours needs, at "
              f"the rate after each pass, is {statistics.median(shares):.2f} of its time "
              f"({min(shares):.2f} to {max(shares):.2f})", flush=True)
    return found


def table_lines(found):
    """A row of the table for each peer."""
    row, speeds = found["row"], found["speeds"]
    medians = {name: statistics.median(speed) for name, speed in speeds.items()}
    loops = [name for name in ("plain", "compiled") if name in medians]
    best = max(loops, key=medians.get, default=None)
    for name in list(speeds)[1:]:
        turns = [a / b for a, b in zip(speeds["ours"], speeds[name])]
        target = TARGETS[row].get(name) or (TARGETS[row].get("best") if name == best else None)
        yield (f"| {NAMES[row]} | {PEERS[name]} | {medians['ours']:.2f} | {medians[name]:.2f} "
               f"| {medians['ours'] / medians[name]:.2f} | {min(turns):.2f} to {max(turns):.2f} "
               f"| {f'≥ {target:g}' if target else ''} |")


HEAD = ("| lists | peer | ours, lists/s | theirs, lists/s | ratio | of single turns | target |\n"
        "|---|---|---|---|---|---|---|")


def accuracy(job, python, program):
    """One epoch each on all lists by the same recipe, and the held-out pairs in order."""
    whole = job | {"epochs": 1, "lists": job["all_lists"], "texts": job["all_texts"]}
    print("| | seconds | held-out pairs in order |\n|---|---|---|")
    for name in ["ours", *ENCODER_PEERS]:
        peer = {"shuffled": "plain"}.get(name, name)
        order = "random" if name == "shuffled" else "sorted"
        path = write_job(f"accuracy-{name}", **whole | {"peer": peer, "order": order})
        command = [program["ours"]] if name == "ours" else [python, ROOT / "scripts" / "peer_loops.py"]
        contender = Contender(f"accuracy-{name}", [*command, path])
        pairs = [a > b for rewards in contender.ready["rewards"]
                 for i, a in enumerate(rewards) for b in rewards[i + 1 :]]
        contender.end()
        seconds = contender.ready["seconds"]
        print(f"| {PEERS.get(name, name)} | {seconds:.0f} | {sum(pairs) / len(pairs):.4f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    rows = [*SHAPES, "minilm"]
    parser.add_argument("--device", default="cpu", help="such as cuda: then the row gpu alone, in bf16, "
                        "for an environment and a build with CUDA")
    parser.add_argument("--only", metavar="ROW", action="append", choices=rows,
                        help=f"one of {', '.join(rows)}; may be given again")
    parser.add_argument("--peers", metavar="PEER,...", help=f"of {', '.join(name for name in PEERS if name != 'other_tch')}")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each [default: 5]")
    parser.add_argument("--threads", type=int, default=2, help="[default: 2]")
    parser.add_argument("--python", type=Path, metavar="DIR", help="an environment with the peers")
    parser.add_argument("--minilm", type=Path, default=ROOT / ".minilm", metavar="DIR")
    parser.add_argument("--data", type=Path, metavar="DIR",
                        default=os.environ.get("REWARD_MODEL_DATA"),
                        help="with sst5_train.tsv and sst5_test.tsv [default: $REWARD_MODEL_DATA]")
    parser.add_argument("--other-tch", metavar="VERSION", choices=LIBTORCH_OF_TCH,
                        help="beside this crate with that tch and its libtorch, and nothing else")
    parser.add_argument("--accuracy", action="store_true",
                        help="an epoch of SST-5 each and its held-out accuracy, instead of the table")
    arguments = parser.parse_args()
    on_gpu = arguments.device != "cpu"
    if arguments.only and any((row == "gpu") is not on_gpu for row in arguments.only):
        parser.error("the row gpu is for --device cuda, and the only one there")
    if arguments.accuracy and on_gpu:
        parser.error("--accuracy is for a CPU")
    rows = ["gpu"] if on_gpu else [row for row in rows if row != "gpu"]
    WORK.mkdir(parents=True, exist_ok=True)
    python, program = environment(arguments.python), {"ours": ours()}
    if arguments.other_tch:
        program["other_tch"] = ours(arguments.other_tch)
        PEERS["other_tch"] = (f"this crate, tch {arguments.other_tch} with libtorch "
                              f"{LIBTORCH_OF_TCH[arguments.other_tch]}")
    common = {"threads": arguments.threads, "seed": 7, "check_steps": CHECK_STEPS,
              "device": arguments.device}
    ENVIRONMENT["OMP_NUM_THREADS"] = str(arguments.threads)

    if arguments.accuracy:
        return accuracy(prepare_minilm(python, arguments, common)[0], python, program)
    if "minilm" in rows and not arguments.only and not arguments.data:
        print("bench_peers: no minilm row: --data or REWARD_MODEL_DATA names no folder")
        rows.remove("minilm")
    wanted = arguments.peers.split(",") if arguments.peers else list(PEERS)
    name = f"tch-{arguments.other_tch}" if arguments.other_tch else "results"
    path, results = HOME / f"{name}.json", {}
    if arguments.only and path.exists():
        results = {found["row"]: found for found in json.loads(path.read_text())}
    for row in [row for row in rows if row in (arguments.only or rows)]:
        if row == "minilm":
            job, lists = prepare_minilm(python, arguments, common)
        else:
            job, lists = prepare_decoder(python, row, common)
        peers = [peer for peer in ROW_PEERS.get(row, DECODER_PEERS) if peer in wanted]
        if arguments.other_tch:
            peers = ["other_tch"]
        results[row] = measure(row, peers, arguments.repeats, python, program, job, lists)
        path.write_text(json.dumps(list(results.values()), indent=1))
        print("\n".join(table_lines(results[row])), flush=True)
    lines = [HEAD] + [line for row in NAMES if row in results for line in table_lines(results[row])]
    table = path.with_suffix(".md") if arguments.other_tch else HOME / "table.md"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"\n{lines[0]}\n" + "\n".join(lines[1:]) + f"\n\n{arguments.threads} threads, "
          f"{'f32' if arguments.device == 'cpu' else 'bf16'}; "
          f"{' '.join(PACKAGES[:4])}, unless --python has others\n(also in {table}; rows "
          "that were not asked for are of an earlier run)")


if __name__ == "__main__":
    main()
