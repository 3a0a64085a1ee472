#!/usr/bin/env python3
"""Makes tests/fixtures/models: tiny random models, and what transformers says of them.

    python scripts/fixtures.py [--only NAME]

Run by hand, with torch 2.11.0, once with transformers 4.57.6 and once with 5.23.0: each makes the
folders that are its own (MODELS says which), as its `save_pretrained` writes them. The results
are committed.

Each folder has a reference.json: texts, from one token to more than the window or the positions of
pretraining, shortest first; their logits one by one and in one padded batch; the last hidden states
of the last text; and for each parameter two numbers of its gradient g under one ranked list, best
first: its norm and its product with a direction that other languages can make too (`direction`). The
loss is -sum log sigmoid(r_i - r_j) over i < j, of each text's first output, without dropout and
without padding.

Weights are rounded to the dtype on disk, then cast to float64, in which everything is computed but
what transformers itself computes in float32: rotary angles and root-mean-square norms (and all of
a GPT-2 with `reorder_and_upcast_attn`, which works in nothing else).
"""

import argparse
import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

HOME = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "models"
LENGTHS = [1, 4, 9, 15, 24]

BERT = dict(
    vocab_size=60,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=40,
    max_position_embeddings=24,
)
ROBERTA = dict(BERT, max_position_embeddings=32)
DISTILBERT = dict(
    vocab_size=60, dim=32, n_layers=2, n_heads=4, hidden_dim=40, max_position_embeddings=24
)
GPT2 = dict(vocab_size=60, n_embd=32, n_layer=3, n_head=4, n_positions=24)
LLAMA = dict(
    vocab_size=60,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=40,
    max_position_embeddings=32,
)
# For what needs no other width.
SMALL = dict(LLAMA, hidden_size=16, num_attention_heads=2, num_key_value_heads=1, head_dim=16)
SMALL_BERT = dict(BERT, hidden_size=16, num_attention_heads=2)

YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=8)
LLAMA3 = dict(
    rope_type="llama3",
    factor=4.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=16,
)


def v4(kind, sizes, task="ForSequenceClassification", **options):
    return dict(major="4", kind=kind, task=task, sizes=sizes, options=options)


def v5(kind, sizes, task="ForSequenceClassification", **options):
    return dict(v4(kind, sizes, task, **options), major="5")


# `disk`: how the weights are written. `inside`: a token to put in the middle of texts, `last`: one
# to end them with. `segments`: how many there are in the texts. Whatever else is configuration.
MODELS = {
    "bert": v4("bert", BERT, num_labels=1, segments=2),
    "bert-old-names": v4(
        "bert",
        BERT,
        disk="gamma",
        hidden_act="gelu_new",
        type_vocab_size=3,
        segments=3,
        layer_norm_eps=1e-5,
        classifier_dropout=0.3,
        num_labels=3,
        inside=0,
    ),
    "bert-masked-lm": v4("bert", SMALL_BERT, "ForMaskedLM", segments=2),
    "bert-base": v5("bert", SMALL_BERT, "Model", segments=2, hidden_act="quick_gelu"),
    "bert-v5": v5("bert", BERT, num_labels=1, segments=2, tie_word_embeddings=False),
    "roberta": v4("roberta", ROBERTA, num_labels=1, segments=2, inside=1),
    "roberta-sharded": v4(
        "roberta",
        ROBERTA,
        disk="shards",
        pad_token_id=5,
        hidden_act="relu",
        type_vocab_size=1,
        num_labels=3,
        inside=5,
        layer_norm_eps=1e-5,
    ),
    "roberta-base": v4("roberta", dict(SMALL_BERT, max_position_embeddings=32), "Model"),
    "xlm-roberta-f16": v4(
        "xlm-roberta", ROBERTA, disk="float16", type_vocab_size=1, hidden_act="silu", num_labels=1
    ),
    "xlm-roberta-pad-0": v4(
        "xlm-roberta",
        ROBERTA,
        pad_token_id=0,
        num_labels=3,
        segments=2,
        inside=0,
        classifier_dropout=0.2,
    ),
    "xlm-roberta-masked-lm": v4(
        "xlm-roberta", dict(SMALL_BERT, max_position_embeddings=32), "ForMaskedLM"
    ),
    "distilbert-sines": v4("distilbert", DISTILBERT, sinusoidal_pos_embds=True, num_labels=1),
    "distilbert": v4(
        "distilbert",
        DISTILBERT,
        activation="relu",
        seq_classif_dropout=0.4,
        num_labels=3,
        inside=0,
    ),
    "distilbert-masked-lm": v4("distilbert", dict(DISTILBERT, dim=16, n_heads=2), "ForMaskedLM"),
    "gpt2": v4("gpt2", dict(GPT2, n_layer=2), num_labels=1, last=59, eos_token_id=59),
    "gpt2-scales": v4(
        "gpt2",
        GPT2,
        n_inner=40,
        activation_function="relu",
        scale_attn_weights=False,
        scale_attn_by_inverse_layer_idx=True,
        layer_norm_epsilon=1e-4,
        num_labels=3,
        eos_token_id=7,
        pad_token_id=7,
        inside=7,
        last=7,
    ),
    "gpt2-reordered": v4(
        "gpt2",
        dict(GPT2, n_embd=16, n_head=2),
        scale_attn_by_inverse_layer_idx=True,
        reorder_and_upcast_attn=True,
        num_labels=1,
    ),
    "gpt2-lm": v4("gpt2", dict(GPT2, n_embd=16, n_head=2), "LMHeadModel"),
    "llama": v4(
        "llama", LLAMA, attention_bias=True, mlp_bias=True, num_labels=1, last=2, inside=2
    ),
    "llama-bf16": v4(
        "llama",
        LLAMA,
        disk="bfloat16",
        head_dim=12,
        rope_theta=500.0,
        rope_scaling=LLAMA3,
        hidden_act="gelu",
        rms_norm_eps=1e-5,
        num_labels=3,
        pad_token_id=2,
        inside=2,
        last=2,
    ),
    "llama-linear": v4(
        "llama", SMALL, num_labels=1, rope_scaling=dict(type="linear", factor=3.0)
    ),
    "llama-dynamic": v4(
        "llama",
        dict(SMALL, max_position_embeddings=12),
        num_labels=1,
        rope_scaling=dict(rope_type="dynamic", factor=2.0),
    ),
    "llama-yarn": v4("llama", SMALL, num_labels=1, rope_scaling=YARN),
    "llama-yarn-attention-factor": v5(
        "llama",
        SMALL,
        num_labels=1,
        rope_parameters=dict(YARN, attention_factor=0.8, rope_theta=300.0, beta_fast=4.0),
    ),
    "llama-lm": v4("llama", SMALL, "ForCausalLM", tie_word_embeddings=True),
    "llama-v5": v5(
        "llama",
        dict(LLAMA, num_key_value_heads=4),
        num_labels=1,
        rope_parameters=dict(LLAMA3, rope_theta=200.0),
    ),
    "mistral": v4(
        "mistral", dict(LLAMA, head_dim=12), sliding_window=6, num_labels=1, pad_token_id=0
    ),
    "mistral-dynamic": v4(
        "mistral",
        dict(LLAMA, max_position_embeddings=12, num_key_value_heads=1, head_dim=8),
        sliding_window=None,
        hidden_act="gelu_pytorch_tanh",
        rope_scaling=dict(rope_type="dynamic", factor=4.0),
        rope_theta=1000.0,
        num_labels=3,
    ),
    "mistral-lm": v5("mistral", SMALL, "ForCausalLM", sliding_window=5),
    "qwen2": v4("qwen2", LLAMA, num_labels=1, sliding_window=5, tie_word_embeddings=True),
    "qwen2-window": v4(
        "qwen2",
        dict(LLAMA, num_hidden_layers=3),
        use_sliding_window=True,
        sliding_window=5,
        max_window_layers=1,
        rope_scaling=dict(YARN, mscale=0.707, mscale_all_dim=1.4, truncate=False),
        num_labels=3,
        eos_token_id=3,
        pad_token_id=3,
        last=3,
    ),
    "qwen2-base": v4("qwen2", SMALL, "Model"),
    "qwen3": v4(
        "qwen3", dict(LLAMA, head_dim=12), attention_bias=True, rms_norm_eps=1e-4, num_labels=1
    ),
    "qwen3-layer-types": v4(
        "qwen3",
        dict(LLAMA, num_hidden_layers=3, head_dim=16, num_key_value_heads=1),
        use_sliding_window=True,
        sliding_window=4,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        rope_scaling=dict(rope_type="yarn", factor=2.0, beta_slow=0.5),
        num_labels=3,
    ),
    "qwen3-v5": v5(
        "qwen3",
        dict(SMALL, max_position_embeddings=12),
        num_labels=1,
        use_sliding_window=True,
        sliding_window=7,
        max_window_layers=1,
        rope_parameters=dict(rope_type="dynamic", factor=3.0, rope_theta=5000.0),
    ),
    "qwen3-lm": v4("qwen3", SMALL, "ForCausalLM"),
}


def direction(name, count):
    """`count` numbers from -1 to 1: the splitmix64 of the name's FNV-1a hash plus i + 1 steps."""
    mask = (1 << 64) - 1
    hashed = 0xCBF29CE484222325
    for byte in name.encode():
        hashed = (hashed ^ byte) * 0x100000001B3 & mask
    with np.errstate(over="ignore"):
        z = np.uint64(hashed) + np.uint64(0x9E3779B97F4A7C15) * np.arange(
            1, count + 1, dtype=np.uint64
        )
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) / 2.0**52 - 1.0


def randomise(model, seed):
    """Values large enough for every token to matter in the logits."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "position_embeddings" in name and getattr(
                model.config, "sinusoidal_pos_embds", False
            ):
                continue
            norm = parameter.dim() == 1 and name.endswith("weight")
            parameter.normal_(1.0 if norm else 0.0, 0.25)


def texts_for(vocab, seed, segments, inside, last):
    """A token ends texts only if it is `last`; `inside` stands in every text but the first."""
    random = np.random.default_rng(seed)
    texts = []
    for length in LENGTHS:
        ids = random.integers(8, vocab - 1, length)
        if inside is not None and length > 1:
            ids[length // 3 :: 5] = inside
            ids[-1] = 8
        if last is not None:
            ids[-1] = last
        kinds = np.sort(random.integers(0, segments, length))
        texts.append(dict(ids=ids.tolist(), segments=kinds.tolist()))
    return texts


def inputs(config, text):
    fields = dict(input_ids=torch.tensor([text["ids"]]))
    if getattr(config, "type_vocab_size", 1) > 1:
        fields["token_type_ids"] = torch.tensor([text["segments"]])
    return fields


def padded(config, texts, pad):
    """One batch of all texts, padded on the right."""
    longest = max(len(text["ids"]) for text in texts)

    def rows(values, fill):
        return torch.tensor([row + [fill] * (longest - len(row)) for row in values])

    fields = dict(
        input_ids=rows([text["ids"] for text in texts], pad),
        attention_mask=rows([[1] * len(text["ids"]) for text in texts], 0),
    )
    if getattr(config, "type_vocab_size", 1) > 1:
        fields["token_type_ids"] = rows([text["segments"] for text in texts], 0)
    return fields


def load(folder, auto=AutoModelForSequenceClassification):
    """The model of a folder, in float32; all its tensors must be there, and no others."""
    kind = AutoConfig.from_pretrained(folder).model_type
    model, information = auto.from_pretrained(
        folder,
        dtype=torch.float32,
        # transformers 4 scales GPT-2's scores as the file says only with this.
        attn_implementation="eager" if kind == "gpt2" else "sdpa",
        output_loading_info=True,
    )
    if auto is AutoModelForSequenceClassification:
        wrong = {what: names for what, names in information.items() if names}
        assert not wrong, f"{folder}: {wrong}"
    return model.eval()


def is_dynamic(config):
    return "dynamic" in json.dumps(config.to_dict(), default=str)


def one_by_one(model, texts):
    """The logits of each text, and its last hidden states, connected to the graph.

    Texts come shortest first: with dynamic rope the model keeps the frequencies of the longest text
    that it has seen.
    """
    pad, found = model.config.pad_token_id, []
    if not hasattr(model.config, "hidden_dropout_prob") and model.config.model_type != "distilbert":
        # A decoder that knows of padding looks for the last token by id, and errs where the pad
        # token ends a text.
        model.config.pad_token_id = None
    for text in texts:
        result = model(**inputs(model.config, text), output_hidden_states=True)
        found.append((getattr(result, "logits", None), result.hidden_states[-1][0]))
    model.config.pad_token_id = pad
    return found


def in_a_batch(model, texts):
    """The logits of all texts in a padded batch, where Python's are right; None elsewhere."""
    if is_dynamic(model.config):
        return None
    before = pad = model.config.pad_token_id
    if pad is None or any(text["ids"][-1] == pad for text in texts):
        pad = model.config.vocab_size - 1
        if any(text["ids"][-1] == pad for text in texts):
            pad -= 1
    model.config.pad_token_id = pad
    logits = model(**padded(model.config, texts, pad)).logits
    model.config.pad_token_id = before
    return logits


def gradients(model, rewards):
    loss = -sum(
        torch.nn.functional.logsigmoid(rewards[i] - rewards[j])
        for i in range(len(rewards))
        for j in range(i + 1, len(rewards))
    )
    loss.backward()
    found = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            gradient = parameter.grad.flatten().double().numpy()
            product = float(gradient @ direction(name, gradient.size))
            found[name] = [float(np.linalg.norm(gradient)), product]
    return found


def rewrite(folder, disk):
    if disk == "gamma":
        file = folder / "model.safetensors"
        tensors = load_file(file)
        old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        for name in list(tensors):
            for new_name, old_name in old.items():
                if name.endswith(new_name):
                    tensors[name.replace(new_name, old_name)] = tensors.pop(name)
        save_file(tensors, file, {"format": "pt"})


def make(name, spec):
    options = dict(spec["options"])
    disk = options.pop("disk", "float32")
    segments, inside, last = (options.pop(key, None) for key in ("segments", "inside", "last"))
    config = AutoConfig.for_model(spec["kind"], **spec["sizes"], **options)
    stem = AutoModel.from_config(config).__class__.__name__.removesuffix("Model")
    seed = zlib.crc32(name.encode())

    folder = HOME / name
    shutil.rmtree(folder, ignore_errors=True)
    model = getattr(transformers, stem + spec["task"])(config)
    randomise(model, seed)
    if disk in ("float16", "bfloat16"):
        model.to(getattr(torch, disk))
    shards = {"max_shard_size": "40KB"} if disk == "shards" else {}
    model.save_pretrained(folder, **shards)
    (folder / "generation_config.json").unlink(missing_ok=True)
    rewrite(folder, disk)

    ranks = spec["task"] == "ForSequenceClassification"
    auto = AutoModelForSequenceClassification if ranks else AutoModel
    model = load(folder, auto)
    if not getattr(config, "reorder_and_upcast_attn", False):
        model = model.double()
    texts = texts_for(config.vocab_size, seed, segments or 1, inside, last)
    found = one_by_one(model, texts)
    reference = dict(
        transformers=transformers.__version__,
        texts=texts,
        hidden=[[float(f"{x:.9g}") for x in row] for row in found[-1][1].tolist()],
    )
    if ranks:
        logits = torch.cat([logits for logits, _ in found])
        batched = in_a_batch(model, texts)
        reference["logits"] = logits.tolist()
        reference["batched"] = None if batched is None else batched.tolist()
        reference["gradients"] = gradients(model, logits[:, 0])
        print(f"{name}: rewards {logits[:, 0].min():.2f} to {logits[:, 0].max():.2f}")
        if batched is not None:
            print(f"    batch differs by {(batched - logits).abs().max():.1e}")
    (folder / "reference.json").write_text(json.dumps(reference, separators=(",", ":")) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="the folder to make [default: all of this version]")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    major = transformers.__version__.split(".")[0]
    for name, spec in MODELS.items():
        if spec["major"] == major and arguments.only in (None, name):
            make(name, spec)


if __name__ == "__main__":
    main()
