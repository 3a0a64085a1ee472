"""Qwen2 with a scalar head in plain PyTorch, and its weights as a Hugging Face folder.

Parameters are f32. Matrices are multiplied in the dtype of the embeddings' output (bf16 on a GPU), norms
and rotations are computed in f32, and so is the head: what our own model does, so that both can be
compared step by step.
"""

import ctypes
import json
import mmap

import torch
from torch import nn
from torch.nn import functional as F

EPSILON, BASE = 1e-6, 1e6
# Hidden size, queries' heads, keys' heads, inner size, layers, vocabulary.
FIELDS = ("hidden_size", "num_attention_heads", "num_key_value_heads", "intermediate_size",
          "num_hidden_layers", "vocab_size")


class Linear(nn.Linear):
    def forward(self, x):
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype), bias)


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.rms_norm(x.float(), self.weight.shape, self.weight, EPSILON).to(x.dtype)


def rotations(positions, width):
    """Cosines and sines of positions, for all heads: `[positions, 1, width / 2]`."""
    powers = torch.arange(0, width, 2, device=positions.device, dtype=torch.float32) / width
    angles = (positions.float()[:, None] / BASE**powers)[:, None, :]
    return angles.cos(), angles.sin()


def turn(x, rotation):
    """Heads, `[..., tokens, heads, width]`, turned by where they are."""
    cos, sin = rotation
    a, b = x.float().chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, hidden, heads, keys, width):
        super().__init__()
        self.width = width
        self.q_proj = Linear(hidden, heads * width)
        self.k_proj = Linear(hidden, keys * width)
        self.v_proj = Linear(hidden, keys * width)
        self.o_proj = Linear(heads * width, hidden, bias=False)

    def forward(self, x, rotation, attend):
        q, k, v = (projection(x).unflatten(-1, (-1, self.width))
                   for projection in (self.q_proj, self.k_proj, self.v_proj))
        return self.o_proj(attend(turn(q, rotation), turn(k, rotation), v).flatten(-2))


class Mlp(nn.Module):
    def __init__(self, hidden, inner):
        super().__init__()
        self.gate_proj = Linear(hidden, inner, bias=False)
        self.up_proj = Linear(hidden, inner, bias=False)
        self.down_proj = Linear(inner, hidden, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, hidden, heads, keys, inner):
        super().__init__()
        self.input_layernorm = Norm(hidden)
        self.self_attn = Attention(hidden, heads, keys, hidden // heads)
        self.post_attention_layernorm = Norm(hidden)
        self.mlp = Mlp(hidden, inner)

    def forward(self, x, rotation, attend):
        x = x + self.self_attn(self.input_layernorm(x), rotation, attend)
        return x + self.mlp(self.post_attention_layernorm(x))


class Body(nn.Module):
    def __init__(self, hidden, heads, keys, inner, layers, vocabulary):
        super().__init__()
        self.width = hidden // heads
        self.embed_tokens = nn.Embedding(vocabulary, hidden)
        self.layers = nn.ModuleList(Layer(hidden, heads, keys, inner) for _ in range(layers))
        self.norm = Norm(hidden)

    def forward(self, ids, positions, attend, dtype):
        x = self.embed_tokens(ids).to(dtype)
        rotation = rotations(positions, self.width)
        for layer in self.layers:
            x = layer(x, rotation, attend)
        return x


class Qwen2(nn.Module):
    """`attend` is given queries, keys and values, `[..., tokens, heads, width]`: in rows of padded texts
    or in one of all texts, end to end."""

    def __init__(self, shape):
        super().__init__()
        self.model = Body(*shape)
        self.score = Linear(shape[0], 1, bias=False)

    def forward(self, ids, positions, last, attend, dtype):
        """The rewards of the texts whose last tokens are at `last`, an index of all but the width."""
        hidden = self.model(ids, positions, attend, dtype)
        return self.score(self.model.norm(hidden[last]).float()).squeeze(-1)


def deviation(name, parameter):
    """Of random weights, such that mistakes show: attention has preferences, biases and norms differ. (A
    matrix of Qwen2-0.5B's width has the usual 0.02.)"""
    if parameter.dim() == 1 or "embed" in name:
        return 0.02
    return (1.5 if "q_proj" in name or "k_proj" in name else 0.6) / parameter.shape[1] ** 0.5


def make(folder, shape, seed, device):
    """A folder with random weights."""
    with torch.device("meta"):
        parameters = dict(Qwen2(shape).named_parameters())
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, parameter in parameters.items():
        end = at + 4 * parameter.numel()
        header[name] = {"dtype": "F32", "shape": list(parameter.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = torch.Generator(device).manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, parameter in parameters.items():
            values = torch.empty(parameter.shape, device=device)
            mean = 1.0 if "norm" in name else 0.0
            values.normal_(mean, deviation(name, parameter), generator=generator)
            values = values.cpu()
            file.write((ctypes.c_char * values.nbytes).from_address(values.data_ptr()))
    config = {"model_type": "qwen2", "architectures": ["Qwen2ForSequenceClassification"],
              "hidden_act": "silu", "max_position_embeddings": 32768, "rms_norm_eps": EPSILON,
              "rope_theta": BASE, "attention_dropout": 0.0, "use_sliding_window": False,
              "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0},
              "tie_word_embeddings": True, "dtype": "float32"} | dict(zip(FIELDS, shape))
    (folder / "config.json").write_text(json.dumps(config, indent=1))


def load(folder, device):
    """The model of such a folder."""
    config = json.loads((folder / "config.json").read_text())
    with torch.device("meta"):
        model = Qwen2([config[field] for field in FIELDS])
    with open(folder / "model.safetensors", "rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])

    def tensor(shape, data_offsets, **_):
        size = (data_offsets[1] - data_offsets[0]) // 4
        values = torch.frombuffer(data, dtype=torch.float32, count=size, offset=start + data_offsets[0])
        return values.reshape(shape).to(device, copy=True)

    weights = {name: tensor(**entry) for name, entry in header.items() if name != "__metadata__"}
    model.load_state_dict(weights, assign=True)
    return model
