#!/usr/bin/env python3
"""Every step of a run beside a plain PyTorch loop in f64: `make steps-python`.

From equal weights, on the same lists in the same order and without dropout, the loss of every step of
`train_rm`, which computes in f32, must be within 1e-5 of the loop's, relative to it. The loop goes by
`AutoTokenizer` and `AutoModelForSequenceClassification` of transformers: a forward pass of all texts of
a step, padded; the mean of -log sigmoid of the differences over each list's pairs that are not tied,
then over lists; AdamW with decay of matrices, clipping, a warm-up and a linear schedule (recipe.py).

Two small models with random weights, which transformers makes: a BERT with WordPiece, to which prompt
and response are a pair, and a Qwen2 with byte-level BPE, in which the responses of a list share a
prompt. The data are the 270 lists of examples/data: 3 to 6 responses, some with a prompt, some tied,
texts of all lengths; 3 epochs are 102 steps. transformers computes norms and rotary angles of Qwen2 in
f32 whatever the model's dtype; here they are in f64 too. The same loop in f32 shows how far rounding
alone takes PyTorch from itself.

Losses of all steps go to target/steps/steps.json. It runs the release example as it was built last.
"""

import argparse
import collections
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import parity
from recipe import batches_of_run, descend, optimizer, settings

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "target" / "steps"
DATA = ROOT / "examples" / "data" / "train.jsonl"
MODELS = ("bert", "qwen2")
HIDDEN, LAYERS, HEADS, INNER, VOCABULARY = 64, 2, 4, 160, 1200
EPOCHS = 3
TOLERANCE = 1e-5


def read(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def texts_of(lists):
    return [text for each in lists for text in [each.get("prompt"), *each["responses"]] if text]


# In the Python that has torch.


def make(home):
    """Models with random weights, and their tokenizers."""
    import tokenizers
    import torch
    import transformers

    torch.manual_seed(0)
    texts = texts_of(read(DATA))
    common = {"hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
              "intermediate_size": INNER, "max_position_embeddings": 512, "num_labels": 1}

    tokenizer = transformers.BertTokenizerFast(tokenizer_object=word_pieces(texts)._tokenizer)
    config = transformers.BertConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id,
                                     **common)
    save(Path(home, "bert"), tokenizer, transformers.BertForSequenceClassification(config))

    bpe = tokenizers.ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts, vocab_size=VOCABULARY, special_tokens=["<|end|>", "<|pad|>"],
                            show_progress=False)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, eos_token="<|end|>", pad_token="<|pad|>")
    config = transformers.Qwen2Config(
        vocab_size=len(tokenizer), num_key_value_heads=HEADS // 2, eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, **common)
    save(Path(home, "qwen2"), tokenizer, transformers.Qwen2ForSequenceClassification(config))


def word_pieces(texts):
    """BERT's tokenizer, whose pieces are the most frequent words and all characters: one that is
    trained numbers its pieces in another order every time."""
    import tokenizers

    bare = tokenizers.BertWordPieceTokenizer()
    words = collections.Counter(
        word for text in texts
        for word, _ in bare.pre_tokenizer.pre_tokenize_str(bare.normalizer.normalize_str(text)))
    letters = sorted({letter for word in words for letter in word})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters)]
    longer = sorted((word for word in words if len(word) > 1), key=lambda word: (-words[word], word))
    pieces += longer[:VOCABULARY]
    return tokenizers.BertWordPieceTokenizer({piece: at for at, piece in enumerate(pieces)})


def save(folder, tokenizer, model):
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


def in_float64():
    """Norms and rotary angles of Qwen2 in the dtype of what they are given."""
    import torch
    from transformers.models.qwen2 import modeling_qwen2

    def norm(self, x):
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.variance_epsilon)

    def angles(self, x, position_ids):
        width = 2 * len(self.inv_freq)
        powers = torch.arange(0, width, 2, dtype=x.dtype) / width
        angles = position_ids[..., None].to(x.dtype) * self.config.rope_theta**-powers
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos(), angles.sin()

    modeling_qwen2.Qwen2RMSNorm.forward = norm
    modeling_qwen2.Qwen2RotaryEmbedding.forward = angles


def encoded(tokenizer, lists, pairs):
    """Of each list the arguments of the tokenizer's texts, one by one: as a pair with the prompt, or as
    what follows it up to the EOS token."""
    def one(prompt, response):
        if pairs:
            return tokenizer(prompt, response) if prompt else tokenizer(response)
        return tokenizer((prompt or "") + response + tokenizer.eos_token)

    return [[one(each.get("prompt"), response) for response in each["responses"]] for each in lists]


def ranks_of(each):
    return each.get("ranks") or list(range(len(each["responses"])))


def loop(folder, config, dtype):
    """The loss and the gradient's norm of every step of a plain loop."""
    import torch
    import transformers

    lists = read(DATA)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    model = model.to(getattr(torch, dtype)).train()
    for module in model.modules():
        # The last two are attention's own.
        for name in ("p", "dropout_prob", "attention_dropout"):
            if hasattr(module, name):
                setattr(module, name, 0.0)
    tokens = encoded(tokenizer, lists, model.config.model_type == "bert")
    lengths = [max(len(text["input_ids"]) for text in texts) for texts in tokens]
    size, epochs = config["batch_size"], config["epochs"]
    steps = -(-len(lists) // size) * epochs
    adamw, losses, norms = optimizer(model, config), [], []
    for step, batch in enumerate(batches_of_run(lengths, size, config["seed"], epochs), 1):
        inputs = tokenizer.pad([text for at in batch for text in tokens[at]], return_tensors="pt")
        scores = model(**inputs).logits.squeeze(-1)
        means, start = [], 0
        for at in batch:
            ranks = ranks_of(lists[at])
            pairs = [(start + i, start + j) for i, a in enumerate(ranks) for j, b in enumerate(ranks)
                     if a < b]
            winners, losers = torch.tensor(pairs).T
            means.append(-torch.nn.functional.logsigmoid(scores[winners] - scores[losers]).mean())
            start += len(ranks)
        loss = torch.stack(means).mean()
        losses.append(loss.item())
        norms.append(descend(model, adamw, loss, config, step, steps))
    return {"losses": losses, "norms": norms}


def theirs(home, changes):
    """The loops of all models, in f32 and then in f64."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    configs = {name: settings(Path(home, f"{name}-trained", "train_config.json")) | json.loads(changes)
               for name in MODELS}
    torch.set_num_threads(configs[MODELS[0]]["threads"])
    narrow = {name: loop(Path(home, name), configs[name], "float32") for name in MODELS}
    in_float64()
    wide = {name: loop(Path(home, name), configs[name], "float64") for name in MODELS}
    print(json.dumps({name: {"float32": narrow[name], "float64": wide[name]} for name in MODELS}))


# In any Python.


def ours(folder, output, arguments):
    """The same of `train_rm`."""
    # A run evaluates on something: on one list, here.
    few = Path(output + ".jsonl")
    few.write_text(json.dumps(read(DATA)[0]) + "\n", encoding="utf-8")
    command = [arguments.examples / "train_rm", "--quiet", "--no-dropout", "--strict", "--threads", "1",
               "--seed", "7", "--epochs", str(EPOCHS), "--learning-rate", str(arguments.learning_rate),
               "--backbone", folder, "--data", DATA, "--eval-data", few, "--output", output]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    events = [event for event in read(Path(output, "events.jsonl")) if event["event"] == "step"]
    return {"losses": [event["loss"] for event in events],
            "norms": [event["grad_norm"] for event in events]}


def apart(one, other):
    """The largest relative difference of two runs' losses, and its step."""
    differences = (abs(a / b - 1) for a, b in zip(one["losses"], other["losses"], strict=True))
    # A NaN compares as nothing; it is as far as can be.
    return max((math.inf if math.isnan(by) else by, step) for step, by in enumerate(differences, 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--learning-rate", type=float, default=5e-4, help="[default: 5e-4]")
    parser.add_argument("--examples", type=Path, metavar="DIR", help="where the examples are built",
                        default=ROOT / "target" / "release" / "examples")
    parser.add_argument("--python", metavar="FILE", help="a Python with torch and transformers "
                        "[default: that of make test-python]")
    parser.add_argument("--change", metavar="NAME=VALUE", action="append", default=[],
                        help="a setting that the loop has otherwise than ours, such as "
                        "weight_decay=0: to see what a mistake would look like")
    parser.add_argument("--make", metavar="HOME", help=argparse.SUPPRESS)
    parser.add_argument("--theirs", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        return make(arguments.make)
    if arguments.theirs:
        return theirs(*arguments.theirs)

    python, environment = arguments.python, dict(os.environ)
    if not python:
        paths = [parity.packages(parity.TRANSFORMERS["4"], "transformers-4"),
                 parity.packages(parity.TORCH, "torch")]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        python = parity.HOME / "venv" / "bin" / "python"

    def ask(*question):
        done = subprocess.run([python, __file__, *question], env=environment, check=True,
                              stdout=subprocess.PIPE, text=True)
        return json.loads(done.stdout.strip() or "null")

    HOME.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME) as home:
        ask("--make", home)
        found = {name: ours(f"{home}/{name}", f"{home}/{name}-trained", arguments) for name in MODELS}
        changes = {name: json.loads(value) for name, _, value in
                   (change.partition("=") for change in arguments.change)}
        loops = ask("--theirs", home, json.dumps(changes))
        results = {name: {"ours": found[name], **loops[name]} for name in MODELS}
    (HOME / "steps.json").write_text(json.dumps(results, indent=1))

    print(f"{EPOCHS} epochs, learning rate {arguments.learning_rate:g}; largest relative difference of a "
          "step's loss from that of PyTorch in f64\n")
    print("| model | steps | clipped | mean loss of the first and the last ten | ours, f32 | in step | "
          "PyTorch, f32 | in step |\n" + "|---" * 8 + "|")
    worst = 0.0
    for name, result in results.items():
        wide = result["float64"]
        losses, clipped = wide["losses"], sum(norm > 1 for norm in wide["norms"])
        (of_ours, step), (of_theirs, their_step) = (apart(result[side], wide)
                                                    for side in ("ours", "float32"))
        print(f"| {name} | {len(losses)} | {clipped} | {statistics.mean(losses[:10]):.3f}, "
              f"{statistics.mean(losses[-10:]):.3f} | {of_ours:.1e} | {step} | {of_theirs:.1e} "
              f"| {their_step} |")
        worst = max(worst, of_ours)
    if not worst <= TOLERANCE:
        sys.exit(f"steps: losses differ by {worst:.1e}, more than {TOLERANCE:.0e}")


if __name__ == "__main__":
    main()
