//! Downloads from a small server of our own that answers as the Hub does.
#![cfg(feature = "hub")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use reward_model::hub::{Hub, Source};
use reward_model::text::{Limits, Tokenizer};
use reward_model::{tch::Device, EncoderConfig, Error, RankedList, Result, Scorer, Transformer};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const OLDER: &str = "fedcba9876543210fedcba9876543210fedcba98";

/// What the server has and how it behaves.
#[derive(Default)]
struct State {
    /// By commit, then by name.
    commits: BTreeMap<&'static str, BTreeMap<String, Vec<u8>>>,
    /// By branch or tag.
    revisions: BTreeMap<&'static str, &'static str>,
    /// Answer everything with this status.
    status: Option<u16>,
    /// Ask for this token.
    token: Option<&'static str>,
    /// Hang up after half of what was asked of this file; with its length said, or without.
    breaks: Option<(&'static str, bool)>,
    /// Method and path of every request.
    requests: Vec<String>,
}

struct Server {
    state: Arc<Mutex<State>>,
    endpoint: String,
}

impl Server {
    fn new(files: &[(&str, &[u8])]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let files = files.iter().map(|(name, bytes)| (name.to_string(), bytes.to_vec())).collect();
        let state = Arc::new(Mutex::new(State {
            commits: [(COMMIT, files)].into(),
            revisions: [("main", COMMIT)].into(),
            ..State::default()
        }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Server { state, endpoint }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    fn hub(&self, cache: &Path) -> Hub {
        Hub::new().endpoint(&self.endpoint).cache(cache)
    }
}

/// One request a connection.
fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(request)) = lines.next() else { return };
    let mut headers = BTreeMap::new();
    for line in lines.map_while(std::result::Result::ok).take_while(|line| !line.is_empty()) {
        if let Some((name, value)) = line.split_once(": ") {
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut state = state.lock().unwrap();
    state.requests.push(path.clone());
    let answer = answer(&state, &path, &headers);
    let _ = stream.write_all(&answer);
}

fn answer(state: &State, path: &str, headers: &BTreeMap<String, String>) -> Vec<u8> {
    let error = |code: u16| {
        format!("HTTP/1.1 {code} No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").into_bytes()
    };
    if let Some(status) = state.status {
        return error(status);
    }
    if state.token.is_some_and(|token| {
        headers.get("authorization").is_none_or(|sent| *sent != format!("Bearer {token}"))
    }) {
        return error(401);
    }
    let commit_of = |revision: &str| {
        let named = state.revisions.get(revision).copied();
        named.or_else(|| state.commits.keys().copied().find(|commit| *commit == revision))
    };
    if let Some(revision) = path.strip_prefix("/api/models/org/name/revision/") {
        let Some(commit) = commit_of(&revision.replace("%2F", "/")) else { return error(404) };
        let siblings: Vec<_> = state.commits[commit]
            .keys()
            .map(|name| serde_json::json!({ "rfilename": name }))
            .collect();
        let body = serde_json::json!({ "sha": commit, "siblings": siblings }).to_string();
        let length = body.len();
        return format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
             connection: close\r\n\r\n{body}"
        )
        .into_bytes();
    }
    let file = path.strip_prefix("/org/name/resolve/").and_then(|rest| rest.split_once('/'));
    let Some((commit, name)) = file.and_then(|(rev, name)| Some((commit_of(rev)?, name))) else {
        return error(404);
    };
    let Some(bytes) = state.commits[commit].get(name) else { return error(404) };

    let range = headers.get("range").and_then(|range| range.strip_prefix("bytes="));
    let (start, end) = range.and_then(|range| range.split_once('-')).unwrap_or(("0", ""));
    let start: usize = start.parse().unwrap();
    let end = end.parse().map_or(bytes.len(), |last: usize| (last + 1).min(bytes.len()));
    let (mut part, whole) = (&bytes[start..end], bytes.len());
    let mut length = format!("content-length: {}\r\n", part.len());
    if let Some((broken, says_length)) = state.breaks {
        if broken == name && part.len() > 1 {
            part = &part[..part.len() / 2];
            length = if says_length { length } else { String::new() };
        }
    }
    // Not a hash: what matters is that the same bytes have the same name.
    let etag = bytes.iter().fold(whole as u64, |sum, &byte| sum * 31 % 1_000_003 + u64::from(byte));
    let mut answer = format!(
        "HTTP/1.1 206 Partial Content\r\netag: \"{etag:x}\"\r\nx-repo-commit: {commit}\r\n\
         content-range: bytes {start}-{}/{whole}\r\n{length}connection: close\r\n\r\n",
        end.saturating_sub(1),
    )
    .into_bytes();
    answer.extend_from_slice(part);
    answer
}

const FILES: [(&str, &[u8]); 6] = [
    ("config.json", b"{}"),
    ("tokenizer.json", b"{ }"),
    ("tokenizer_config.json", b"{  }"),
    ("model.safetensors", b"weights weights weights"),
    ("pytorch_model.bin", b"a pickle"),
    ("README.md", b"# A model"),
];

fn source(text: &str) -> Source {
    text.parse().unwrap()
}

fn get(hub: &Hub, text: &str) -> Result<PathBuf> {
    hub.download(&source(text), &mut |_| {})
}

/// Where the answer is an error of the Hub: its words.
fn refused(result: Result<PathBuf>) -> String {
    match result.unwrap_err() {
        error @ Error::Hub { .. } => error.to_string(),
        other => panic!("{other:?}"),
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_folder_has_what_a_model_needs_and_nothing_else() {
    let (server, cache) = (Server::new(&FILES), tempfile::tempdir().unwrap());
    let mut seen = Vec::new();
    let folder = server
        .hub(cache.path())
        .download(&source("hf:org/name"), &mut |file| {
            seen.push((file.name.to_owned(), file.done, file.size));
        })
        .unwrap();
    let wanted = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    assert_eq!(names(&folder), wanted);
    for (name, bytes) in &FILES[..4] {
        assert_eq!(std::fs::read(folder.join(name)).unwrap(), *bytes, "{name}");
    }
    assert!(seen.contains(&("model.safetensors".into(), 23, 23)), "{seen:?}");
    // As Python lays out its cache.
    assert_eq!(folder, cache.path().join("models--org--name/snapshots").join(COMMIT));
    let main = cache.path().join("models--org--name/refs/main");
    assert_eq!(std::fs::read_to_string(main).unwrap(), COMMIT);
}

#[test]
fn the_cache_serves_without_the_server() {
    let (server, cache) = (Server::new(&FILES), tempfile::tempdir().unwrap());
    let hub = server.hub(cache.path());
    let pinned = format!("hf:org/name@{COMMIT}");
    let missing = refused(get(&hub.clone().offline(true), "hf:org/name"));
    assert_eq!(
        missing,
        "hf:org/name: is not in the cache, and HF_HUB_OFFLINE forbids to download it"
    );
    assert!(server.requests().is_empty());

    let folder = get(&hub, "hf:org/name").unwrap();
    assert!(server.requests().len() > 4);
    // A branch may have moved, which one question tells; a commit has not.
    assert_eq!(get(&hub, "hf:org/name").unwrap(), folder);
    assert_eq!(server.requests(), ["/api/models/org/name/revision/main"]);
    assert_eq!(get(&hub, &pinned).unwrap(), folder);
    assert_eq!(get(&hub.clone().offline(true), "hf:org/name").unwrap(), folder);
    assert!(server.requests().is_empty());

    // Nobody listens there any more.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hub = hub.endpoint(format!("http://{gone}"));
    assert_eq!(get(&hub, "hf:org/name").unwrap(), folder);
    let error = refused(get(&hub, "hf:org/other"));
    assert!(error.starts_with("hf:org/other: the list of files: "), "{error}");
    assert!(error.ends_with(&format!(", asking http://{gone}; check the network and try again")));
}

#[test]
fn revisions() {
    let (server, cache) = (Server::new(&FILES), tempfile::tempdir().unwrap());
    server.change(|state| {
        let mut older = state.commits[COMMIT].clone();
        older.insert("model.safetensors".into(), b"older weights".to_vec());
        state.commits.insert(OLDER, older);
        state.revisions.insert("v1.0", OLDER);
        state.revisions.insert("refs/pr/1", OLDER);
    });
    let hub = server.hub(cache.path());
    let weights = |text: &str| {
        std::fs::read_to_string(get(&hub, text).unwrap().join("model.safetensors")).unwrap()
    };
    assert_eq!(weights("hf:org/name@v1.0"), "older weights");
    assert_eq!(weights("hf:org/name@refs/pr/1"), "older weights");
    assert_eq!(weights(&format!("hf:org/name@{OLDER}")), "older weights");
    assert_eq!(weights("hf:org/name"), "weights weights weights");
    // The branch moves on.
    server.change(|state| {
        state.revisions.insert("main", OLDER);
    });
    assert_eq!(weights("hf:org/name"), "older weights");

    let error = refused(get(&hub, "hf:org/name@v9"));
    let page = format!("{}/org/name", server.endpoint);
    assert_eq!(
        error,
        format!(
            "hf:org/name@v9: the list of files: not found (404): check the name and the revision \
             `v9` at {page}"
        )
    );
}

#[test]
fn every_shard_of_an_index_is_there() {
    let index = br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    let files: [(&str, &[u8]); 5] = [
        FILES[0],
        FILES[1],
        ("model.safetensors.index.json", index),
        ("model-1.safetensors", b"one"),
        ("model-2.safetensors", b"two"),
    ];
    let (server, cache) = (Server::new(&files), tempfile::tempdir().unwrap());
    let hub = server.hub(cache.path());
    let folder = get(&hub, "hf:org/name").unwrap();
    assert_eq!(names(&folder).len(), 5);

    // A folder that lacks a shard is not whole.
    std::fs::remove_file(folder.join("model-2.safetensors")).unwrap();
    assert!(refused(get(&hub.clone().offline(true), "hf:org/name")).contains("not in the cache"));
    let pinned = format!("hf:org/name@{COMMIT}");
    let again = get(&hub, &pinned);
    assert_eq!(std::fs::read(again.unwrap().join("model-2.safetensors")).unwrap(), b"two");

    let evil = br#"{"weight_map": {"a": "../../evil"}}"#;
    let (server, cache) =
        (Server::new(&[FILES[0], FILES[1], (files[2].0, evil)]), tempfile::tempdir().unwrap());
    let error = get(&server.hub(cache.path()), "hf:org/name").unwrap_err().to_string();
    assert!(error.ends_with("weight_map names `../../evil`: must be a file's name"), "{error}");
}

#[test]
fn repositories_that_make_no_model_folder() {
    for (files, expected) in [
        (
            &[FILES[0], FILES[1], FILES[4]][..],
            "hf:org/name: has pytorch_model.bin, a pickle, which can run code, and no \
             model.safetensors; look for a revision with safetensors, or load it in Python and \
             save it again (save_pretrained)",
        ),
        (
            &[FILES[0], FILES[5]],
            "hf:org/name: has neither model.safetensors nor model.safetensors.index.json; it is \
             not a model in safetensors",
        ),
        (&[FILES[0], FILES[3]], "hf:org/name: has no tokenizer.json, which a model folder needs"),
    ] {
        let (server, cache) = (Server::new(files), tempfile::tempdir().unwrap());
        assert_eq!(refused(get(&server.hub(cache.path()), "hf:org/name")), expected);
        // Nothing is downloaded in vain.
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn who_may_not_read_is_told_what_to_do() {
    let (server, cache) = (Server::new(&FILES), tempfile::tempdir().unwrap());
    server.change(|state| state.token = Some("secret"));
    let hub = server.hub(cache.path());
    assert_eq!(
        refused(get(&hub, "hf:org/name")),
        "hf:org/name: the list of files: not authorised (401): there is no such repository, or it \
         needs a token: set HF_TOKEN"
    );
    let wrong = refused(get(&hub.clone().token("other"), "hf:org/name"));
    assert!(wrong.ends_with("or the token in use may not read it"), "{wrong}");
    let hub = hub.token("secret\n");
    assert!(!format!("{hub:?}").contains("secret"));
    get(&hub, "hf:org/name").unwrap();

    server.change(|state| state.status = Some(403));
    let page = format!("{}/org/name", server.endpoint);
    let gated = refused(get(&hub, "hf:org/name"));
    assert!(gated.ends_with(&format!("is gated, accept its terms at {page}")), "{gated}");
    server.change(|state| state.status = Some(404));
    assert!(refused(get(&hub, "hf:org/name")).contains("not found (404)"));
    server.change(|state| state.status = Some(503));
    let down = refused(get(&hub, "hf:org/name"));
    assert!(down.ends_with("answers with status 503; try again later"), "{down}");
}

#[test]
fn a_server_that_dies_leaves_no_half_file() {
    for says_length in [true, false] {
        let (server, cache) = (Server::new(&FILES), tempfile::tempdir().unwrap());
        let hub = server.hub(cache.path());
        server.change(|state| state.breaks = Some(("model.safetensors", says_length)));
        let error = refused(get(&hub, "hf:org/name"));
        assert!(error.starts_with("hf:org/name: model.safetensors: "), "{error}");
        assert!(error.ends_with("try again"), "{error}");
        let snapshot = cache.path().join("models--org--name/snapshots").join(COMMIT);
        assert!(!names(&snapshot).contains(&"model.safetensors".to_owned()));
        assert!(refused(get(&hub.clone().offline(true), "hf:org/name")).contains("cache"));

        server.change(|state| state.breaks = None);
        let folder = get(&hub, "hf:org/name").unwrap();
        let weights = std::fs::read(folder.join("model.safetensors")).unwrap();
        assert_eq!(weights, FILES[3].1);
    }
}

#[test]
fn a_downloaded_model_scores_as_the_one_it_is_a_copy_of() {
    let lists = [RankedList::new(["good", "bad"]).unwrap().with_prompt("how?")];
    let tokenizer = Tokenizer::train(["good", "bad", "how?"], 100).unwrap();
    let tokenizer = tokenizer.with_limits(Limits::new(16)).unwrap();
    let config = EncoderConfig {
        vocab_size: tokenizer.vocab_size() as i64,
        hidden_size: 8,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        intermediate_size: 8,
        max_position_embeddings: 16,
        ..EncoderConfig::default()
    };
    let model = Transformer::random(config, 0, Device::Cpu).unwrap();
    let scorer = Scorer::new(Box::new(model), tokenizer).unwrap();
    let saved = tempfile::tempdir().unwrap();
    scorer.write_into(saved.path()).unwrap();
    let files: Vec<(String, Vec<u8>)> = names(saved.path())
        .into_iter()
        .map(|name| (name.clone(), std::fs::read(saved.path().join(name)).unwrap()))
        .collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();

    let (server, cache) = (Server::new(&files), tempfile::tempdir().unwrap());
    let folder = get(&server.hub(cache.path()), "hf:org/name").unwrap();
    let copy = Scorer::load(&folder, Device::Cpu).unwrap();
    let scores = |scorer: &Scorer| scorer.score_list(&lists[0]).unwrap();
    assert_eq!(scores(&copy), scores(&scorer));
}
