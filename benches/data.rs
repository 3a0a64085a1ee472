//! How fast a file of ranked lists is indexed and read at random, how fast a report is made of it,
//! and what memory that takes: `cargo bench --bench data`, with `LISTS=2000000` for 2 GB.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use reward_model::data::{Dataset, IndexedFile, Reporter, Split};
use reward_model::RankedList;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// About 1 KB a list: four responses, 6 pairs.
fn write(path: &Path, lists: usize) -> Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let filler = "some words of an answer that goes on ".repeat(6);
    for list in 0..lists {
        write!(file, "{{\"prompt\":\"question {list}\",\"responses\":[")?;
        for response in 0..4 {
            let comma = if response > 0 { "," } else { "" };
            let length = 190 + (list * 7 + response * 13) % 30;
            write!(file, "{comma}\"{list} {response} {}\"", &filler[..length])?;
        }
        writeln!(file, "]}}")?;
    }
    file.flush()?;
    Ok(())
}

/// Megabytes of memory that is no file's; `None` where the system does not say.
fn anonymous_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? / 1024)
}

fn say(what: &str, lists: usize, bytes: u64, started: Instant, most: Option<u64>) {
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{what:<16}{:>10.0} lists/s {:>8.0} MB/s {:>8.1} s   anonymous memory {} MB",
        lists as f64 / seconds,
        bytes as f64 / 1e6 / seconds,
        seconds,
        most.map_or("?".to_owned(), |megabytes| megabytes.to_string()),
    );
}

fn main() -> Result<()> {
    let lists = std::env::var("LISTS").ok().map_or(Ok(200_000), |lists| lists.parse::<usize>())?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("lists.jsonl");
    write(&path, lists)?;
    let bytes = std::fs::metadata(&path)?.len();
    println!(
        "{lists} lists, {:.2} GB; anonymous memory before {:?} MB",
        bytes as f64 / 1e9,
        anonymous_memory()
    );

    let started = Instant::now();
    let file = IndexedFile::open(&path)?;
    say("index", lists, bytes, started, anonymous_memory());
    assert_eq!(file.len(), lists);

    let started = Instant::now();
    let gets = lists.min(200_000);
    let mut at = 0;
    for _ in 0..gets {
        at = (at + 1_000_003) % lists;
        std::hint::black_box::<RankedList>(file.get(at)?);
    }
    say("get at random", gets, bytes / lists as u64 * gets as u64, started, anonymous_memory());

    let started = Instant::now();
    let mut reporter = Reporter::in_folder(folder.path());
    let mut most = None;
    for index in 0..lists {
        reporter.add(Split::Training, &file.get(index)?, None)?;
        if index % 50_000 == 0 {
            most = most.max(anonymous_memory());
        }
    }
    most = most.max(anonymous_memory());
    let report = reporter.finish()?;
    say("report", lists, bytes, started, most.max(anonymous_memory()));
    assert_eq!((report.training.duplicate_lists, report.training.contradictory_pairs), (0, 0));
    Ok(())
}
