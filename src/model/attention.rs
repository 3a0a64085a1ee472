//! Who attends to whom: queries and keys of a row of tokens, brought into groups of equal shape.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use crate::torch::{rows, upload, upload_indices};
use crate::Result;

/// The queries of one text and the keys that they may see, as rows of the tensors that
/// [`Attention::attend`] is given.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub queries: Range<usize>,
    /// Keys that every query comes after.
    pub before: [Range<usize>; 2],
    /// In a decoder the keys of the queries' own tokens, of which each sees those up to itself; in
    /// an encoder those of the whole text.
    pub own: Range<usize>,
}

impl Row {
    fn before(&self) -> usize {
        self.before.iter().map(ExactSizeIterator::len).sum()
    }
}

/// Attention of many texts: rows of similar shape form a group, which is padded to its longest and
/// computed at once. Padding repeats a real token of the same text, so that nothing foreign can
/// reach its scores.
pub(super) struct Attention {
    groups: Vec<Group>,
    causal: bool,
    /// The query in each slot of all groups; where it is not simply the next one, as in the others.
    query_slots: Option<Tensor>,
    /// The key in each slot of all groups.
    key_slots: Option<Tensor>,
    /// The slot of each query.
    slots_of_queries: Option<Tensor>,
    device: Device,
}

/// Rows as one tensor: `before` slots, filled from the right, and then `own` slots, filled from the
/// left.
struct Group {
    befores: Vec<usize>,
    owns: Vec<usize>,
    queries: usize,
    before: usize,
    own: usize,
}

/// How many heads queries and keys have.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    pub queries: i64,
    pub keys: i64,
}

/// What attention is multiplied with and how much of it is dropped.
#[derive(Clone, Copy)]
pub(super) struct Weighing {
    pub scale: Option<f64>,
    pub dropout: f64,
}

impl Group {
    fn of(rows: &[Row]) -> Group {
        let most = |count: fn(&Row) -> usize| rows.iter().map(count).max().unwrap_or(0);
        Group {
            befores: rows.iter().map(Row::before).collect(),
            owns: rows.iter().map(|row| row.own.len()).collect(),
            queries: most(|row| row.queries.len()),
            before: most(Row::before),
            own: most(|row| row.own.len()),
        }
    }

    fn rows(&self) -> i64 {
        self.owns.len() as i64
    }

    fn keys(&self) -> usize {
        self.before + self.own
    }

    /// Bool, `[rows or 1, 1, queries or 1, keys]`; `None` if every query sees every key, or, in a
    /// decoder, every key up to its own.
    fn mask(&self, causal: bool, window: Option<i64>, device: Device) -> Result<Option<Tensor>> {
        if !causal {
            return self.filled(&self.owns, |slot, own| slot < own, device);
        }
        let window = window.filter(|&window| window < self.keys() as i64);
        let ragged = self.befores.iter().any(|&before| before < self.before);
        if window.is_none() && !ragged && (self.before == 0 || self.queries == 1) {
            return Ok(None);
        }
        // The key in slot j is `query + before - j` tokens before the query, in every row.
        let before = self.before as i64;
        let size = [1, 1, self.queries as i64, self.keys() as i64];
        let mut mask = Tensor::f_ones(size, (Kind::Bool, device))?.f_tril(before)?;
        if let Some(window) = window {
            mask = mask.f_triu(before + 1 - window)?;
        }
        let filled = |slot, before| slot + before >= self.before;
        Ok(Some(match self.filled(&self.befores, filled, device)? {
            Some(rows) if ragged => mask.f_logical_and(&rows)?,
            _ => mask,
        }))
    }

    /// Which slots hold a key of the text: bool, `[rows, 1, 1, keys]`; `None` if all do.
    fn filled(
        &self,
        lengths: &[usize],
        holds: impl Fn(usize, usize) -> bool,
        device: Device,
    ) -> Result<Option<Tensor>> {
        let keys = self.keys();
        let slots = |&length| (0..keys).map(move |slot| (slot, length));
        let all = lengths.iter().flat_map(slots);
        let mask: Vec<bool> = all.map(|(slot, length)| holds(slot, length)).collect();
        if mask.iter().all(|&held| held) {
            return Ok(None);
        }
        Ok(Some(upload(&mask, device)?.f_reshape([self.rows(), 1, 1, keys as i64])?))
    }
}

impl Attention {
    /// Groups of rows, whose queries are in this order.
    pub fn new(
        groups: &[Vec<Row>],
        keys: usize,
        causal: bool,
        device: Device,
    ) -> Result<Attention> {
        let (mut query_slots, mut key_slots, mut of_queries) = (Vec::new(), Vec::new(), Vec::new());
        let mut shapes = Vec::with_capacity(groups.len());
        for rows in groups {
            let group = Group::of(rows);
            for row in rows {
                let start = query_slots.len();
                of_queries.extend((0..row.queries.len()).map(|at| start + at));
                extend(&mut query_slots, row.queries.clone(), group.queries);
                let first = row.before.iter().chain([&row.own]).find(|keys| !keys.is_empty());
                let padding = first.map_or(0, |keys| keys.start);
                let empty = group.before - row.before();
                key_slots.extend(std::iter::repeat_n(padding, empty));
                key_slots.extend(row.before.iter().cloned().flatten());
                extend(&mut key_slots, row.own.clone(), group.own);
            }
            shapes.push(group);
        }
        let queries = of_queries.len();
        let moved = |slots: Vec<usize>, rows: usize| {
            let same = slots.len() == rows && slots.iter().copied().eq(0..rows);
            (!same).then(|| upload_indices(slots, device)).transpose()
        };
        let slots = query_slots.len();
        Ok(Attention {
            groups: shapes,
            causal,
            query_slots: moved(query_slots, queries)?,
            key_slots: moved(key_slots, keys)?,
            slots_of_queries: moved(of_queries, slots)?,
            device,
        })
    }

    /// For each group what is added to its scores, 0 or -infinity, where each query sees `window`
    /// tokens up to and including itself.
    pub fn masks(&self, window: Option<i64>, kind: Kind) -> Result<Vec<Option<Tensor>>> {
        let additive = |mask: Tensor| -> Result<Tensor> {
            let zeros = Tensor::f_zeros(mask.size(), (kind, self.device))?;
            Ok(zeros.f_masked_fill(&mask.f_logical_not()?, f64::NEG_INFINITY)?)
        };
        let mask =
            |group: &Group| group.mask(self.causal, window, self.device)?.map(additive).transpose();
        self.groups.iter().map(mask).collect()
    }

    /// softmax(q kᵀ · scale + mask) v. Queries `[queries, heads · d]`, keys and values
    /// `[keys, heads · d]`, with [`masks`](Self::masks) of q's dtype; the result is as the queries.
    pub fn attend(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        heads: Heads,
        masks: &[Option<Tensor>],
        weighing: Weighing,
    ) -> Result<Tensor> {
        let q = self.grouped(q, self.query_slots.as_ref(), |group| group.queries, heads.queries)?;
        let k = self.grouped(k, self.key_slots.as_ref(), Group::keys, heads.keys)?;
        let v = self.grouped(v, self.key_slots.as_ref(), Group::keys, heads.keys)?;
        let mut seen = Vec::with_capacity(q.len());
        for ((((group, q), k), v), mask) in self.groups.iter().zip(&q).zip(&k).zip(&v).zip(masks) {
            let each = Tensor::f_scaled_dot_product_attention(
                q,
                &for_all_heads(k, heads)?,
                &for_all_heads(v, heads)?,
                mask.as_ref(),
                weighing.dropout,
                self.causal && mask.is_none() && group.before == 0,
                weighing.scale,
                false,
            )?;
            let slots = group.rows() * group.queries as i64;
            seen.push(each.f_transpose(1, 2)?.f_reshape([slots, -1])?);
        }
        let seen = match <[Tensor; 1]>::try_from(seen) {
            Ok([only]) => only,
            Err(seen) => Tensor::f_cat(&seen, 0)?,
        };
        match &self.slots_of_queries {
            Some(slots) => rows(&seen, slots),
            None => Ok(seen),
        }
    }

    /// `[tokens, heads · d]` to `[rows, heads, slots, d]` for each group.
    fn grouped(
        &self,
        x: &Tensor,
        slots: Option<&Tensor>,
        per_row: impl Fn(&Group) -> usize,
        heads: i64,
    ) -> Result<Vec<Tensor>> {
        let x = match slots {
            Some(slots) => rows(x, slots)?,
            None => x.shallow_clone(),
        };
        let slots: Vec<i64> = self.groups.iter().map(|group| per_row(group) as i64).collect();
        let sizes = self.groups.iter().zip(&slots).map(|(group, slots)| group.rows() * slots);
        let parts = match self.groups.len() {
            1 => vec![x],
            _ => x.f_split_with_sizes(sizes.collect::<Vec<_>>(), 0)?,
        };
        let each = parts.iter().zip(&self.groups).zip(&slots);
        each.map(|((x, group), &slots)| {
            Ok(x.f_view([group.rows(), slots, heads, -1])?.f_transpose(1, 2)?)
        })
        .collect()
    }
}

/// `places`, and the last of them again until there are `slots`.
fn extend(list: &mut Vec<usize>, places: Range<usize>, slots: usize) {
    let last = places.end.saturating_sub(1);
    list.extend(places.clone());
    list.extend(std::iter::repeat_n(last, slots - places.len()));
}

/// Keys or values `[rows, heads of keys, slots, d]` as every head of queries sees them.
fn for_all_heads(x: &Tensor, heads: Heads) -> Result<Tensor> {
    let each = heads.queries / heads.keys;
    if each == 1 {
        return Ok(x.shallow_clone());
    }
    let (rows, groups, slots, dim) = x.size4()?;
    let expanded = x.f_unsqueeze(2)?.f_expand([rows, groups, each, slots, dim], false)?;
    Ok(expanded.f_reshape([rows, groups * each, slots, dim])?)
}
