//! A [`TokenBatch`] on the device: every token that goes through the layers in one row of tokens,
//! and who attends to whom.

use std::collections::BTreeMap;
use std::ops::Range;

use tch::{Device, Tensor};

use super::attention::{Attention, Row};
use crate::torch::{rows, upload, upload_indices};
use crate::{Result, TokenBatch};

/// Estimates for one layer, in floating-point operations of a forward pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Costs {
    /// Linear layers, for a token.
    pub token: f64,
    /// Attention, for a query and a key.
    pub pair: f64,
    /// Copying a key and a value.
    pub copied: f64,
    /// What one more call of attention costs, whatever its size.
    pub call: f64,
}

impl Costs {
    /// The weights of the linear layers.
    pub fn weights(&self) -> usize {
        (self.token / 2.0) as usize
    }

    /// Of a layer of so many weights, whose attention is `queries` wide, and keys `keys`.
    pub fn new(weights: i64, queries: i64, keys: i64, device: Device) -> Costs {
        Costs {
            token: 2.0 * weights as f64,
            pair: 4.0 * queries as f64,
            copied: 50.0 * keys as f64,
            // Some 30 microseconds either way: of one core, of a whole accelerator.
            call: if device == Device::Cpu { 1.5e6 } else { 6e8 },
        }
    }
}

/// Tokens that follow one another in a text and go through the layers together.
#[derive(Clone, Debug)]
struct Span {
    of: Owner,
    /// Where they are in the batch's ids.
    tokens: Range<usize>,
    /// The tokens of the same text before them, as rows of keys. Their number is the place of the
    /// first token in the text.
    prefix: Range<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Owner {
    /// All texts of a list: what they begin with.
    List(usize),
    /// A text: all of it, or what it does not share.
    Text(usize),
}

impl Span {
    fn beginning(batch: &TokenBatch, list: usize, shared: usize) -> Span {
        let start = batch.text_offsets()[batch.list(list).start];
        Span { of: Owner::List(list), tokens: start..start + shared, prefix: 0..0 }
    }

    fn of(batch: &TokenBatch, text: usize, prefix: Range<usize>) -> Span {
        let (start, end) = (batch.text_offsets()[text], batch.text_offsets()[text + 1]);
        Span { of: Owner::Text(text), tokens: start + prefix.len()..end, prefix }
    }
}

/// Where the keys of the shared beginning of each list are, if it has one.
#[derive(Default)]
pub(super) struct Prefixes {
    of_lists: BTreeMap<usize, Range<usize>>,
    /// How many rows of keys there are.
    rows: usize,
}

impl Prefixes {
    fn of(groups: &[Vec<Span>]) -> Prefixes {
        let (mut rows, mut of_lists) = (0, BTreeMap::new());
        for span in groups.iter().flatten() {
            let start = rows;
            rows += span.tokens.len();
            if let Owner::List(list) = span.of {
                of_lists.insert(list, start..rows);
            }
        }
        Prefixes { of_lists, rows }
    }

    fn of_list(&self, list: usize) -> Range<usize> {
        self.of_lists.get(&list).cloned().unwrap_or(0..0)
    }
}

/// A batch on the device. Embeddings, linear layers and norms run on `[tokens, ...]`, without
/// padding and with a shared prefix once; [`Attention`] alone pads.
pub(super) struct Packed {
    /// `[tokens]`, int64.
    pub ids: Tensor,
    /// Place of each token in its text, from 0; `[tokens]`, int64.
    pub positions: Tensor,
    /// Every token's attention to those it may see.
    pub attention: Attention,
    /// For each token its place in the batch's ids.
    source: Vec<usize>,
    spans: Vec<Span>,
    /// Keys of other passes, before those of `spans`.
    memory: usize,
    causal: bool,
    costs: Costs,
    device: Device,
}

/// One query a text: the token whose last hidden state the head reads.
pub(super) struct Scored {
    /// The token of each query; `[texts]`, int64.
    pub queries: Tensor,
    /// The queries' attention to their whole texts.
    pub attention: Attention,
    /// The query of each text, where they are not in the order of texts.
    order: Option<Tensor>,
}

impl Packed {
    /// Whole texts, each for itself.
    pub fn new(batch: &TokenBatch, causal: bool, costs: &Costs, device: Device) -> Result<Packed> {
        Packed::sharing(batch, causal, &vec![0; batch.lists()], costs, device)
    }

    /// Texts of which those of a list have the first `prefixes[list]` tokens in common.
    pub fn sharing(
        batch: &TokenBatch,
        causal: bool,
        prefixes: &[usize],
        costs: &Costs,
        device: Device,
    ) -> Result<Packed> {
        let first = prefixes.iter().enumerate().flat_map(|(list, &shared)| match shared {
            0 => batch.list(list).map(|text| Span::of(batch, text, 0..0)).collect(),
            _ => vec![Span::beginning(batch, list, shared)],
        });
        let mut groups = arranged(first.collect(), costs);
        let keys = Prefixes::of(&groups);
        let second = prefixes.iter().enumerate().filter(|(_, &shared)| shared > 0);
        let second = second.flat_map(|(list, _)| {
            let prefix = keys.of_list(list);
            batch.list(list).map(move |text| Span::of(batch, text, prefix.clone()))
        });
        groups.extend(arranged(second.collect(), costs));
        Packed::of(batch, groups, 0, causal, costs, device)
    }

    /// The shared beginnings of lists alone, and where the keys of each will be.
    pub fn beginnings(
        batch: &TokenBatch,
        prefixes: &[usize],
        costs: &Costs,
        device: Device,
    ) -> Result<(Packed, Prefixes)> {
        let shared = prefixes.iter().enumerate().filter(|(_, &shared)| shared > 0);
        let spans = shared.map(|(list, &shared)| Span::beginning(batch, list, shared));
        let groups = arranged(spans.collect(), costs);
        let keys = Prefixes::of(&groups);
        Ok((Packed::of(batch, groups, 0, true, costs, device)?, keys))
    }

    /// Some texts of the batch, each with its list, without the beginnings of which another pass
    /// knows the keys.
    pub fn remainders(
        batch: &TokenBatch,
        texts: &[(usize, usize)],
        keys: &Prefixes,
        causal: bool,
        costs: &Costs,
        device: Device,
    ) -> Result<Packed> {
        let span = |&(list, text): &(usize, usize)| Span::of(batch, text, keys.of_list(list));
        let groups = arranged(texts.iter().map(span).collect(), costs);
        Packed::of(batch, groups, keys.rows, causal, costs, device)
    }

    fn of(
        batch: &TokenBatch,
        groups: Vec<Vec<Span>>,
        memory: usize,
        causal: bool,
        costs: &Costs,
        device: Device,
    ) -> Result<Packed> {
        let mut tokens = 0;
        let mut rows = |span: &Span| {
            let queries = tokens..tokens + span.tokens.len();
            tokens = queries.end;
            let own = queries.start + memory..queries.end + memory;
            Row { queries, before: [span.prefix.clone(), 0..0], own }
        };
        let rows: Vec<Vec<Row>> =
            groups.iter().map(|group| group.iter().map(&mut rows).collect()).collect();
        let spans: Vec<Span> = groups.into_iter().flatten().collect();
        let source: Vec<usize> = spans.iter().flat_map(|span| span.tokens.clone()).collect();
        let ids = source.iter().map(|&token| batch.ids()[token] as usize);
        let places = spans.iter().flat_map(|s| (s.prefix.len()..).take(s.tokens.len()));
        Ok(Packed {
            ids: upload_indices(ids, device)?,
            positions: upload_indices(places, device)?,
            attention: Attention::new(&rows, tokens + memory, causal, device)?,
            source,
            spans,
            memory,
            causal,
            costs: *costs,
            device,
        })
    }

    /// A value for each token of the batch, for those that are here: `[tokens]`.
    pub fn upload<T: tch::kind::Element + Copy>(&self, values: &[T]) -> Result<Tensor> {
        let here: Vec<T> = self.source.iter().map(|&token| values[token]).collect();
        upload(&here, self.device)
    }

    /// For each token its place in the batch's ids.
    pub fn source(&self) -> &[usize] {
        &self.source
    }

    /// For each token the number of tokens of its text, where no text shares any.
    pub fn text_lengths(&self) -> impl Iterator<Item = usize> + '_ {
        let lengths = self.spans.iter().map(|span| span.prefix.len() + span.tokens.len());
        lengths.zip(&self.spans).flat_map(|(n, span)| std::iter::repeat_n(n, span.tokens.len()))
    }

    /// Hidden states `[tokens, hidden_size]` of whole texts in the order of the batch.
    pub fn in_order(&self, x: Tensor) -> Result<Tensor> {
        match order(self.source.iter().copied()) {
            None => Ok(x),
            Some(order) => rows(&x, &upload_indices(order, self.device)?),
        }
    }

    /// The token of each text whose last hidden state is its score: the last one in a decoder, the
    /// first one in an encoder.
    pub fn scored(&self) -> Result<Scored> {
        let mut texts = Vec::new();
        let mut token = 0;
        for span in &self.spans {
            let rows = token..token + span.tokens.len();
            token = rows.end;
            if let Owner::Text(text) = span.of {
                texts.push((text, span.prefix.clone(), rows));
            }
        }
        let length =
            |(_, prefix, rows): &(usize, Range<usize>, Range<usize>)| prefix.len() + rows.len();
        let each = self.costs.pair + self.costs.copied;
        let cost = |texts: usize, (longest, _)| (texts * longest) as f64 * each;
        let groups = grouped(texts, |text| (length(text), 0), cost, self.costs.call);
        let (mut queries, mut texts) = (Vec::new(), Vec::new());
        let mut row = |(text, prefix, rows): (usize, Range<usize>, Range<usize>)| {
            let query = texts.len()..texts.len() + 1;
            texts.push(text);
            let own = rows.start + self.memory..rows.end + self.memory;
            if self.causal {
                let last = own.end - 1;
                queries.push(rows.end - 1);
                Row { queries: query, before: [prefix, own.start..last], own: last..own.end }
            } else {
                queries.push(rows.start);
                Row { queries: query, before: [0..0, 0..0], own }
            }
        };
        let groups: Vec<Vec<Row>> =
            groups.into_iter().map(|group| group.into_iter().map(&mut row).collect()).collect();
        let keys = token + self.memory;
        let order = order(texts.iter().copied());
        Ok(Scored {
            queries: upload_indices(queries, self.device)?,
            attention: Attention::new(&groups, keys, self.causal, self.device)?,
            order: order.map(|order| upload_indices(order, self.device)).transpose()?,
        })
    }
}

impl Scored {
    /// `[texts, ...]` in the order of the batch.
    pub fn in_order(&self, x: Tensor) -> Result<Tensor> {
        match &self.order {
            None => Ok(x),
            Some(order) => rows(&x, order),
        }
    }
}

/// Where to find the smallest of these different numbers, the next one, and so on; `None` if they
/// ascend.
fn order(numbers: impl Iterator<Item = usize>) -> Option<Vec<usize>> {
    let numbers: Vec<usize> = numbers.collect();
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    order.sort_by_key(|&at| numbers[at]);
    (!order.iter().copied().eq(0..numbers.len())).then_some(order)
}

/// Spans in groups of similar length.
fn arranged(spans: Vec<Span>, costs: &Costs) -> Vec<Vec<Span>> {
    let size = |span: &Span| (span.prefix.len(), span.tokens.len());
    let cost = |rows: usize, (before, own): (usize, usize)| {
        // Half of a causal square is skipped, none of a mask's rectangle.
        let (queries, copied) =
            if before == 0 { (own as f64 / 2.0, 0.0) } else { (own as f64, costs.copied) };
        (rows * (before + own)) as f64 * (queries * costs.pair + copied)
    };
    grouped(spans, size, cost, costs.call)
}

/// Items of similar size together: sorted by size, largest first, each with those before it as long
/// as that costs less than a group of its own. Their order is kept where one group is enough.
///
/// `cost` is told how many items a group has, and the largest of each of their two sizes.
fn grouped<T: Clone>(
    items: Vec<T>,
    size: impl Fn(&T) -> (usize, usize),
    cost: impl Fn(usize, (usize, usize)) -> f64,
    call: f64,
) -> Vec<Vec<T>> {
    let mut sorted = items.clone();
    sorted.sort_by_key(|item| std::cmp::Reverse(size(item)));
    let mut groups: Vec<Vec<T>> = Vec::new();
    let mut largest = (0, 0);
    for item in sorted {
        let own = size(&item);
        let both = (largest.0.max(own.0), largest.1.max(own.1));
        let joins = |group: &&mut Vec<T>| {
            let (rows, alone) = (group.len(), cost(1, own) + call);
            cost(rows + 1, both) - cost(rows, largest) <= alone
        };
        if let Some(group) = groups.last_mut().filter(joins) {
            group.push(item);
            largest = both;
        } else {
            groups.push(vec![item]);
            largest = own;
        }
    }
    if groups.len() == 1 {
        groups = vec![items];
    }
    groups
}
