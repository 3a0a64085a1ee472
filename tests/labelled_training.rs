#![cfg(feature = "train")]
//! Fine-tuning on labelled texts: classes and numbers.

use reward_model::tch::{Device, Kind, Tensor};
use reward_model::text::Tokenizer;
use reward_model::{
    Classification, EncoderConfig, Event, Label, LabelledText, LoadOptions, Mode, Objective,
    Regression, RewardModel, Scorer, TokenBatch, TrainConfig, Trainer, Transformer,
};

const WORDS: [&str; 3] = ["awful", "fair", "superb"];

fn texts(label: impl Fn(usize) -> Label) -> Vec<LabelledText> {
    let things = ["the soup", "a film", "this lamp", "my train", "the sea"];
    (0..30)
        .map(|n| {
            let text = format!("{} {}", things[n % 5], WORDS[n / 5 % 3]);
            let text = LabelledText::new(text, label(n / 5 % 3)).unwrap();
            if n % 2 == 0 {
                text.with_prompt("how was it?")
            } else {
                text
            }
        })
        .collect()
}

fn tokenizer() -> Tokenizer {
    let all = texts(Label::Class);
    Tokenizer::train(all.iter().map(LabelledText::text).chain(["how was it?"]), 200).unwrap()
}

fn model(outputs: i64) -> Transformer {
    let config = EncoderConfig {
        vocab_size: tokenizer().vocab_size() as i64,
        hidden_size: 16,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        intermediate_size: 32,
        num_labels: outputs,
        initializer_range: 0.1,
        ..EncoderConfig::default()
    };
    Transformer::random(config, 1, Device::Cpu).unwrap()
}

fn fit<O: Objective<Example = LabelledText>>(
    objective: &O,
    outputs: i64,
    texts: &[LabelledText],
) -> (Trainer, O::Evaluation) {
    let config =
        TrainConfig { epochs: 30, learning_rate: 1e-2, threads: Some(1), ..TrainConfig::default() };
    let mut trainer = Trainer::new(Box::new(model(outputs)), tokenizer(), config).unwrap();
    let evaluation = trainer.fit(objective, texts, texts, &mut |_| Ok(())).unwrap();
    (trainer, evaluation)
}

fn raw(model: &dyn RewardModel, text: &LabelledText) -> Vec<f64> {
    let text = tokenizer().encode(text.prompt(), text.text()).unwrap();
    let batch = TokenBatch::from_texts([&text]).unwrap();
    let outputs = model.forward(&batch, Mode::Evaluation).unwrap();
    Vec::try_from(outputs.detach().to_kind(Kind::Double).view([-1])).unwrap()
}

#[test]
fn classes_are_learned_and_the_folder_keeps_its_outputs() {
    let texts = texts(Label::Class);
    let objective = Classification { classes: 3 };
    let (trainer, evaluation) = fit(&objective, 3, &texts);
    assert_eq!(evaluation.metrics.accuracy, Some(1.0));
    assert_eq!(evaluation.metrics.macro_f1, Some(1.0));
    assert_eq!(evaluation.metrics.confusion, [[10, 0, 0], [0, 10, 0], [0, 0, 10]]);
    assert!(evaluation.loss.unwrap() < 0.1, "{evaluation:?}");

    let folder = tempfile::tempdir().unwrap();
    trainer.save(folder.path().join("model"), false).unwrap();
    let loaded = Scorer::load(folder.path().join("model"), Device::Cpu).unwrap();
    assert_eq!(objective.evaluate(&loaded, &texts).unwrap(), evaluation);
    assert_eq!(raw(loaded.model(), &texts[0]).len(), 3);
    let card = std::fs::read_to_string(folder.path().join("model/README.md")).unwrap();
    assert!(card.contains("| macro_f1 | 1.0000 |"), "{card}");

    // A reward model can be made of it: the body stays, the head is new.
    let options = LoadOptions::default().with_new_head(1, 0);
    let target = Transformer::load(folder.path().join("model"), &options).unwrap();
    assert_eq!(raw(&target, &texts[0]).len(), 1);
}

/// −log softmax, written out in f64.
#[test]
fn what_classes_cost_is_what_one_computes_from_the_outputs() {
    let texts = texts(Label::Class);
    let scorer = Scorer::new(Box::new(model(3)), tokenizer()).unwrap();
    let found = Classification { classes: 3 }.evaluate(&scorer, &texts).unwrap();
    let cost = |text: &LabelledText| {
        let logits = raw(scorer.model(), text);
        let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
        sum.ln() - logits[text.label().as_class().unwrap()]
    };
    let expected = texts.iter().map(cost).sum::<f64>() / texts.len() as f64;
    approx::assert_relative_eq!(found.loss.unwrap(), expected, max_relative = 1e-5);
}

#[test]
fn numbers_are_learned_one_or_several_a_text() {
    let one = texts(|grade| Label::Value(grade as f64 - 0.5));
    let (_, evaluation) = fit(&Regression { outputs: 1 }, 1, &one);
    assert!(evaluation.metrics.mse.unwrap() < 0.05, "{evaluation:?}");
    assert!(evaluation.metrics.spearman.unwrap() > 0.9, "{evaluation:?}");

    let two = texts(|grade| Label::Values(vec![grade as f64, 1.0 - grade as f64]));
    let (trainer, evaluation) = fit(&Regression { outputs: 2 }, 2, &two);
    let error = |text: &LabelledText| -> f64 {
        let outputs = raw(trainer.scorer().model(), text);
        outputs.iter().zip(text.label().values()).map(|(a, b)| (a - b) * (a - b)).sum()
    };
    let expected = two.iter().map(error).sum::<f64>() / 60.0;
    approx::assert_relative_eq!(evaluation.metrics.mse.unwrap(), expected, max_relative = 1e-4);
    assert!(expected < 0.05, "{evaluation:?}");
    // One rises where the other falls.
    assert!(evaluation.metrics.outputs.iter().all(|output| output.spearman.unwrap() > 0.9));
}

#[test]
fn labels_and_models_that_do_not_fit_are_named() {
    let fails = |outputs: i64, texts: &[LabelledText], classes: Option<usize>| {
        let mut trainer =
            Trainer::new(Box::new(model(outputs)), tokenizer(), TrainConfig::default()).unwrap();
        let error = match classes {
            Some(classes) => {
                trainer.fit(&Classification { classes }, texts, &[], &mut |_| Ok(())).map(|_| ())
            }
            None => {
                trainer.fit(&Regression { outputs: 2 }, texts, &[], &mut |_| Ok(())).map(|_| ())
            }
        };
        error.unwrap_err().to_string()
    };
    let classes = texts(Label::Class);
    assert_eq!(
        fails(3, &classes, Some(2)),
        "the label of text 10 is Class(2); must be a class from 0 to 1"
    );
    assert_eq!(fails(2, &classes, None), "the label of text 0 is Class(0); must be 2 numbers");
    let message = fails(1, &classes, Some(3));
    assert!(message.contains("a model of 3 outputs returns Float [8, 3]"), "{message}");
}

/// A loss of nothing but zeros would let everything above pass.
#[test]
fn the_loss_of_a_batch_has_a_gradient() {
    let texts = texts(|grade| Label::Value(grade as f64));
    let objective = Regression { outputs: 1 };
    let data = objective.prepare(&tokenizer(), &texts[..4]).unwrap();
    let batch = TokenBatch::from_lists(data.examples.iter().map(|e| &e.texts[..])).unwrap();
    let targets: Vec<_> = data.examples.iter().map(|e| &e.target).collect();
    let model = model(1);
    let cost = objective.loss(&model, &batch, &targets, Mode::Evaluation).unwrap();
    cost.loss.backward();
    let norm = |tensor: &Tensor| tensor.grad().norm().double_value(&[]);
    assert!(model.parameters().iter().any(|(_, tensor)| norm(tensor) > 1e-3));
}

/// The accuracy of a step is that of the model before it.
#[test]
fn a_step_tells_how_many_classes_were_right_before_it() {
    let texts = texts(Label::Class);
    let objective = Classification { classes: 3 };
    let config =
        TrainConfig { epochs: 1, batch_size: 30, dropout: false, ..TrainConfig::default() };
    let mut trainer = Trainer::new(Box::new(model(3)), tokenizer(), config).unwrap();
    let before = objective.evaluate(trainer.scorer(), &texts).unwrap().metrics.accuracy;
    assert!(before.is_some_and(|accuracy| accuracy > 0.0 && accuracy < 1.0), "{before:?}");
    let mut steps = Vec::new();
    let mut watch = |event: &Event<_>| {
        steps.extend(match event {
            Event::Step(step) => Some(step.accuracy),
            _ => None,
        });
        Ok(())
    };
    trainer.fit(&objective, &texts, &[], &mut watch).unwrap();
    assert_eq!(steps, [before]);
    assert!(objective.decisions(&[0.0; 5], &[&0, &1]).is_err());
}
