#![cfg(feature = "train")]
//! A real pretrained model, all-MiniLM-L6-v2, on real text. Needs `make minilm` and the folder
//! `REWARD_MODEL_DATA` with `sst5_train.tsv` and `sst5_dev.tsv`; says so and does nothing without.

use std::io::Write;
use std::path::{Path, PathBuf};

use reward_model::text::Tokenizer;
use reward_model::{data, Event, LoadOptions, RewardModel, TrainConfig, Trainer, Transformer};

#[test]
fn sixty_steps_teach_it_more_than_a_linear_model_ever_learns() {
    let backbone = Path::new(env!("CARGO_MANIFEST_DIR")).join(".minilm");
    let lists = std::env::var_os("REWARD_MODEL_DATA").map(PathBuf::from);
    let (true, Some(lists)) = (backbone.exists(), lists) else {
        let _ =
            writeln!(std::io::stderr(), "skipped: it needs `make minilm` and REWARD_MODEL_DATA");
        return;
    };
    let model = Transformer::load(&backbone, &LoadOptions::default()).unwrap();
    let loaded = model.loaded().unwrap();
    assert_eq!(loaded.drawn, ["classifier.weight", "classifier.bias"]);
    assert_eq!(loaded.left_out, ["embeddings.position_ids"]);
    let numbers: usize = model.parameters().iter().map(|(_, tensor)| tensor.numel()).sum();
    // 22 713 216 of its own and a head of 384 + 1.
    assert_eq!(numbers, 22_713_601);

    let train = data::read(lists.join("sst5_train.tsv")).unwrap();
    let held_out = data::read(lists.join("sst5_dev.tsv")).unwrap();
    let config = TrainConfig { epochs: 1, ..TrainConfig::default() };
    let tokenizer = Tokenizer::load(&backbone).unwrap();
    let mut trainer = Trainer::new(Box::new(model), tokenizer, config).unwrap();
    let mut steps = 0;
    let evaluation = trainer
        .train(&train[..480], &held_out, &mut |event| {
            steps += u32::from(matches!(event, Event::Step(_)));
            Ok(())
        })
        .unwrap();
    assert_eq!(steps, 60);
    // The linear model of examples/linear_baseline.rs gets 0.75 from all 1092 lists.
    let accuracy = evaluation.metrics.pairwise_accuracy.unwrap();
    assert!(accuracy > 0.77, "{accuracy}");
}
