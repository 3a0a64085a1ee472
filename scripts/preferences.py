#!/usr/bin/env python3
"""Accuracy on real preference data, beside the same recipe in PyTorch and beside a linear model:
`make preferences LISTS=DIR`, where DIR has hh_harmless_test.jsonl.gz, the test part of harmless-base of
hh-rlhf (Bai et al. 2022): pairs `chosen` and `rejected`, whole dialogues as one string each.

The texts can offend. None is printed; they stay in target/preferences.

**Data.** The first 1,800 pairs train, the last 512 test. Every text loses words at its start until it
has at most `--tokens` tokens of all-MiniLM's tokenizer, special tokens included: no trainer cuts
anything itself, and all see the same texts.

**Rows.** `minilm` starts from all-MiniLM-L6-v2 with a new head, one epoch. `scratch` starts from random
weights, with the defaults of `train_rm`. Both are run twice with every seed. *Ours* is the release
example `train_rm`, and then `score`, as they were built last. *PyTorch* is a plain loop of
`AutoModelForSequenceClassification`, whose settings are read from the train_config.json that ours wrote:
AdamW without decay of vectors, warm-up and schedule, clipping, the dropout of the model's configuration,
-log sigmoid of the difference as loss, and the same pairs in the same order (recipe.py). What
differs is what chance draws: a new head's weights, all weights of `scratch`, and what is dropped out.
`scratch` takes architecture and tokenizer from the folder that ours wrote. `linear` is a bag of words
and character bigrams: examples/linear_baseline in Python, which tells the rewards of each pair; the
example itself is run beside it, and their accuracies must agree to 0.01.

**Figures.** Accuracy is the share of test pairs whose chosen text has the higher reward; equal rewards
are half a pair. For two sides, a pair's difference is that of its accuracies, each averaged over the
seeds that both have; the mean over pairs is the difference of the mean accuracies. Its 95 % interval is
from the bootstrap: 10,000 times as many pairs as there are, drawn with replacement, the same ones for
both sides and all seeds; the 2.5th and the 97.5th percentile of their means. It says how far another
sample of pairs could have moved the difference, with the seeds as they are.

A run takes minutes. Each one that is done is in target/preferences/runs and is not done again; another
`--tokens` or another build wants that folder removed first. `--rows`, `--sides` and `--seeds` divide
the work among processes. Results: target/preferences/results.json and table.md.
"""

import argparse
import gzip
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from bench_peers import environment
from recipe import batches_of_run, descend, length_grouped_batches, optimizer, settings

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "target" / "preferences"
RUNS = HOME / "runs"
SOURCE = "hh_harmless_test.jsonl.gz"
TRAIN, TEST = 1800, 512
SEEDS = (0, 1, 2, 3, 4)
ROWS = {"minilm": "all-MiniLM-L6-v2", "scratch": "from random weights",
        "linear": "words and character bigrams"}
SIDES = {"minilm": ("ours", "torch"), "scratch": ("ours", "torch"), "linear": ("linear",)}
NAMES = {"ours": "ours", "torch": "PyTorch", "linear": "linear"}
RESAMPLES = 10_000
# What is kept of the folder that `train_rm` writes, for the PyTorch side.
RECIPE = ["config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
          "train_config.json"]


def read(name):
    return [json.loads(line) for line in (HOME / f"{name}.jsonl").read_text().splitlines()]


def write(path, text):
    """Whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.rename(path)


# The data.


def cut(text, tokenizer, tokens):
    """The end of a text, from the first start of a word from which it fits; where not even the last
    word does, from a character within it."""
    fits = lambda start: len(tokenizer.encode(text[start:]).ids) <= tokens
    starts = [0] + [match.end() for match in re.finditer(r"\s+", text) if match.end() < len(text)]
    if not fits(starts[-1]):
        starts = list(range(starts[-1], len(text)))
    low, high = 0, len(starts) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(starts[middle]) else (middle + 1, high)
    return text[starts[low] :]


def prepare(source, minilm, tokens):
    from tokenizers import Tokenizer

    made = HOME / "data.json"
    if made.exists():
        before = json.loads(made.read_text())["tokens"]
        if before != tokens:
            sys.exit(f"preferences: {HOME} has texts of {before} tokens; remove it first")
        return
    tokenizer = Tokenizer.from_file(str(minilm / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    with gzip.open(source, "rt", encoding="utf-8") as file:
        pairs = [json.loads(line) for line in file]
    if len(pairs) < TRAIN + TEST:
        sys.exit(f"preferences: {source} has {len(pairs)} pairs")
    pairs = [{side: cut(pair[side], tokenizer, tokens) for side in ("chosen", "rejected")}
             for pair in pairs]
    # A run of `train_rm` evaluates on something: on a few pairs that it trains on, so that the test
    # pairs are scored once, by the finished model.
    parts = {"train": pairs[:TRAIN], "test": pairs[-TEST:], "few": pairs[:8]}
    for name, part in parts.items():
        write(HOME / f"{name}.jsonl", "".join(json.dumps(pair) + "\n" for pair in part))
    lengths = [len(tokenizer.encode(text).ids) for pair in pairs for text in pair.values()]
    write(made, json.dumps({"tokens": tokens, "mean_tokens": statistics.mean(lengths),
                            "most_tokens": max(lengths)}))


# Ours.


def ours(row, seed, arguments):
    """`train_rm`, then `score`: the rewards of the test pairs."""
    folder = HOME / f"{row}-{seed}"
    command = [arguments.examples / "train_rm", "--quiet", "--overwrite", "--strict",
               f"--data={HOME / 'train.jsonl'}", f"--eval-data={HOME / 'few.jsonl'}",
               f"--seed={seed}", f"--threads={arguments.threads}", f"--output={folder}"]
    if row == "minilm":
        command += [f"--backbone={arguments.minilm}", f"--max-length={arguments.tokens}",
                    f"--epochs={arguments.epochs}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    done = subprocess.run(
        [arguments.examples / "score", "--model", folder, "--input", HOME / "test.jsonl"],
        check=True, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(arguments.threads)})
    rewards = [json.loads(line)["rewards"] for line in done.stdout.splitlines()]
    recipe = HOME / f"recipe-{row}"
    if not recipe.exists():
        part = HOME / f"recipe-{row}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        for name in RECIPE:
            if (folder / name).exists():
                shutil.copy(folder / name, part)
        part.rename(recipe)
    config = json.loads((folder / "train_config.json").read_text())
    shutil.rmtree(folder)
    return rewards, config


# PyTorch.


def recipe_of(row):
    """The settings that ours was run with."""
    path = HOME / f"recipe-{row}" / "train_config.json"
    if not path.exists():
        sys.exit(f"preferences: {path} is not there: the first run of ours writes it")
    return settings(path)


def theirs(row, seed, arguments):
    """A plain loop: the rewards of the test pairs."""
    import torch
    import transformers
    from transformers import AutoConfig, AutoModelForSequenceClassification

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(arguments.threads)
    config = recipe_of(row)
    torch.manual_seed(seed)
    if row == "minilm":
        source = arguments.minilm
        model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=1)
    else:
        source = HOME / f"recipe-{row}"
        made = AutoConfig.from_pretrained(source)
        if made.num_labels != 1:
            sys.exit(f"preferences: {source} has {made.num_labels} outputs")
        model = AutoModelForSequenceClassification.from_config(made)
    if not config["dropout"]:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    train, test = (tokens_of(source, name) for name in ("train", "test"))

    def rewards(texts):
        lengths = torch.tensor([len(text) for text in texts])
        ids = torch.zeros(len(texts), int(lengths.max()), dtype=torch.long)
        for line, text in zip(ids, texts):
            line[: len(text)] = torch.tensor(text)
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        return model(input_ids=ids, attention_mask=mask).logits.squeeze(-1)

    adamw = optimizer(model, config)
    size, epochs = config["batch_size"], config["epochs"]
    lengths = [max(map(len, pair)) for pair in train]
    steps = -(-len(train) // size) * epochs
    model.train()
    for step, batch in enumerate(batches_of_run(lengths, size, seed, epochs), 1):
        scores = rewards([text for at in batch for text in train[at]]).view(-1, 2)
        loss = -torch.nn.functional.logsigmoid(scores[:, 0] - scores[:, 1]).mean()
        descend(model, adamw, loss, config, step, steps)
    model.eval()
    texts = [text for pair in test for text in pair]
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
    found = [0.0] * len(texts)
    with torch.no_grad():
        for start in range(0, len(order), 32):
            some = order[start : start + 32]
            for at, reward in zip(some, rewards([texts[at] for at in some]).tolist()):
                found[at] = reward
    return [found[at : at + 2] for at in range(0, len(found), 2)], config


def tokens_of(folder, name):
    """The pairs of a file as token ids."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return [[tokenizer.encode(pair[side]).ids for side in ("chosen", "rejected")]
            for pair in read(name)]


# The linear model.


def features(text, numbers, new):
    """The words of a text and its character bigrams, each once, as numbers; of what has none, those
    that are new if they may be."""
    text = text.lower()
    words = "".join(c if c.isalnum() or c == "'" else " " for c in text).split()
    padded = f" {text} "
    found = {("word", word) for word in words}
    found |= {("bigram", padded[at : at + 2]) for at in range(len(padded) - 1)}
    # A feature that was never seen in training weighs nothing, and is counted.
    ids = [numbers.setdefault(each, len(numbers)) if new else numbers.get(each, -1)
           for each in sorted(found)]
    return [at for at in ids if at >= 0], len(ids)


def linear(row, seed, arguments):
    """examples/linear_baseline.rs with its defaults, which also runs: the rewards of the test pairs."""
    import torch

    torch.set_num_threads(arguments.threads)
    numbers = {}
    train, test = ([[features(pair[side], numbers, name == "train") for side in ("chosen", "rejected")]
                    for pair in read(name)] for name in ("train", "test"))
    weights = torch.zeros(len(numbers), 1, requires_grad=True)
    adam = torch.optim.Adam([weights], lr=3e-2)

    def rewards(texts):
        starts, flat = [], []
        for ids, _ in texts:
            starts.append(len(flat))
            flat += ids
        sums = torch.nn.functional.embedding_bag(torch.tensor(flat), weights, torch.tensor(starts),
                                                 mode="sum")
        return sums.squeeze(-1) / torch.tensor([float(count) for _, count in texts]).sqrt()

    for epoch in range(5):
        for batch in length_grouped_batches([0] * len(train), 8, seed << 32 | epoch):
            scores = rewards([text for at in batch for text in train[at]]).view(-1, 2)
            adam.zero_grad()
            (-torch.nn.functional.logsigmoid(scores[:, 0] - scores[:, 1]).mean()).backward()
            adam.step()
    with torch.no_grad():
        found = rewards([text for pair in test for text in pair]).view(-1, 2).tolist()
    command = [arguments.examples / "linear_baseline", f"--data={HOME / 'train.jsonl'}",
               f"--eval-data={HOME / 'test.jsonl'}", f"--seed={seed}"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": str(arguments.threads)})
    example = float(re.search(r"accuracy ([0-9.]+)", done.stdout)[1])
    accuracy = statistics.mean(right(found))
    if abs(accuracy - example) > 0.01:
        sys.exit(f"preferences: linear_baseline gives {example}, the same in Python {accuracy:.4f}")
    return found, {"accuracy_of_the_example": example}


# The figures.


def right(rewards):
    """For each pair 1, 0, or a half where the rewards are equal."""
    return [((a > b) - (a < b) + 1) / 2 for a, b in rewards]


def difference(one, other):
    """Of two sides, by seed: the mean difference, its interval, and how many seeds it is of."""
    seeds = sorted(set(one) & set(other))
    if not seeds:
        return None
    pairs = [statistics.mean(one[seed][at] - other[seed][at] for seed in seeds)
             for at in range(TEST)]
    generator = random.Random(0)
    means = sorted(sum(generator.choices(pairs, k=TEST)) / TEST for _ in range(RESAMPLES))
    return {"difference": statistics.mean(pairs), "seeds": len(seeds),
            "low": means[round(0.025 * RESAMPLES)], "high": means[round(0.975 * RESAMPLES) - 1]}


def report(tokens):
    known = {}
    for row, sides in SIDES.items():
        for side in sides:
            for seed in SEEDS:
                path = RUNS / f"{row}-{side}-{seed}.json"
                if path.exists():
                    known.setdefault((row, side), {})[seed] = json.loads(path.read_text())
    outcomes = {key: {seed: right(run["rewards"]) for seed, run in runs.items()}
                for key, runs in known.items()}
    results = {"tokens": tokens, "pairs": {"train": TRAIN, "test": TEST}, "accuracy": [],
               "differences": []}
    lines = ["| start | side | " + " | ".join(f"seed {seed}" for seed in SEEDS) + " | mean |",
             "|---|---|" + "---|" * (len(SEEDS) + 1)]
    for (row, side), runs in outcomes.items():
        values = {seed: statistics.mean(run) for seed, run in runs.items()}
        mean = statistics.mean(values.values())
        results["accuracy"].append({"row": row, "side": side, "seeds": values, "mean": mean})
        each = " | ".join(f"{values[seed]:.4f}" if seed in values else "" for seed in SEEDS)
        lines.append(f"| {ROWS[row]} | {NAMES[side]} | {each} | {mean:.4f} |")
    lines += ["", "| difference of mean accuracies | seeds | mean | 95 % interval |", "|---|---|---|---|"]
    for row in ("minilm", "scratch"):
        for other in ((row, "torch"), ("linear", "linear")):
            found = difference(outcomes.get((row, "ours"), {}), outcomes.get(other, {}))
            if not found:
                continue
            results["differences"].append({"row": row, "other": other[1], **found})
            lines.append(f"| {ROWS[row]}: ours − {NAMES[other[1]]} | {found['seeds']} "
                         f"| {found['difference']:+.4f} | {found['low']:+.4f} to {found['high']:+.4f} |")
    write(HOME / "results.json", json.dumps(results, indent=1))
    write(HOME / "table.md", "\n".join(lines) + "\n")
    print("\n".join(lines), flush=True)


def names(text):
    return text.split(",")


def numbers(text):
    return [int(number) for number in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="DIR", default=os.environ.get("REWARD_MODEL_DATA"),
                        help=f"with {SOURCE} [default: $REWARD_MODEL_DATA]")
    parser.add_argument("--tokens", type=int, default=128, help="of the longest text [default: 128]")
    parser.add_argument("--epochs", type=int, default=1, help="of the row minilm [default: 1]")
    parser.add_argument("--seeds", type=numbers, default=SEEDS, help="[default: 0,1,2,3,4]")
    parser.add_argument("--rows", type=names, default=[*ROWS], help=f"of {', '.join(ROWS)}")
    parser.add_argument("--sides", type=names, default=[*NAMES], help=f"of {', '.join(NAMES)}")
    parser.add_argument("--threads", type=int, default=1, help="[default: 1]")
    parser.add_argument("--minilm", type=Path, default=ROOT / ".minilm", metavar="DIR")
    parser.add_argument("--examples", type=Path, metavar="DIR", help="where the examples are built",
                        default=ROOT / "target" / "release" / "examples")
    parser.add_argument("--python", type=Path, metavar="DIR",
                        help="an environment with torch and transformers [default: bench-peers']")
    parser.add_argument("--table", action="store_true", help="print what is known, and run nothing")
    arguments = parser.parse_args()
    python = environment(arguments.python)
    if Path(sys.executable) != Path(python).absolute():
        os.execv(python, [str(python), *sys.argv])
    RUNS.mkdir(parents=True, exist_ok=True)
    if not arguments.table:
        if not arguments.data:
            parser.error("--data or REWARD_MODEL_DATA names a folder")
        prepare(Path(arguments.data) / SOURCE, arguments.minilm, arguments.tokens)
    work = [(row, side, seed) for seed in arguments.seeds for row in ROWS
            for side in SIDES[row] if row in arguments.rows and side in arguments.sides]
    for row, side, seed in work:
        path = RUNS / f"{row}-{side}-{seed}.json"
        if arguments.table or path.exists():
            continue
        run = {"ours": ours, "torch": theirs, "linear": linear}[side]
        rewards, config = run(row, seed, arguments)
        if len(rewards) != TEST or any(len(pair) != 2 for pair in rewards):
            sys.exit(f"preferences: {row}, {side}, seed {seed}: not a reward for every text")
        write(path, json.dumps({"row": row, "side": side, "seed": seed, "config": config,
                                "rewards": rewards}))
        print(f"{row}, {side}, seed {seed}: {statistics.mean(right(rewards)):.4f}", flush=True)
    report(json.loads((HOME / "data.json").read_text())["tokens"])


if __name__ == "__main__":
    main()
