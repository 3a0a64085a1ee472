#!/usr/bin/env python3
"""Held-out pairwise accuracy of `train_rm` from random weights over three seeds, beside that of a
linear bag of words and character bigrams: `make accuracy`, or with files of your own
`scripts/accuracy.py --data train.tsv --eval-data test.tsv`.

It runs the release examples as they were built last, with their defaults.
"""

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent / "target" / "release" / "examples"
SEEDS = (0, 1, 2)


def run(name, *arguments):
    command = [EXAMPLES / name, *sys.argv[1:], *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def transformer(seed):
    with tempfile.TemporaryDirectory() as folder:
        run("train_rm", "--quiet", f"--output={folder}/model", f"--seed={seed}")
        metrics = json.loads(Path(folder, "model", "metrics.json").read_text())
        print(f"train_rm  seed {seed}: held-out loss after the last epoch {metrics['loss']:.4f}", flush=True)
        return metrics["pairwise_accuracy"]


def linear(seed):
    return float(re.search(r"accuracy ([0-9.]+)", run("linear_baseline", f"--seed={seed}"))[1])


for name, accuracy in [("train_rm", transformer), ("linear", linear)]:
    values = []
    started = time.monotonic()
    for seed in SEEDS:
        values.append(accuracy(seed))
    seconds = (time.monotonic() - started) / len(SEEDS)
    print(
        f"{name:<9} mean {statistics.mean(values):.4f}  of "
        + "  ".join(f"{value:.4f}" for value in values)
        + f"  ({seconds:.0f} s each)",
        flush=True,
    )
