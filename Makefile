# `make train` and `make test` are all that most people need; afterwards plain cargo works.

PYTHON ?= python3
CARGO ?= cargo

.PHONY: help train test libtorch minilm minilm-table finetune test-python steps-python bench bench-peers accuracy preferences doc lint

help:
	@echo 'make train        set up libtorch, build, train on the lists in examples/data'
	@echo 'make test         set up libtorch, run the whole test suite; TCH=0.24: with libtorch 2.11.0'
	@echo 'make libtorch     set up libtorch alone; CUDA=1 for the CUDA build (3.6 GB)'
	@echo 'make finetune     what all-MiniLM-L6-v2 (91 MB) is worth for 10, 30 and 100 % of the labels'
	@echo 'make minilm       fetch all-MiniLM-L6-v2 (91 MB) for a test and for --backbone .minilm'
	@echo 'make minilm-table fine-tune it in three ways; LISTS=DIR with sst5_{train,dev,test}.tsv'
	@echo 'make test-python  compare rewards with transformers 4 and 5 (downloads them)'
	@echo 'make steps-python every step of a run beside a plain PyTorch loop in f64, on the same set-up'
	@echo 'make accuracy     held-out accuracy over three seeds, beside a linear model'
	@echo 'make preferences  accuracy on real preference data, beside PyTorch and a linear model;'
	@echo '                  LISTS=DIR with hh_harmless_test.jsonl.gz; ARGS="--rows ROW --seeds 0,1"'
	@echo 'make bench        time and memory of the loss, of batches and of loading'
	@echo 'make bench-peers  training steps beside PyTorch, TRL and CrossEncoder (downloads them);'
	@echo '                  LISTS=DIR with sst5_{train,test}.tsv; ARGS="--only ROW --repeats N"'
	@echo 'make gpu-bundle   scripts/gpu_check.sh for a machine with a GPU and torch, and without Rust'
	@echo 'make doc, lint    documentation; formatting, clippy and documentation warnings'

# TCH=0.24: the other pair that is supported, in a copy of this tree.
ifdef TCH
ifneq ($(filter-out libtorch test,$(or $(MAKECMDGOALS),help)),)
$(error TCH is for `make libtorch` and `make test`; for others: scripts/with_tch.py $(TCH) make GOAL)
endif
# Not by the name that make runs even where it is asked what it would do.
SELF := $(MAKE)
libtorch test:
	@$(PYTHON) scripts/with_tch.py $(TCH) $(SELF) $@
else
libtorch:
	@$(PYTHON) scripts/libtorch.py $(if $(CUDA),--cuda)

# In release, as everything else, so that tch is built once.
test: libtorch
	$(CARGO) test --release
endif

train: libtorch
	$(CARGO) run --release --example train_rm

finetune: libtorch minilm
	$(CARGO) run --release --example finetune

minilm:
	@$(PYTHON) scripts/minilm.py

minilm-table: libtorch
	$(CARGO) build --release --examples
	$(PYTHON) scripts/minilm.py --table $(LISTS)

test-python: libtorch
	$(CARGO) build --release --examples
	$(PYTHON) scripts/parity.py

steps-python: libtorch
	$(CARGO) build --release --examples
	$(PYTHON) scripts/steps.py $(ARGS)

accuracy: libtorch
	$(CARGO) build --release --examples
	$(PYTHON) scripts/accuracy.py $(LISTS)

preferences: libtorch minilm
	$(CARGO) build --release --examples
	$(PYTHON) scripts/preferences.py $(if $(LISTS),--data '$(LISTS)') $(ARGS)

bench: libtorch
	$(CARGO) bench

bench-peers: libtorch minilm
	CARGO='$(CARGO)' $(PYTHON) scripts/bench_peers.py $(if $(LISTS),--data '$(LISTS)') $(ARGS)

.PHONY: gpu-bundle
gpu-bundle:
	$(PYTHON) scripts/gpu_check/bundle.py

doc: libtorch
	$(CARGO) doc --release --no-deps --open

lint: libtorch
	$(CARGO) fmt --check
	$(CARGO) clippy --release --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --release --no-deps
