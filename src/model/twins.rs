//! The slow twin of every fast path, and that they agree: each text by itself, whole, with all
//! hidden states of all layers, of which the last one is then read.

use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use super::chunks::{self, Chunks};
use super::recomputed::Recomputed;
use super::transformer::Body;
use super::GraphParts::{Layers, Texts};
use super::*;
use crate::text::TokenizedText;
use crate::{DecoderConfig, ModelConfig, TokenBatch};

const TRAINING: Mode = Mode::Training { seed: 3 };

impl Transformer {
    fn slow_scores(&self, batch: &TokenBatch, training: bool) -> Tensor {
        let each = (0..batch.texts()).map(|t| {
            let text = TokenizedText::from_ids(batch.text(t));
            let text = TokenBatch::from_texts([&text]).unwrap();
            let hidden = self.hidden(&text, training).unwrap();
            let read = match &self.body {
                Body::Encoder(_) => 0,
                Body::Decoder(_) => hidden.size()[0] - 1,
            };
            self.head.forward(hidden.narrow(0, read, 1), training).unwrap()
        });
        Tensor::cat(&each.collect::<Vec<_>>(), 0)
    }

    /// The same model in f64.
    fn in_double(self) -> Transformer {
        for (_, mut parameter) in self.parameters() {
            let wider = parameter.detach().to_kind(Kind::Double);
            parameter.set_data(&wider);
        }
        self
    }

    /// A gradient for each parameter, which is then forgotten.
    fn take_gradients(&self) -> Vec<(String, Tensor)> {
        let take = |(name, mut parameter): (String, Tensor)| {
            let gradient = parameter.grad();
            let gradient =
                if gradient.defined() { gradient.copy() } else { parameter.zeros_like() };
            parameter.zero_grad();
            (name, gradient.detach())
        };
        self.parameters().into_iter().map(take).collect()
    }
}

/// A weight for each score, of which the weighted sum is the loss.
fn weights(scores: &Tensor) -> Tensor {
    let count = scores.numel() as i64;
    let places = Tensor::arange(count, (Kind::Double, scores.device()));
    (places * 1.7 + 0.3).sin().to_kind(scores.kind()).reshape(scores.size())
}

fn differentiate(scores: &Tensor) {
    (scores * weights(scores)).sum(scores.kind()).backward();
}

fn norm(x: &Tensor) -> f64 {
    x.to_kind(Kind::Double).norm().double_value(&[])
}

fn assert_close(what: &str, ours: &Tensor, theirs: &Tensor, tolerance: f64) {
    let (difference, size) = (norm(&(ours - theirs)), norm(theirs));
    assert!(difference <= tolerance * size, "{what}: {difference:e} of {size:e}");
}

/// Parameter by parameter, against that parameter's gradient, or a thousandth of all where it is
/// smaller.
fn assert_same_gradients(
    what: &str,
    ours: &[(String, Tensor)],
    theirs: &[(String, Tensor)],
    tolerance: f64,
) {
    let all = theirs.iter().map(|(_, g)| norm(g).powi(2)).sum::<f64>().sqrt();
    assert!(all > 0.0, "{what}");
    for ((name, ours), (_, theirs)) in ours.iter().zip(theirs) {
        let difference = norm(&(ours - theirs));
        // A bias of an encoder's keys adds the same to all scores of a query: its gradient is 0,
        // and what there is of it is rounding.
        let nothing = name.ends_with(".key.bias") || name.ends_with(".k_lin.bias");
        let size = norm(theirs).max(if nothing { 1e-2 } else { 1e-3 } * all);
        assert!(difference <= tolerance * size, "{what}: {name}: {difference:e} of {size:e}");
    }
}

/// Lists of texts: how many tokens are common, and how many each text adds.
fn batch(lists: &[(usize, &[usize])], vocabulary: u32) -> TokenBatch {
    let mut state = 1_u32;
    let mut id = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % vocabulary
    };
    let lists: Vec<Vec<TokenizedText>> = lists
        .iter()
        .map(|&(common, others)| {
            let prompt: Vec<u32> = (0..common).map(|_| id()).collect();
            let text = |&n: &usize| {
                let own = (0..n).map(|_| id()).collect::<Vec<u32>>();
                TokenizedText::from_ids([prompt.clone(), own].concat())
            };
            others.iter().map(text).collect()
        })
        .collect();
    TokenBatch::from_lists(lists.iter().map(Vec::as_slice)).unwrap()
}

/// Ragged lists: of one text, of texts without a common token, of equal texts.
const RAGGED: &[(usize, &[usize])] =
    &[(5, &[2, 5, 1]), (1, &[4, 4]), (0, &[6]), (0, &[3, 9]), (7, &[3, 3, 3]), (2, &[8, 1, 1, 2])];

/// Where nothing is padded.
const EVEN: &[(usize, &[usize])] = &[(6, &[4, 4]), (6, &[4, 4]), (6, &[4, 4])];

fn folders() -> Vec<PathBuf> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
    let entries = std::fs::read_dir(home).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    assert!(folders.len() > 30, "{folders:?}");
    folders
}

fn agrees_with_its_twin(what: &str, model: &Transformer, batch: &TokenBatch, tolerance: f64) {
    // More would wait for each other longer than they compute.
    tch::set_num_threads(1);
    let slow = model.slow_scores(batch, false);
    differentiate(&slow);
    let gradients = model.take_gradients();
    let compare = |way: &str, scores: &Tensor| {
        let what = format!("{what}, {way}");
        assert_close(&what, scores, &slow, tolerance);
        assert_same_gradients(&what, &model.take_gradients(), &gradients, tolerance);
    };
    let fast = model.forward(batch, Mode::Evaluation).unwrap();
    differentiate(&fast);
    compare("at once", &fast);
    for parts in [Texts(1), Texts(3), Texts(usize::MAX), Layers] {
        let mut gradient = |scores: &Tensor| Ok(weights(scores));
        let scores =
            model.backward_in_parts(batch, Mode::Evaluation, parts, &mut gradient).unwrap();
        compare(&format!("in parts: {parts:?}"), &scores);
    }
}

#[test]
fn scores_and_gradients_of_every_model_are_those_of_separate_texts() {
    for folder in folders() {
        for sharing in [Sharing::Always, Sharing::Never] {
            for lists in [RAGGED, EVEN] {
                let load = || {
                    Transformer::load(&folder, &LoadOptions::default())
                        .unwrap()
                        .with_sharing(sharing)
                };
                let what = format!("{} {sharing:?} {}", folder.display(), lists.len());
                let batch = batch(lists, 60);
                agrees_with_its_twin(&format!("{what} f64"), &load().in_double(), &batch, 1e-12);
                agrees_with_its_twin(&format!("{what} f32"), &load(), &batch, 1e-5);
            }
        }
    }
}

/// What a GPU computes in: every layer's dtypes fit together, in both directions, at once and in
/// parts. All gradients together, since a single one may be the small sum of large terms; as far apart
/// as transformers' autocast leaves these models on such texts (scores 0.047, gradients 0.24).
#[test]
fn scores_and_gradients_in_bf16_are_those_of_f32_to_its_digits() {
    let flat = |gradients: Vec<(String, Tensor)>| {
        Tensor::cat(&gradients.iter().map(|(_, g)| g.reshape([-1])).collect::<Vec<_>>(), 0)
    };
    for folder in folders() {
        for sharing in [Sharing::Always, Sharing::Never] {
            let load = || Transformer::load(&folder, &LoadOptions::default()).unwrap();
            let (mut model, batch) = (load().with_sharing(sharing), batch(RAGGED, 60));
            let exact = model.forward(&batch, Mode::Evaluation).unwrap();
            differentiate(&exact);
            let gradients = flat(model.take_gradients());
            model.precision = Precision::Bf16;
            let rounded = model.forward(&batch, Mode::Evaluation).unwrap();
            assert_eq!(rounded.kind(), Kind::Float);
            differentiate(&rounded);
            let what = format!("{} {sharing:?}", folder.display());
            assert_close(&what, &rounded, &exact, 0.05);
            let at_once = flat(model.take_gradients());
            assert_close(&what, &at_once, &gradients, 0.25);
            for parts in [Texts(2), Layers] {
                let mut gradient = |scores: &Tensor| Ok(weights(scores));
                let mode = Mode::Evaluation;
                let _ = model.backward_in_parts(&batch, mode, parts, &mut gradient).unwrap();
                let what = format!("{what}, {parts:?}");
                assert_close(&what, &flat(model.take_gradients()), &at_once, 0.05);
            }
        }
    }
}

fn decoder(change: impl FnOnce(&mut DecoderConfig)) -> Transformer {
    let mut config = DecoderConfig {
        vocab_size: 60,
        hidden_size: 32,
        intermediate_size: Some(48),
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: Some(2),
        max_position_embeddings: 512,
        ..DecoderConfig::default()
    };
    change(&mut config);
    Transformer::random(ModelConfig::from(config), 5, Device::Cpu).unwrap()
}

#[test]
fn long_texts_of_very_different_lengths_are_those_of_separate_texts_too() {
    // Long enough for several groups of attention.
    let lists: &[(usize, &[usize])] =
        &[(300, &[40, 200, 1, 35]), (20, &[3, 150]), (0, &[400]), (90, &[60, 60]), (0, &[10, 380])];
    let batch = batch(lists, 60);
    for sharing in [Sharing::Always, Sharing::Auto, Sharing::Never] {
        let model = decoder(|_| {}).with_sharing(sharing).in_double();
        agrees_with_its_twin(&format!("{sharing:?}"), &model, &batch, 1e-12);
    }
}

#[test]
fn chunks_with_dropout_are_those_of_one_graph() {
    let model = decoder(|config| {
        config.attention_dropout = 0.2;
        config.residual_dropout = 0.1;
        config.embedding_dropout = 0.1;
    })
    .with_sharing(Sharing::Always)
    .in_double();
    let batch = batch(RAGGED, 60);
    let whole = Chunks::new(&model, &batch, None, TRAINING, 2).unwrap();
    let each: Vec<Tensor> =
        (0..whole.len()).map(|chunk| whole.scores(chunk, &whole.shared).unwrap()).collect();
    let graph = Tensor::cat(&each, 0);
    differentiate(&graph);
    let theirs = model.take_gradients();
    let again = |seed| {
        let mode = Mode::Training { seed };
        model.backward_in_parts(&batch, mode, Texts(2), &mut |scores| Ok(weights(scores))).unwrap()
    };
    let scores = again(3);
    assert_eq!(norm(&(&scores - &graph)), 0.0);
    assert_same_gradients("dropout", &model.take_gradients(), &theirs, 1e-12);
    assert!(norm(&(again(4) - &scores)) > 1e-3, "another seed drops out something else");
}

/// The masks of a layer are the same when it is computed again.
#[test]
fn layers_computed_again_with_dropout_are_those_of_one_graph() {
    let encoder = || {
        let config = crate::EncoderConfig {
            vocab_size: 60,
            hidden_size: 32,
            num_hidden_layers: 3,
            num_attention_heads: 2,
            intermediate_size: 48,
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.2,
            ..crate::EncoderConfig::default()
        };
        Transformer::random(config, 5, Device::Cpu).unwrap()
    };
    let decoder = decoder(|config| {
        config.attention_dropout = 0.2;
        config.residual_dropout = 0.1;
        config.embedding_dropout = 0.1;
    });
    for model in [encoder().in_double(), decoder.with_sharing(Sharing::Always).in_double()] {
        let batch = batch(RAGGED, 60);
        let packed = model.packed(&batch).unwrap();
        let stages = model.stages(&packed, &batch, &[], None, true).unwrap();
        let graph = Recomputed::new(&model, stages, TRAINING).scores().unwrap();
        differentiate(&graph);
        let theirs = model.take_gradients();
        let mut gradient = |scores: &Tensor| Ok(weights(scores));
        let scores = model.backward_in_parts(&batch, TRAINING, Layers, &mut gradient).unwrap();
        assert_eq!(norm(&(&scores - &graph)), 0.0);
        assert_same_gradients("dropout", &model.take_gradients(), &theirs, 1e-12);
        let whole = model.forward(&batch, Mode::Evaluation).unwrap();
        assert!(norm(&(whole - scores)) > 1e-3, "something is dropped out");
    }
}

#[test]
fn what_is_frozen_gets_no_gradient_in_parts() {
    let batch = batch(RAGGED, 60);
    for trains in [Part::Layer(0), Part::Layer(1), Part::Layer(2), Part::FinalNorm, Part::Head] {
        let model = decoder(|_| {}).with_sharing(Sharing::Always);
        for (name, mut parameter) in model.parameters() {
            if model.part(&name) < trains {
                let _ = parameter.set_requires_grad(false);
                parameter.zero_grad();
            }
        }
        differentiate(&model.slow_scores(&batch, false));
        let theirs = model.take_gradients();
        for parts in [Texts(2), Layers] {
            let mut gradient = |scores: &Tensor| Ok(weights(scores));
            let _ =
                model.backward_in_parts(&batch, Mode::Evaluation, parts, &mut gradient).unwrap();
            let what = format!("{trains:?} and up, {parts:?}");
            assert_same_gradients(&what, &model.take_gradients(), &theirs, 1e-5);
        }
    }
    // The embeddings alone: the gradient goes through all that is frozen.
    let model = decoder(|_| {});
    for (name, mut parameter) in model.parameters() {
        let _ = parameter.set_requires_grad(model.part(&name) == Part::Embeddings);
        parameter.zero_grad();
    }
    differentiate(&model.slow_scores(&batch, false));
    let theirs = model.take_gradients();
    let mut gradient = |scores: &Tensor| Ok(weights(scores));
    let _ = model.backward_in_parts(&batch, Mode::Evaluation, Layers, &mut gradient).unwrap();
    assert_same_gradients("embeddings alone", &model.take_gradients(), &theirs, 1e-5);
}

#[test]
fn a_gradient_of_another_shape_is_an_error() {
    let scores = Tensor::zeros([3, 1], (Kind::Float, Device::Cpu));
    assert!(chunks::checked(scores.shallow_clone(), &scores).is_ok());
    let error = chunks::checked(scores.narrow(0, 0, 2), &scores).unwrap_err().to_string();
    assert!(error.contains("[2, 1]") && error.contains("[3, 1]"), "{error}");
}

#[test]
fn a_batch_goes_on_from_what_frozen_layers_give_for_each_list() {
    for folder in folders() {
        for (sharing, cut) in [(Sharing::Always, 1), (Sharing::Never, 1), (Sharing::Always, 9)] {
            let options = LoadOptions::default();
            let model = Transformer::load(&folder, &options).unwrap().with_sharing(sharing);
            let model = model.in_double();
            let layers = model.config().num_hidden_layers() as usize;
            for (name, mut parameter) in model.parameters() {
                let _ = parameter.set_requires_grad(match model.part(&name) {
                    Part::Embeddings => false,
                    Part::Layer(layer) => layer >= cut,
                    Part::FinalNorm => cut < layers,
                    _ => true,
                });
                parameter.zero_grad();
            }
            let what = format!("{} {sharing:?}, {cut} of {layers}", folder.display());
            let batch = batch(RAGGED, 60);
            let slow = model.slow_scores(&batch, false);
            differentiate(&slow);
            let gradients = model.take_gradients();
            let frozen = model.frozen_layers(Mode::Evaluation).expect(&what);
            let each = (0..batch.lists()).map(|list| {
                let text = |t| TokenizedText::from_ids(batch.text(t));
                let texts: Vec<TokenizedText> = batch.list(list).map(text).collect();
                frozen.states(&TokenBatch::from_lists([&texts[..]]).unwrap()).unwrap()
            });
            let states = Tensor::cat(&each.collect::<Vec<_>>(), 0);
            let scores = frozen.forward_from(&states, &batch, Mode::Evaluation).unwrap();
            differentiate(&scores);
            assert_close(&what, &scores, &slow, 1e-12);
            assert_same_gradients(&what, &model.take_gradients(), &gradients, 1e-12);
            let mut gradient = |scores: &Tensor| Ok(weights(scores));
            for parts in [Texts(2), Layers] {
                let mode = Mode::Evaluation;
                let scores =
                    frozen.backward_in_parts_from(&states, &batch, mode, parts, &mut gradient);
                assert_close(&what, &scores.unwrap(), &slow, 1e-12);
                assert_same_gradients(&what, &model.take_gradients(), &gradients, 1e-12);
            }
        }
    }
}

#[test]
fn layers_are_frozen_that_neither_train_nor_drop_out() {
    let training = Mode::Training { seed: 1 };
    let frozen = |model: &Transformer, mode| model.frozen_layers(mode).is_some();
    let freeze = |model: &Transformer, below| {
        for (name, parameter) in model.parameters() {
            let _ = parameter.set_requires_grad(model.part(&name) >= below);
        }
    };
    let model = decoder(|_| {});
    assert!(!frozen(&model, Mode::Evaluation));
    freeze(&model, Part::Layer(0));
    assert!(!frozen(&model, Mode::Evaluation), "embeddings alone are as fast as looking them up");
    freeze(&model, Part::Layer(1));
    assert!(frozen(&model, training));
    let model = decoder(|config| config.residual_dropout = 0.1);
    freeze(&model, Part::Layer(1));
    assert!(!frozen(&model, training));
    assert!(frozen(&model, Mode::WithoutDropout { seed: 1 }));
}
