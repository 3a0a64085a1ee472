"""The PyTorch loops beside which `scripts/gpu_check.sh` times ours: check.py runs this file.

    loops.py JOB

JOB is the file of JSON that our program reads, and in it `packed` says which loop it is. Either makes
the check steps, chooses how many lists go through the model at once, makes one pass over the lists to
warm up, says so, and then a pass for every line it is sent, but for `rest`: then it gives the GPU
back what it keeps for later, so that the others find room.
"""

import json
import random
import sys
import time
from inspect import signature
from pathlib import Path

import qwen2
import torch
from torch.nn import functional as F

# As our trainer has them.
BETAS, EPSILON, DECAY, CLIP = (0.9, 0.999), 1e-8, 0.01, 1.0
# How far another attention may be from that of one text at a time, in bf16 and by the largest number.
TRIAL = 2e-2


def say(**what):
    print(json.dumps(what), flush=True)


def causal(q, k, v):
    """Of rows: padding comes last, so that causal attention needs no mask."""
    q, k, v = (x.transpose(-3, -2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(-3, -2)


# Attention of texts that lie end to end: queries, keys, values, where texts start and end, their lengths.


def text_by_text(q, k, v, _, lengths):
    parts = zip(*(x.split(lengths) for x in (q, k, v)))
    return torch.cat([causal(*(x[None] for x in part))[0] for part in parts])


def varlen(q, k, v, ends, lengths):
    from torch.nn.attention.varlen import varlen_attn

    longest = max(lengths)
    # Since 2.12 it wants to be told of what it could do before.
    shared = {"enable_gqa": True} if "enable_gqa" in signature(varlen_attn).parameters else {}
    return varlen_attn(q, k, v, ends, ends, longest, longest, window_size=(-1, 0), **shared)


def varlen_of_all_heads(q, k, v, ends, lengths):
    """The same, where it does not know that several queries' heads may share a key's."""
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    return varlen(q, k, v, ends, lengths)


def aten_flash(q, k, v, ends, lengths):
    """The operator below."""
    longest = max(lengths)
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    return torch.ops.aten._flash_attention_forward(
        q, k, v, ends, ends, longest, longest, 0.0, True, return_debug_mask=False)[0]


PACKED = {
    "torch.nn.attention.varlen.varlen_attn": varlen,
    "torch.nn.attention.varlen.varlen_attn, keys and values repeated": varlen_of_all_heads,
    "aten._flash_attention_forward, keys and values repeated": aten_flash,
}
BY_TEXT = "scaled_dot_product_attention, a text at a time"


def boundaries(lengths, device):
    ends = torch.zeros(len(lengths) + 1, dtype=torch.int32)
    ends[1:] = torch.tensor(lengths).cumsum(0)
    return ends.to(device)


def packed_attention(model, device):
    """The first that gives, in both directions, what one text at a time does; and why others did not."""
    refused = {}
    if device == "cpu":
        return BY_TEXT, text_by_text, refused
    attention, lengths = model.model.layers[0].self_attn, [70, 1, 200]
    width, ends = attention.width, boundaries(lengths, device)
    heads = [projection.out_features // width
             for projection in (attention.q_proj, attention.k_proj, attention.v_proj)]
    given = [torch.randn(sum(lengths), count, width, device=device, dtype=torch.bfloat16)
             for count in heads]
    slope = torch.randn_like(given[0])

    def tried(attend):
        leaves = [x.clone().requires_grad_() for x in given]
        out = attend(*leaves, ends, lengths)
        return [out.detach(), *torch.autograd.grad(out, leaves, slope)]

    expected = tried(text_by_text)
    for name, attend in PACKED.items():
        try:
            apart = max(((a - b).abs().max() / b.abs().max()).item()
                        for a, b in zip(tried(attend), expected, strict=True))
            if apart <= TRIAL:
                return name, attend, refused
            refused[name] = f"{apart:.1e} from one text at a time"
        except Exception as error:  # Whatever it is, the next may do.
            refused[name] = f"{type(error).__name__}: {error}"[:200]
    return BY_TEXT, text_by_text, refused


class Loop:
    """Each response forwarded once, all pairs of a list from its scores."""

    def __init__(self, job):
        self.device = job.get("device", "cpu")
        self.dtype = torch.float32 if self.device == "cpu" else torch.bfloat16
        self.model = qwen2.load(Path(job["model"]), self.device)
        self.micro, self.packed = job["lists_per_step"], job["packed"]
        self.attention, self.refused = "scaled_dot_product_attention, causal, padded rows", {}
        if self.packed:
            self.attention, self.attend, self.refused = packed_attention(self.model, self.device)
        self.parameters = list(self.model.parameters())
        groups = [{"params": [p for p in self.parameters if (p.dim() > 1) is matrix],
                   "weight_decay": decay} for matrix, decay in ((True, DECAY), (False, 0.0))]
        self.optimizer = torch.optim.AdamW(groups, lr=job["learning_rate"], betas=BETAS, eps=EPSILON,
                                           fused=True)

    def scores(self, texts):
        lengths = [len(text) for text in texts]
        if self.packed:
            ids = torch.tensor([id for text in texts for id in text])
            positions = torch.cat([torch.arange(length) for length in lengths])
            ends = boundaries(lengths, self.device)
            last = (ends[1:].long() - 1,)
            attend = lambda q, k, v: self.attend(q, k, v, ends, lengths)
        else:
            ids = torch.zeros(len(texts), max(lengths), dtype=torch.long)
            for row, text in zip(ids, texts):
                row[: len(text)] = torch.tensor(text)
            positions, attend = torch.arange(max(lengths)), causal
            last = (torch.arange(len(texts)).to(self.device),
                    (torch.tensor(lengths) - 1).to(self.device))
        return self.model(ids.to(self.device), positions.to(self.device), last, attend, self.dtype)

    def step(self, lists):
        self.optimizer.zero_grad(set_to_none=True)
        losses = []
        # Lists of one size: the mean of the parts' means is that of the whole.
        for at in range(0, len(lists), self.micro):
            part = lists[at : at + self.micro]
            scores = self.scores([text for texts in part for text in texts]).view(len(part), -1)
            winners, losers = torch.triu_indices(scores.shape[1], scores.shape[1], 1,
                                                 device=self.device)
            margins = scores[:, winners] - scores[:, losers]
            loss = -F.logsigmoid(margins).mean() * (len(part) / len(lists))
            loss.backward()
            losses.append(loss.detach())
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, CLIP)
        self.optimizer.step()
        # Read at the end alone: a GPU is not to wait.
        return sum(losses).item(), norm.item()

    def passed(self, batches):
        """Seconds of a pass."""
        self.wait()
        start = time.perf_counter()
        for batch in batches:
            self.step(batch)
        self.wait()
        return time.perf_counter() - start

    def wait(self):
        if self.device != "cpu":
            torch.cuda.synchronize()

    def choose(self, batches):
        """The number of lists a forward pass with which a pass is fastest, once it is warm."""
        times = {}
        for micro in [micro for micro in (1, 2, 4) if len(batches[0]) % micro == 0]:
            self.micro = micro
            try:
                self.step(batches[0])
                times[micro] = self.passed(batches)
            except torch.OutOfMemoryError:
                break
        self.micro = min(times, key=times.get)
        # What other sizes took is none of the chosen one's memory.
        self.rest()

    def rest(self):
        if self.device != "cpu":
            self.optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def batches(lists, size, generator):
    """Similar lengths together, the batches in random order."""
    lists = list(lists)
    generator.shuffle(lists)
    lists.sort(key=lambda texts: max(map(len, texts)))
    made = [lists[at : at + size] for at in range(0, len(lists), size)]
    generator.shuffle(made)
    return made


def main():
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    torch.manual_seed(job["seed"])
    loop, generator = Loop(job), random.Random(job["seed"])
    lists = [json.loads(line) for line in Path(job["lists"]).read_text().splitlines()]
    made = lambda: batches(lists, job["lists_per_step"], generator)
    checked = [loop.step(lists[: job["check_lists"]]) for _ in range(job["check_steps"])]
    loop.choose(made())
    loop.passed(made())
    peak = None if loop.device == "cpu" else torch.cuda.max_memory_allocated()
    say(losses=[loss for loss, _ in checked], norms=[norm for _, norm in checked],
        lists_per_forward=loop.micro, attention=loop.attention, refused=loop.refused,
        peak_allocated_bytes=peak)
    for line in sys.stdin:
        if line.strip() == "rest":
            loop.rest()
            say(rested=True)
            continue
        # Memory is asked for again before time counts.
        loop.step(made()[0])
        seconds = loop.passed(made())
        loop.rest()
        say(seconds=seconds)


if __name__ == "__main__":
    main()
