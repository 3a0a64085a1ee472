"""What a training run of this crate does, in Python, for comparisons with a plain PyTorch loop: which
lists share a step and in which order the steps come (src/text/batching.rs, src/text/random.rs), the
learning rate of each (src/train/schedule.rs), and which parameters decay (src/train/optimizer.rs).
"""

import json
import math
import struct
import sys

BATCHES_SORTED_TOGETHER = 16
MASK = 0xFFFFFFFF


def _rotated(x, by):
    return (x << by | x >> (32 - by)) & MASK


def _chacha8(seed):
    """64-bit numbers of ChaCha with 8 rounds, whose key is the seed and then zeros."""
    key = struct.unpack("<8L", seed.to_bytes(8, "little") + bytes(24))
    counter = 0
    while True:
        block = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574, *key, counter & MASK,
                 counter >> 32, 0, 0]
        x = block[:]
        for _ in range(4):
            for a, b, c, d in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
                               (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
                for left, right in ((16, 12), (8, 7)):
                    x[a] = (x[a] + x[b]) & MASK
                    x[d] = _rotated(x[d] ^ x[a], left)
                    x[c] = (x[c] + x[d]) & MASK
                    x[b] = _rotated(x[b] ^ x[c], right)
        words = [(a + b) & MASK for a, b in zip(x, block)]
        for low, high in zip(words[::2], words[1::2]):
            yield high << 32 | low
        counter += 1


def _shuffle(items, numbers):
    for last in range(len(items) - 1, 0, -1):
        other = next(numbers) * (last + 1) >> 64
        items[last], items[other] = items[other], items[last]


def length_grouped_batches(lengths, batch_size, seed):
    """Every index of `lengths` once: `reward_model::text::length_grouped_batches`."""
    numbers = _chacha8(seed % 2**64)
    order = list(range(len(lengths)))
    _shuffle(order, numbers)
    full = len(order) - len(order) % batch_size
    batches = []
    for start in range(0, full, batch_size * BATCHES_SORTED_TOGETHER):
        together = order[start : min(start + batch_size * BATCHES_SORTED_TOGETHER, full)]
        together.sort(key=lambda item: lengths[item])
        batches += [together[at : at + batch_size] for at in range(0, len(together), batch_size)]
    _shuffle(batches, numbers)
    return batches + ([order[full:]] if full < len(order) else [])


def batches_of_run(lengths, batch_size, seed, epochs):
    """The batches of every epoch, one after the other, as `Trainer` goes through them; the length of
    a list is that of its longest text, in tokens."""
    for epoch in range(1, epochs + 1):
        yield from length_grouped_batches(lengths, batch_size, seed + (epoch << 32))


def settings(path):
    """The settings of a run, from its train_config.json; those that a plain loop does not follow are
    refused."""
    config = json.loads(path.read_text())
    plain = {"trains": "all", "layer_decay": 1.0, "head_learning_rate": None, "keep_best": False,
             "patience": None}
    unusual = {name: config[name] for name, value in plain.items() if config.get(name) != value}
    unusual |= {name: value for name, value in config["loss"].items()
                if name in ("label_smoothing", "centering") and value}
    if unusual:
        sys.exit(f"recipe: {path} has {unusual}, which a plain loop has not")
    return config


def rate(config, step, steps):
    """The learning rate of a step, from 1 to the last."""
    peak, floor = config["learning_rate"], config["learning_rate_floor"]
    warmup = math.floor(config["warmup_ratio"] * steps + 0.5)
    if step <= warmup:
        return peak * step / warmup
    left = (steps + 1 - step) / max(steps - warmup, 1)
    share = {"constant": 1.0, "linear": floor + (1 - floor) * left,
             "cosine": floor + (1 - floor) * (1 - math.cos(math.pi * left)) / 2}
    return peak * share[config["schedule"]]


def optimizer(model, config):
    """AdamW, which does not decay what has one dimension."""
    import torch

    groups = [{"params": [p for p in model.parameters() if (p.dim() > 1) is matrix],
               "weight_decay": config["weight_decay"] if matrix else 0.0} for matrix in (True, False)]
    return torch.optim.AdamW(groups, lr=config["learning_rate"], eps=config["epsilon"],
                             betas=(config["beta1"], config["beta2"]), fused=True)


def descend(model, optimizer, loss, config, step, steps):
    """One step down the gradient of a loss; the gradient's norm, before it is clipped."""
    import torch

    for group in optimizer.param_groups:
        group["lr"] = rate(config, step, steps)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config["max_grad_norm"])
    optimizer.step()
    return norm.item()
