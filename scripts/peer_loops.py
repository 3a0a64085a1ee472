"""The peers of `make bench-peers`: bench_peers.py runs this file in an environment that has them.

    peer_loops.py JOB

JOB is a file of JSON: `peer` names a function below. A peer that is timed makes the check steps, one
pass to warm up, says so, and then a pass over the lists for every line it is sent.
"""

import json
import random
import sys
import time
from pathlib import Path

import torch

# Where everything is computed: a job may name another device, on which matrices are then bf16.
DEVICE = "cpu"
BETAS, EPSILON, DECAY, CLIP = (0.9, 0.999), 1e-8, 0.01, 1.0


def say(**what):
    print(json.dumps(what), flush=True)


def read(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def longest(texts):
    return max(map(len, texts))


def load(job):
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(
        job["model"], attn_implementation="sdpa", dtype=torch.float32)
    return model.to(DEVICE).train()


def set_dropout(model, on):
    """Sets every dropout of a model to what it was, or to 0; attention has its own."""
    for module in model.modules():
        name = "p" if isinstance(module, torch.nn.Dropout) else "dropout_prob"
        if hasattr(module, name):
            module.before = getattr(module, "before", getattr(module, name))
            setattr(module, name, module.before if on else 0.0)


# The plain loop.


def rows(texts):
    """Texts padded on the right to the longest, and where each ends."""
    lengths = torch.tensor([len(text) for text in texts])
    ids = torch.zeros(len(texts), int(lengths.max()), dtype=torch.long)
    for row, text in zip(ids, texts):
        row[: len(text)] = torch.tensor(text)
    return ids.to(DEVICE), lengths.to(DEVICE)


def precision():
    """f32, or what autocast makes of it with bf16 on a GPU."""
    return torch.autocast(torch.device(DEVICE).type, torch.bfloat16, enabled=DEVICE != "cpu")


def without_masks():
    """Padding comes last, so a causal model needs no mask. transformers makes one all the same where it
    is given none, to keep texts apart that are packed into a row; with it attention computes the
    whole square, and by a slower kernel."""
    from transformers.models.llama import modeling_llama
    from transformers.models.qwen2 import modeling_qwen2

    for module in (modeling_llama, modeling_qwen2):
        module.create_causal_mask = lambda *_, **__: None


def attends_causally(model):
    """Whether attention is told that it is causal, and given no mask."""
    told, attend = [], torch.nn.functional.scaled_dot_product_attention

    def watched(*tensors, attn_mask=None, is_causal=False, **more):
        told.append(attn_mask is None and is_causal)
        return attend(*tensors, attn_mask=attn_mask, is_causal=is_causal, **more)

    torch.nn.functional.scaled_dot_product_attention = watched
    try:
        with torch.no_grad():
            model.model(input_ids=torch.ones(2, 3, dtype=torch.long, device=DEVICE), use_cache=False)
    finally:
        torch.nn.functional.scaled_dot_product_attention = attend
    return bool(told) and all(told)


def decoder_scores(model):
    without_masks()
    if not attends_causally(model):
        sys.exit("peer_loops: this version of transformers masks attention that is causal anyway")

    def scores(ids, lengths):
        with precision():
            hidden = model.model(input_ids=ids, attention_mask=None,
                                 use_cache=False).last_hidden_state
        last = hidden[torch.arange(len(lengths), device=DEVICE), lengths - 1]
        return model.score(last.float()).squeeze(-1)

    return scores


def encoder_scores(model):
    def scores(ids, lengths):
        mask = (torch.arange(ids.shape[1], device=DEVICE) < lengths[:, None]).long()
        return model(input_ids=ids, attention_mask=mask).logits.squeeze(-1)

    return scores


def pairs_of(sizes):
    """Winners and losers of all pairs of all lists."""
    winners, losers, start = [], [], 0
    for size in sizes:
        pairs = torch.combinations(torch.arange(start, start + size))
        winners.append(pairs[:, 0])
        losers.append(pairs[:, 1])
        start += size
    return torch.cat(winners).to(DEVICE), torch.cat(losers).to(DEVICE)


def pair_loss(scores, winners, losers):
    """The mean over all pairs."""
    margins = scores[winners] - scores[losers]
    return -torch.nn.functional.logsigmoid(margins).mean()


class Loop:
    """Each response once, all pairs of a list from one forward; as many lists at once as is best."""

    def __init__(self, model, job, compiled=False):
        self.micro = job.get("micro")
        make = encoder_scores if hasattr(model, "bert") else decoder_scores
        self.scores = make(model)
        if compiled:
            self.scores = torch.compile(self.scores)
        groups = [([p for p in model.parameters() if (p.dim() > 1) is matrix], decay)
                  for matrix, decay in ((True, DECAY), (False, 0.0))]
        self.parameters = list(model.parameters())
        self.optimizer = torch.optim.AdamW(
            [{"params": parameters, "weight_decay": decay} for parameters, decay in groups],
            lr=job["learning_rate"], betas=BETAS, eps=EPSILON, fused=True)

    def step(self, lists):
        self.optimizer.zero_grad(set_to_none=True)
        losses = []
        # Lists of one size: the mean of the parts' means is that of the whole.
        for at in range(0, len(lists), self.micro or len(lists)):
            part = lists[at : at + (self.micro or len(lists))]
            ids, lengths = rows([text for texts in part for text in texts])
            pairs = pairs_of([len(texts) for texts in part])
            loss = pair_loss(self.scores(ids, lengths), *pairs) * (len(part) / len(lists))
            loss.backward()
            losses.append(loss.detach())
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, CLIP)
        self.optimizer.step()
        # Read at the end alone: a GPU is not to wait.
        return sum(losses).item(), norm.item()

    def choose(self, made, lists_per_step):
        """The number of lists a forward pass with which a pass over the data is fastest, once it is
        warm."""
        def time_of(micro):
            self.micro = micro
            batches = made()
            self.step(batches[0])
            start = time.perf_counter()
            for batch in batches:
                self.step(batch)
            return time.perf_counter() - start

        tried = [micro for micro in (1, 2, 4, 8) if lists_per_step % micro == 0]
        times = {micro: time_of(micro) for micro in tried}
        self.micro = min(times, key=times.get)


def batches(lists, size, order, generator):
    """By length (similar ones together, the batches in random order) or as chance has it."""
    lists = list(lists)
    generator.shuffle(lists)
    if order == "sorted":
        lists.sort(key=longest)
    made = [lists[at : at + size] for at in range(0, len(lists), size)]
    generator.shuffle(made)
    return made


def plain(job, compiled=False):
    model, lists = load(job), read(job["lists"])
    loop, generator = Loop(model, job, compiled), random.Random(job["seed"])
    made = lambda: batches(lists, job["lists_per_step"], job["order"], generator)
    if job.get("epochs"):
        return whole_run(job, model, loop, made)
    set_dropout(model, False)
    checked = [loop.step(lists[: job["check_lists"]]) for _ in range(job["check_steps"])]
    set_dropout(model, job["dropout"])
    if loop.micro is None:
        loop.choose(made, job["lists_per_step"])
    for batch in made():
        loop.step(batch)
    say(losses=[loss for loss, _ in checked], norms=[norm for _, norm in checked],
        micro=loop.micro)
    for _ in sys.stdin:
        start = time.perf_counter()
        for batch in made():
            loss, _ = loop.step(batch)
        say(seconds=time.perf_counter() - start, loss=loss)


def compiled(job):
    plain(job, compiled=True)


def whole_run(job, model, loop, made):
    """Trains along a line after a warm-up, and scores lists."""
    steps, step = job["epochs"] * len(made()), 0
    warmup = round(0.1 * steps)
    start = time.perf_counter()
    for _ in range(job["epochs"]):
        for batch in made():
            step += 1
            left = (steps + 1 - step) / (steps - warmup)
            for group in loop.optimizer.param_groups:
                group["lr"] = job["learning_rate"] * (step / warmup if step <= warmup else left)
            loop.step(batch)
    seconds = time.perf_counter() - start
    model.eval()
    with torch.no_grad():
        say(seconds=seconds, rewards=[loop.scores(*rows(texts)).tolist()
                                      for texts in read(job["held_out"])])


def scoring(job):
    """A list's texts in one padded batch, without a graph."""
    model = load(job).eval()
    scores, lists = decoder_scores(model), read(job["lists"])

    @torch.inference_mode()
    def run():
        return [scores(*rows(texts)).tolist() for texts in lists]

    say(rewards=run())
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        say(seconds=time.perf_counter() - start)


# Trainers of Hugging Face's kind.


def turns(steps, ready):
    """A callback that ends a pass every so many steps, says so, and waits to be sent a line."""
    from transformers import TrainerCallback

    class Turns(TrainerCallback):
        start = 0.0

        def on_step_end(self, arguments, state, control, **_):
            if state.global_step % steps:
                return
            seconds = time.perf_counter() - self.start
            say(**(ready if state.global_step == steps else {"seconds": seconds}))
            if not sys.stdin.readline():
                control.should_training_stop = True
            self.start = time.perf_counter()

    return Turns()


def arguments(job, micro, accumulation, steps):
    """What both trainers are told."""
    return {
        "output_dir": str(Path(job["model"]).parent / "trainer"), "use_cpu": True, "bf16": False,
        "gradient_checkpointing": False, "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": accumulation, "max_steps": steps,
        "learning_rate": job["learning_rate"], "lr_scheduler_type": "constant",
        "optim": "adamw_torch_fused", "weight_decay": DECAY, "max_grad_norm": CLIP,
        "adam_beta1": BETAS[0], "adam_beta2": BETAS[1], "adam_epsilon": EPSILON,
        "save_strategy": "no", "report_to": [], "disable_tqdm": True, "seed": job["seed"],
        "dataloader_pin_memory": False, "logging_strategy": "no",
    }


def checked(trainer):
    """Trains, and gives the losses and norms that were logged."""
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
    return {"losses": [entry["loss"] for entry in logged],
            "norms": [entry["grad_norm"] for entry in logged]}


def quiet():
    """What trainers print goes with the errors: standard output is for answers."""
    import transformers
    from transformers.trainer_callback import PrinterCallback

    transformers.logging.set_verbosity_error()
    PrinterCallback.on_log = lambda *_, **__: None


def trl(job):
    """All pairs of a list, each of its two texts forwarded."""
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from transformers import PreTrainedTokenizerFast
    from trl import RewardConfig, RewardTrainer

    quiet()
    model, lists, size = load(job), read(job["lists"]), job["lists_per_step"]
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=job["tokenizer"], pad_token="0",
                                        eos_token="1")

    class InOrder(RewardTrainer):
        def _get_train_sampler(self, dataset=None):
            return SequentialSampler(self.train_dataset if dataset is None else dataset)

    def trainer(lists, micro, steps, **more):
        """Of steps of so many lists, the pairs of a step by length."""
        pairs, per_step = [], 0
        for at in range(0, len(lists), size):
            step = [{"chosen_ids": a, "rejected_ids": b}
                    for texts in lists[at : at + size]
                    for i, a in enumerate(texts) for b in texts[i + 1 :]]
            per_step = len(step)
            pairs += sorted(step, key=lambda pair: longest(pair.values()))
        settings = arguments(job, micro, per_step // micro, steps) | more
        return InOrder(model=model, args=RewardConfig(max_length=None, **settings),
                       train_dataset=Dataset.from_list(pairs), processing_class=tokenizer)

    def time_of(micro, some):
        """Forward and backward of some pairs, the second time."""
        tried = trainer(lists, micro, 1)
        loader = iter(tried.get_train_dataloader())
        parts = [next(loader) for _ in range(max(some // micro, 1))]
        for _ in range(2):
            start = time.perf_counter()
            for part in parts:
                tried.compute_loss(model, part, num_items_in_batch=None).backward()
            seconds = time.perf_counter() - start
        model.zero_grad(set_to_none=True)
        return seconds / len(parts) / micro

    sizes = sum(len(texts) * (len(texts) - 1) // 2 for texts in lists[:size])
    tried = [micro for micro in (1, 2, 4, 8, 16, 32) if sizes % micro == 0]
    times = {micro: time_of(micro, min(sizes, 16)) for micro in tried}
    micro = min(times, key=times.get)
    check = trainer(lists[: job["check_lists"]], micro, job["check_steps"],
                    logging_strategy="steps", logging_steps=1)
    ready = checked(check) | {"micro": micro, "times": times}
    lists.sort(key=longest)
    main = trainer(lists[: job.get("trl_lists", len(lists))], micro, 1_000_000)
    main.add_callback(turns(len(lists[: job.get("trl_lists", len(lists))]) // size, ready))
    main.train()


def cross_encoder(job):
    """sentence-transformers, which tokenises as it trains."""
    from datasets import Dataset
    from sentence_transformers.cross_encoder import (
        CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments, losses)

    quiet()
    model = CrossEncoder(job["model"], num_labels=1, device="cpu")
    texts, size = read(job["texts"]), job["lists_per_step"]
    loss = losses.RankNetLoss(model, reduction_log="natural",
                              mini_batch_size=job.get("mini_batch_size"))

    def trainer(lists, steps, **more):
        data = Dataset.from_dict({
            "query": [""] * len(lists),
            "docs": lists,
            "labels": [[float(rank) for rank in reversed(range(len(docs)))] for docs in lists],
        })
        given = CrossEncoderTrainingArguments(**arguments(job, size, 1, steps) | more)
        return CrossEncoderTrainer(model=model, args=given, train_dataset=data, loss=loss)

    if job.get("epochs"):
        made = trainer(texts, -1, num_train_epochs=job["epochs"], lr_scheduler_type="linear",
                       warmup_steps=round(0.1 * job["epochs"] * -(-len(texts) // size)))
        start = time.perf_counter()
        made.train()
        seconds = time.perf_counter() - start
        rewards = [model.predict([("", doc) for doc in docs]).tolist()
                   for docs in read(job["held_out_texts"])]
        return say(seconds=seconds, rewards=rewards)
    set_dropout(model, False)
    ready = checked(trainer(texts[: job["check_lists"]], job["check_steps"],
                            logging_strategy="steps", logging_steps=1))
    set_dropout(model, job["dropout"])
    main = trainer(texts, 1_000_000)
    main.add_callback(turns(-(-len(texts) // size), ready))
    main.train()


# What all start from.


def make_decoder(job):
    """A decoder with random weights, and a tokenizer of numbers, which trainers want to see."""
    import tokenizers
    from transformers import (LlamaConfig, LlamaForSequenceClassification, Qwen2Config,
                              Qwen2ForSequenceClassification)

    torch.manual_seed(job["seed"])
    if job.get("large"):
        # That of Qwen2-0.5B.
        config = Qwen2Config(
            vocab_size=151936, hidden_size=896, num_hidden_layers=24, num_attention_heads=14,
            num_key_value_heads=2, intermediate_size=4864, max_position_embeddings=32768,
            num_labels=1, pad_token_id=0, bos_token_id=1, eos_token_id=1)
        Qwen2ForSequenceClassification(config).save_pretrained(job["model"])
        return
    config = LlamaConfig(
        vocab_size=job["vocabulary"], hidden_size=256, num_hidden_layers=6, num_attention_heads=4,
        intermediate_size=688, max_position_embeddings=1024, num_labels=1, pad_token_id=0,
        bos_token_id=1, eos_token_id=1)
    LlamaForSequenceClassification(config).save_pretrained(job["model"])
    words = tokenizers.models.WordLevel({str(n): n for n in range(job["vocabulary"])}, unk_token="0")
    tokenizers.Tokenizer(words).save(job["tokenizer"])


def make_encoder(job):
    """A pretrained encoder with a new head, and lists as its tokens."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(job["seed"])
    tokenizer = AutoTokenizer.from_pretrained(job["from"])
    model = AutoModelForSequenceClassification.from_pretrained(job["from"], num_labels=1)
    model.save_pretrained(job["model"])
    tokenizer.save_pretrained(job["model"])
    for source, target in job["files"]:
        lists = [tokenizer(texts)["input_ids"] for texts in read(source)]
        Path(target).write_text("".join(json.dumps(texts) + "\n" for texts in lists))


def main():
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    global DEVICE
    DEVICE = job.get("device", "cpu")
    globals()[job["peer"]](job)


if __name__ == "__main__":
    main()
