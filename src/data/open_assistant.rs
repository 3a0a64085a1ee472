//! OpenAssistant's exports as ranked lists: messages that name their parents, or whole trees.

use std::collections::HashMap;

use serde_json::Value;

use super::json::{self, number, string, wrong_type};
use super::line_index::LineIndex;
use super::spool::Spool;
use super::Problem;
use crate::{Message, RankedList, Result};

/// Messages of a conversation, at most. One that is deeper is no conversation, and the prompts of
/// all its lists together would grow with the square of it.
const DEEPEST: usize = 1000;

#[derive(serde::Deserialize)]
struct Fields {
    message_id: Option<Value>,
    parent_id: Option<Value>,
    text: Option<Value>,
    role: Option<Value>,
    rank: Option<Value>,
    deleted: Option<Value>,
    /// The root of a tree.
    prompt: Option<Value>,
}

impl json::Fields for Fields {
    const EXPECTED: &'static str = "an object such as {\"message_id\": \"...\", \"parent_id\": \
                                    \"...\", \"text\": \"...\", \"role\": \"assistant\", \"rank\": 0}";
}

/// Writes each list of two or more ranked replies of the assistant, in the order in which their
/// parents stand in the file.
pub(super) fn to_lists(lines: &LineIndex, spool: &mut Spool) -> Result<()> {
    let mut messages = Messages::default();
    for at in 0..lines.len() {
        let fields = lines.line(at)?.and_then(|line| json::parse::<Fields>(&line));
        match fields.map_err(|problem| lines.error(at, problem))? {
            Fields { prompt: Some(root), .. } => {
                let tree = Tree::parse(&"prompt", root).map_err(|p| lines.error(at, p))?;
                tree.write(&mut Vec::new(), spool).map_err(|error| named(lines, at, error))?;
            }
            fields => messages.add(fields, at).map_err(|problem| lines.error(at, problem))?,
        }
    }
    messages.write(lines, spool)
}

/// The error of a list, with the line that its parent stands on.
fn named(lines: &LineIndex, at: usize, error: crate::Error) -> crate::Error {
    match error {
        crate::Error::RankedList { .. } => lines.error(at, error.into()),
        error => error,
    }
}

/// A message without what it says, which stays in the file.
struct Node {
    line: usize,
    parent: Option<String>,
    rank: Option<f64>,
    /// Numbers of nodes.
    replies: Vec<u32>,
}

#[derive(Default)]
struct Messages {
    nodes: Vec<Node>,
    by_id: HashMap<String, u32>,
}

impl Messages {
    fn add(&mut self, fields: Fields, line: usize) -> Result<(), Problem> {
        let id = fields.message_id.ok_or_else(|| json::missing(&"message_id", "a string"))?;
        let id = string(&"message_id", id)?;
        let parent = fields.parent_id.map(|value| string(&"parent_id", value)).transpose()?;
        let rank = rank(&"", fields.rank, fields.role.as_ref(), fields.deleted.as_ref())?;
        let number = u32::try_from(self.nodes.len())
            .map_err(|_| Problem::of_line("there are more than 4294967295 messages"))?;
        if self.by_id.insert(id, number).is_some() {
            return Err(Problem::of_field("message_id", "is that of an earlier message too"));
        }
        self.nodes.push(Node { line, parent, rank, replies: Vec::new() });
        Ok(())
    }

    fn write(mut self, lines: &LineIndex, spool: &mut Spool) -> Result<()> {
        for at in 0..self.nodes.len() {
            let Some(parent) = self.parent(at, lines)? else { continue };
            if let Some(parent) = self.nodes.get_mut(parent) {
                parent.replies.push(at as u32);
            }
        }
        for at in 0..self.nodes.len() {
            let ranked = |reply: &&Node| reply.rank.is_some();
            let replies = self.nodes.get(at).map(|node| node.replies.as_slice());
            let replies: Vec<&Node> = replies
                .unwrap_or_default()
                .iter()
                .filter_map(|&reply| self.nodes.get(reply as usize))
                .filter(ranked)
                .collect();
            if replies.len() < 2 {
                continue;
            }
            let path = self.path(at, lines)?;
            let line = self.nodes.get(at).map_or(0, |node| node.line);
            let replies = replies
                .into_iter()
                .map(|reply| Ok((message(lines, reply.line)?.content, reply.rank.unwrap_or(0.0))))
                .collect::<Result<Vec<_>>>()?;
            write_list(&path, replies, spool).map_err(|error| named(lines, line, error))?;
        }
        Ok(())
    }

    fn parent(&self, at: usize, lines: &LineIndex) -> Result<Option<usize>> {
        let Some(node) = self.nodes.get(at) else { return Ok(None) };
        let Some(parent) = &node.parent else { return Ok(None) };
        match self.by_id.get(parent) {
            Some(&parent) => Ok(Some(parent as usize)),
            None => Err(lines.error(
                node.line,
                Problem::of_field("parent_id", format!("no message of the file is {parent:?}")),
            )),
        }
    }

    /// What was said up to this message, from the start.
    fn path(&self, at: usize, lines: &LineIndex) -> Result<Vec<Message>> {
        let mut path = Vec::new();
        let mut next = Some(at);
        while let Some(at) = next {
            let line = self.nodes.get(at).map_or(0, |node| node.line);
            if path.len() == DEEPEST {
                return Err(lines.error(line, too_deep()));
            }
            path.push(message(lines, line)?);
            next = self.parent(at, lines)?;
        }
        path.reverse();
        Ok(path)
    }
}

fn too_deep() -> Problem {
    let message = format!("is in a conversation of more than {DEEPEST} messages, or in a circle");
    Problem::of_field("parent_id", message)
}

/// Who says what on a line.
fn message(lines: &LineIndex, at: usize) -> Result<Message> {
    let fields = lines.line(at)?.and_then(|line| json::parse::<Fields>(&line));
    fields
        .and_then(|fields| said(&"", fields.role, fields.text))
        .map_err(|problem| lines.error(at, problem))
}

type Name<'a> = &'a dyn std::fmt::Display;

fn said(of: Name, role: Option<Value>, text: Option<Value>) -> Result<Message, Problem> {
    let (role_name, text_name) = (format!("{of}role"), format!("{of}text"));
    let role = role.ok_or_else(|| json::missing(&role_name, "\"prompter\" or \"assistant\""))?;
    let role = match string(&role_name, role)? {
        role if role == "prompter" => "user".to_owned(),
        role => role,
    };
    let text = text.ok_or_else(|| json::missing(&text_name, "a string"))?;
    Ok(Message::new(role, string(&text_name, text)?))
}

/// The rank of a reply of the assistant, if it has one and still stands.
fn rank(
    of: Name,
    rank: Option<Value>,
    role: Option<&Value>,
    deleted: Option<&Value>,
) -> Result<Option<f64>, Problem> {
    let rank = rank.filter(|rank| !rank.is_null());
    let rank = rank.map(|rank| number(&format_args!("{of}rank"), rank)).transpose()?;
    let stands = role.and_then(Value::as_str) == Some("assistant")
        && deleted.and_then(Value::as_bool) != Some(true);
    Ok(rank.filter(|_| stands))
}

fn write_list(path: &[Message], replies: Vec<(String, f64)>, spool: &mut Spool) -> Result<()> {
    let (texts, ranks): (Vec<_>, Vec<_>) = replies.into_iter().unzip();
    let list = RankedList::with_ranks(texts, &ranks)?.with_conversation(path.to_vec());
    let mut line = serde_json::to_vec(&list)
        .map_err(|error| crate::Error::InvalidArgument(format!("a ranked list: {error}")))?;
    line.push(b'\n');
    spool.write(&line)
}

struct Tree {
    message: Message,
    rank: Option<f64>,
    replies: Vec<Tree>,
}

impl Tree {
    /// JSON that was parsed is not deep, so that neither is this.
    fn parse(field: Name, value: Value) -> Result<Tree, Problem> {
        let mut fields = json::object(field, "a message", value)?;
        let of = format!("{field}.");
        let mut take = |key| fields.get_mut(key).map(Value::take).filter(|value| !value.is_null());
        let (role, text, deleted) = (take("role"), take("text"), take("deleted"));
        let rank = rank(&of, take("rank"), role.as_ref(), deleted.as_ref())?;
        let name = format!("{of}replies");
        let replies = match take("replies") {
            None => Vec::new(),
            Some(Value::Array(replies)) => replies
                .into_iter()
                .enumerate()
                .map(|(at, reply)| Tree::parse(&format_args!("{name}[{at}]"), reply))
                .collect::<Result<_, _>>()?,
            Some(other) => return Err(wrong_type(&name, "an array of messages", &other)),
        };
        Ok(Tree { message: said(&of, role, text)?, rank, replies })
    }

    fn write(self, path: &mut Vec<Message>, spool: &mut Spool) -> Result<()> {
        path.push(self.message);
        let ranked: Vec<(String, f64)> = self
            .replies
            .iter()
            .filter_map(|reply| Some((reply.message.content.clone(), reply.rank?)))
            .collect();
        if ranked.len() > 1 {
            write_list(path, ranked, spool)?;
        }
        for reply in self.replies {
            reply.write(path, spool)?;
        }
        path.pop();
        Ok(())
    }
}
