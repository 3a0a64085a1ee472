#!/usr/bin/env python3
"""Does Python read the folders that we write, and give the same rewards? `make test-python`.

Trains a small model with `train_rm`, scores texts and prompt-response pairs with `score`, and
compares with `AutoTokenizer` and `AutoModelForSequenceClassification` of the last transformers 4
and of a recent transformers 5. Each lives in a folder under target/python, downloaded once.

The same with decoders of random weights and byte-level BPE tokenizers that name their pad token in
different ways, or name none, made by Python and trained by `train_rm`.

Then, from tokens on, with every model of tests/fixtures/models, read and saved by this crate. That we
read the folders that Python writes, and agree with it, is tests/parity.rs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "target" / "python"
EXAMPLES = ROOT / "target" / "release" / "examples"
TORCH = "torch==2.11.0"
TRANSFORMERS = {"4": "transformers==4.57.6", "5": "transformers==5.23.0"}
TOLERANCE = 1e-5
# Of models of every type, whose rewards are of order 1.
ROUND_TRIP_TOLERANCE = 1e-5

# Of every kind and length: one character to more tokens than half the model's room, English,
# Chinese, both, digits, accents, punctuation, emoji, spelled-out special tokens, no prompt.
TEXTS = [
    (None, "Superb!"),
    (None, "a"),
    (None, "好"),
    (None, "I would come back tomorrow, and the day after, and the one after that."),
    (None, "It arrived broken. The second one did too. I gave up and asked for my money back."),
    (None, "这家店的牛肉面真好吃，老板也很热情，下次还会再来。"),
    (None, "等了一个小时，菜是凉的，服务员还不理人。再也不会来了！"),
    (None, "还行吧，没有想象中那么好，也不算差。"),
    (None, "The café's crème brûlée: naïve, déjà vu; 10/10 für Größe."),
    (None, "UPPER CASE and lower case, MiXeD."),
    (None, "快递 3 天就到了, 包装 OK, 质量 so-so"),
    (None, "😀👍🏽 nice 🚀"),
    (None, "[SEP] is a token, so is [CLS], and [MASK]; [UNK] [PAD] too"),
    (None, "tabs\tand\nnew lines\r\n are   white   space"),
    (None, "supercalifragilisticexpialidocious antidisestablishmentarianism"),
    (None, "$19.99 (was $24.50) — 20% off! #deal @home http://example.com/?a=b&c=d"),
    (None, "word " * 100),
    (None, "很" * 120),
    (None, "it's don't won't can't shouldn't've"),
    (None, "１２３ ＡＢＣ ｆｕｌｌｗｉｄｔｈ 「」、。"),
    ("How was the hotel?", "Clean, quiet, ten steps from the sea."),
    ("How was the hotel?", "Never again."),
    ("这家酒店怎么样？", "房间很干净，早餐也不错。"),
    ("这家酒店怎么样？", "隔音太差，一夜没睡。"),
    ("Is it worth the money?", "不值"),
    ("值得买吗？", "Yes, buy it."),
    ("?", "!"),
    ("A question that goes on " * 12, "Short answer."),
    ("Short?", "An answer that goes on " * 20),
    ("一个很长的问题" * 12, "一个很长的回答" * 10),
    (" ", "a prompt of one space"),
    ("[CLS] hello", "world [SEP]"),
    ("line one\nline two", "line three\nline four"),
    ("Tell me about the 2nd edition.", "The 2nd edition, 1987, has 312 pages."),
    ("¿Qué tal?", "Muy bien, señor."),
    ("Что нового?", "Ничего."),
    ("こんにちは", "ありがとう"),
    ("안녕", "고마워"),
    ("😀", "😡"),
    ("Would you recommend it?", "I would, to anyone who likes rain."),
]


# How Qwen's tokenizer splits words.
QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# How a decoder's folder names its pad token: as a token of its own, not at all, as the EOS token.
DECODERS = {"qwen2": "own", "gpt2": "none", "llama": "eos"}


def packages(specification, name, *options):
    """A folder with a package, for PYTHONPATH; downloaded once."""
    home = HOME / name
    if not (home / "complete").exists():
        print(f"downloading {specification}", file=sys.stderr)
        python = HOME / "venv" / "bin" / "python"
        if not python.exists():
            venv.create(HOME / "venv", with_pip=True)
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*command, *options, f"--target={home}", specification], check=True)
        (home / "complete").touch()
    return str(home)


def ours(model):
    lists = [{"responses": [text]} if prompt is None else {"prompt": prompt, "responses": [text]}
             for prompt, text in TEXTS]
    lines = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in lists)
    command = [EXAMPLES / "score", "--model", model]
    done = subprocess.run(command, input=lines, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line)["rewards"][0] for line in done.stdout.splitlines()]


def theirs(model):
    """Runs in the other Python: its rewards, one by one and in one padded batch."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    network = transformers.AutoModelForSequenceClassification.from_pretrained(model).eval()

    decoder = network.config.model_type in DECODERS

    def rewards(texts):
        if decoder:
            # As the model card has it.
            arguments = [[(prompt or "") + text + tokenizer.eos_token for prompt, text in texts]]
        elif any(prompt is not None for prompt, _ in texts):
            arguments = [[prompt for prompt, _ in texts], [text for _, text in texts]]
        else:
            arguments = [[text for _, text in texts]]
        with torch.no_grad():
            batch = tokenizer(*arguments, padding=True, return_tensors="pt")
            return network(**batch).logits.squeeze(-1).tolist()

    alone = [reward for text in TEXTS for reward in rewards([text])]
    single = [text for text in TEXTS if text[0] is None]
    paired = [text for text in TEXTS if text[0] is not None]
    print(
        json.dumps(
            {
                "transformers": transformers.__version__,
                "torch": torch.__version__,
                "tokenizer": type(tokenizer).__name__,
                "alone": alone,
                "batch": rewards(single) + rewards(paired),
            }
        )
    )


def make_decoders(home):
    """Runs in the other Python: small decoders with random weights, and their tokenizers."""
    import tokenizers
    import torch
    import transformers

    torch.manual_seed(0)
    words = [part for text in TEXTS for part in text if part]
    for model_type, pad in DECODERS.items():
        bpe = tokenizers.ByteLevelBPETokenizer()
        if model_type == "qwen2":
            # Python 5 splits words in Qwen's way, whatever the folder says.
            bpe.normalizer = tokenizers.normalizers.NFC()
            bpe.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
                tokenizers.pre_tokenizers.Split(tokenizers.Regex(QWEN_WORDS), "isolated"),
                tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ])
        special = ["<|end|>", "<|pad|>"] if pad == "own" else ["<|end|>"]
        bpe.train_from_iterator(words, vocab_size=600, min_frequency=1, special_tokens=special,
                                show_progress=False)
        names = {"eos_token": "<|end|>"}
        if pad != "none":
            names["pad_token"] = special[-1]
        folder = Path(home, model_type)
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=bpe._tokenizer, model_max_length=200, **names
        ).save_pretrained(folder)
        if model_type == "gpt2":
            # A class of its own, which overrules tokenizer.json.
            file = folder / "tokenizer_config.json"
            file.write_text(json.dumps(json.loads(file.read_text()) | {
                "tokenizer_class": "GPT2TokenizerFast", "add_prefix_space": True,
                "bos_token": "<|end|>", "unk_token": "<|end|>",
            }))
        size = {"vocab_size": bpe.get_vocab_size(), "eos_token_id": 0, "bos_token_id": 0}
        if model_type == "gpt2":
            size |= {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 200}
        else:
            size |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
                     "num_key_value_heads": 2, "intermediate_size": 64,
                     "max_position_embeddings": 200}
        config = transformers.AutoConfig.for_model(model_type, **size, initializer_range=0.2)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def train(output, *flags):
    """A model folder as `train_rm` writes it."""
    command = [EXAMPLES / "train_rm", "--quiet", "--threads", "1", "--output", output, *flags]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return output


def save_all(home):
    """Every model of tests/fixtures/models as this crate saves it, with its rewards."""
    command = "cargo test --release --quiet --test parity -- --ignored writes_every_model_for_python"
    subprocess.run(
        command.split(),
        cwd=ROOT,
        env={**os.environ, "REWARD_MODEL_ROUND_TRIP": home},
        stdout=subprocess.DEVNULL,
        check=True,
    )


def their_round_trips(home):
    """Runs in the other Python: how far its rewards are from ours, by folder."""
    import fixtures
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    found = {}
    for folder in sorted(Path(home).iterdir()):
        model = fixtures.load(folder)
        texts = json.loads((fixtures.HOME / folder.name / "reference.json").read_text())["texts"]
        ours = torch.tensor(json.loads((folder / "ours.json").read_text()))
        with torch.no_grad():
            alone = torch.cat([logits for logits, _ in fixtures.one_by_one(model, texts)])
            batch = fixtures.in_a_batch(model, texts)
        found[folder.name] = {
            "alone": (alone - ours).abs().max().item(),
            # None where Python itself depends on the padding.
            "batch": 0.0 if batch is None else (batch - ours).abs().max().item(),
        }
    print(json.dumps(found))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a model folder [default: one is trained for this]")
    parser.add_argument("--theirs", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--their-round-trips", metavar="HOME", help=argparse.SUPPRESS)
    parser.add_argument("--make-decoders", metavar="HOME", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.theirs:
        return theirs(arguments.model)
    if arguments.their_round_trips:
        return their_round_trips(arguments.their_round_trips)
    if arguments.make_decoders:
        return make_decoders(arguments.make_decoders)

    with tempfile.TemporaryDirectory() as folder:
        torch = packages(TORCH, "torch")
        paths = {
            major: os.pathsep.join([packages(specification, f"transformers-{major}"), torch])
            for major, specification in TRANSFORMERS.items()
        }

        def ask(major, *question):
            done = subprocess.run(
                [HOME / "venv" / "bin" / "python", __file__, *question],
                env={**os.environ, "PYTHONPATH": paths[major]},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            return json.loads(done.stdout.strip() or "null")

        if arguments.model:
            models = {"the model": arguments.model}
        else:
            models = {"bert": train(f"{folder}/bert", "--epochs", "10")}
            ask("4", "--make-decoders", f"{folder}/sources")
            for model_type, pad in DECODERS.items():
                output = f"{folder}/{model_type}"
                source = ["--backbone", f"{folder}/sources/{model_type}", "--learning-rate", "1e-3"]
                models[f"{model_type}, pad token: {pad}"] = train(output, "--epochs", "1", *source)
        expected = {name: ours(model) for name, model in models.items()}
        round_trips = f"{folder}/round-trips"
        save_all(round_trips)
        worst, worst_trip = 0.0, 0.0
        for major in TRANSFORMERS:
            for name, model in models.items():
                found = ask(major, "--theirs", "--model", model)
                largest = {
                    way: max(abs(a - b) for a, b in zip(expected[name], found[way], strict=True))
                    for way in ("alone", "batch")
                }
                print(
                    f"transformers {found['transformers']}, torch {found['torch']}, "
                    f"{found['tokenizer']} ({name}): largest difference of {len(TEXTS)} rewards "
                    f"{largest['alone']:.1e} one by one, {largest['batch']:.1e} in a padded batch"
                )
                worst = max(worst, *largest.values())
            trips = ask(major, "--their-round-trips", round_trips)
            largest = {
                way: max((trip[way], name) for name, trip in trips.items())
                for way in ("alone", "batch")
            }
            print(
                f"    {len(trips)} models of every type, saved by us: largest difference "
                + ", ".join(f"{by:.1e} {way} ({name})" for way, (by, name) in largest.items())
            )
            worst_trip = max(worst_trip, *(by for by, _ in largest.values()))
        for name, rewards in expected.items():
            print(f"{name}: rewards from {min(rewards):+.3f} to {max(rewards):+.3f}")
    if not worst <= TOLERANCE:
        sys.exit(f"rewards differ by {worst:.1e}, more than {TOLERANCE:.0e}")
    if not worst_trip <= ROUND_TRIP_TOLERANCE:
        sys.exit(f"rewards of a saved model differ by {worst_trip:.1e}")


if __name__ == "__main__":
    main()
