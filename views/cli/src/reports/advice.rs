//! What to do about the memory of a process: one sentence for each class that is worth one.

use pagetrace_replay::results::{LIFE_PARTS, Leak};

use super::quantities::{bytes, count, percent};
use super::report_model::Rss;

/// Below this nobody needs advice.
const WORTH_BYTES: i64 = 1 << 20;

/// What each class is, in words that fit behind a figure.
pub fn meaning(class: &str) -> &'static str {
    match class {
        "live_objects" => "objects that the program holds",
        "slack" => "rest of pages with live objects",
        "pinned" => "rest of pages that few small objects keep resident",
        "retained" => "free pages that the allocator keeps",
        "metadata" => "the allocator's own records",
        "allocator_rest" => "slack, pinned, retained and records, not told apart",
        "thread_stacks" => "stacks of threads",
        "other_anonymous" => "mapped past the allocator",
        "file_text" => "code of programs and libraries",
        "file_data" => "variables of programs and libraries",
        "file_mapped" => "mapped files",
        "shared_memory" => "shared with other processes",
        "tracer" => "pagetrace itself",
        "unexplained" => "no source says what it is",
        _ => "",
    }
}

/// What to do, the class with the most bytes first.
pub fn advice(rss: &Rss) -> Vec<String> {
    let (Some(whole), Some(classes)) = (rss.kernel_bytes, &rss.classes) else { return Vec::new() };
    let mut classes: Vec<_> = classes.0.iter().filter(|(_, bytes)| *bytes >= WORTH_BYTES).collect();
    classes.sort_by_key(|(_, bytes)| -bytes);
    classes
        .into_iter()
        .filter_map(|(class, amount)| {
            let (what, least_percent) = to_do(class)?;
            let share = *amount as f64 / whole as f64 * 100.0;
            let amount = format!("{} ({})", bytes(amount.unsigned_abs()), percent(*amount as f64, whole as f64));
            (share >= least_percent).then(|| what.replace("{}", &amount))
        })
        .collect()
}

/// The sentence of a class, and from which share of the RSS on it is worth saying.
fn to_do(class: &str) -> Option<(&'static str, f64)> {
    Some(match class {
        "live_objects" => {
            ("{} are live objects, no leak of pages: to shrink them, look at the sites that hold them.", 40.0)
        }
        "pinned" => (
            "{} stay resident only because their pages hold a few small live objects each. Let the sites that pin them \
             allocate before the burst, in an arena of their own, or copy what survives once it is over.",
            10.0,
        ),
        "retained" => (
            "{} are free but kept by the allocator. glibc: call malloc_trim(0) after a burst, or lower \
             GLIBC_TUNABLES=glibc.malloc.trim_threshold and glibc.malloc.arena_max; jemalloc and mimalloc give such \
             pages back by themselves.",
            10.0,
        ),
        "slack" => {
            ("{} lie between live objects: many sizes mixed, or objects freed in between. Group what lives long.", 25.0)
        }
        "metadata" => {
            ("{} are the allocator's records: very many very small objects. Allocate larger ones, fewer.", 15.0)
        }
        "allocator_rest" => (
            "{} are the allocator's without being live: record once without --sample-bytes to see whether they are pinned by \
             small objects, or free and kept.",
            25.0,
        ),
        "thread_stacks" => ("{} are stacks: fewer threads, or no deep recursion and large local arrays.", 15.0),
        "other_anonymous" => {
            ("{} were mapped past malloc, by a runtime, a memory pool or mmap: its own settings decide.", 20.0)
        }
        "file_mapped" | "file_text" => {
            ("{} belong to files: the kernel drops such pages when it needs memory, unless they are in use.", 40.0)
        }
        "shared_memory" => ("{} are shared memory: it counts for each process that maps it.", 15.0),
        "unexplained" => (
            "{} could not be explained: see below which sources were at work; objects of static programs and of allocators linked into a program, and those from before attach, are not seen.",
            10.0,
        ),
        _ => return None,
    })
}

/// The evidence for a leak, as a sentence.
pub fn why(leak: &Leak) -> String {
    let came =
        format!("objects came in {} of {LIFE_PARTS} equal parts of the process's life and stayed", leak.growing_parts);
    let sampled = if leak.bytes_error.is_some() { " sampled ones" } else { "" };
    let freed = match (leak.freed_young, leak.freed_old) {
        (0, 0) => "none of this site was ever freed".to_owned(),
        (young, 0) => format!("{}{sampled} of this site were freed, all of them young", count(young)),
        (young, old) => {
            format!("{}{sampled} of this site were freed, only {} of them old", count(young + old), count(old))
        }
    };
    format!("{came}; {freed}")
}
