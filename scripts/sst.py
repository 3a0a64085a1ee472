#!/usr/bin/env python3
"""Ranked lists from the Stanford Sentiment Treebank (Socher et al. 2013).

    scripts/sst.py TREES DIR

TREES is the folder of the published trees (train.txt, dev.txt, test.txt, one tree a line, as in
trainDevTestTrees_PTB.zip). DIR gets sst5_train.tsv, sst5_dev.tsv and sst5_test.tsv: lists of five
sentences, one of each grade, very positive to very negative, paired at random within the split until
a grade is used up. That makes 1092, 139 and 279 lists.
"""

import argparse
import random
import re
from pathlib import Path

GRADES = 5


def sentences(file):
    """Each tree's grade and its words, lower-cased."""
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        tree = re.match(r"\(([0-4]) ", line)
        if not tree:
            raise SystemExit(f"{file}:{number}: not a tree of the treebank: {line[:60]!r}")
        yield int(tree[1]), " ".join(re.findall(r"([^\s()]+)\)", line)).lower()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trees", type=Path, metavar="TREES")
    parser.add_argument("into", type=Path, metavar="DIR")
    parser.add_argument("--seed", type=int, default=0, help="of the pairing [default: 0]")
    arguments = parser.parse_args()
    arguments.into.mkdir(parents=True, exist_ok=True)
    for split in ("train", "dev", "test"):
        grades = [[] for _ in range(GRADES)]
        for grade, text in sentences(arguments.trees / f"{split}.txt"):
            grades[grade].append(text)
        generator = random.Random(arguments.seed)
        for texts in grades:
            generator.shuffle(texts)
        lists = list(zip(*reversed(grades)))
        file = arguments.into / f"sst5_{split}.tsv"
        file.write_text("".join("\t".join(texts) + "\n" for texts in lists), encoding="utf-8")
        print(f"{file}: {len(lists)} lists")


if __name__ == "__main__":
    main()
