//! The stages that an event passes, and which code belongs to which: by the source file of the innermost inlined function
//! that is ours.

/// Who spends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The traced program.
    Program,
    /// `pagetrace record`.
    Recorder,
}

/// A place of code: the file of its line and the function, as far as they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub function: String,
    pub file: String,
}

/// A stage and the code that belongs to it.
struct Stage {
    name: &'static str,
    side: Side,
    /// Parts of paths of source files.
    files: &'static [&'static str],
    /// Beginnings of the names of functions, which decide before files do.
    functions: &'static [&'static str],
}

const fn stage(
    name: &'static str,
    side: Side,
    files: &'static [&'static str],
    functions: &'static [&'static str],
) -> Stage {
    Stage { name, side, files, functions }
}

/// Looked through in this order.
const STAGES: &[Stage] = &[
    stage("time stamp", Side::Program, &[], &["tick", "now", "_rdtsc", "time_stamp_counter"]),
    stage("unwinding", Side::Program, &["inprocess/src/on/call_stack", "inprocess/src/sys/linker"], &[]),
    stage("stack number", Side::Program, &["inprocess/src/on/stack_table", "inprocess/src/on/kept_stacks"], &[]),
    stage("publishing", Side::Program, &["format/src/encode", "format/src/session"], &["append", "put", "publish"]),
    stage(
        "guard and buffer",
        Side::Program,
        &[
            "inprocess/src/on/event_buffer",
            "on/block_wait",
            "on/recursion_guard",
            "on/thread_state",
            "on/marks",
            "on/process",
        ],
        &[],
    ),
    stage("entry and hook", Side::Program, &["capture/preload/", "capture/inprocess/"], &[]),
    stage("compression", Side::Recorder, &["zstd"], &["ZSTD_", "HUF_", "FSE_", "HIST_", "XXH64_"]),
    stage("checksum", Side::Recorder, &["crc32fast", "format/src/checksum"], &[]),
    stage(
        "columns",
        Side::Recorder,
        &[
            "format/src/columns",
            "format/src/object_columns",
            "format/src/event_batch",
            "format/src/varint",
            "format/src/event",
        ],
        &[],
    ),
    stage(
        "kernel events",
        Side::Recorder,
        &["kernel/src/perf", "recorder/kernel_", "recorder/image", "kernel/src/unwind", "format/src/kernel_"],
        &[],
    ),
    stage("time mapping", Side::Recorder, &["recorder/tick_mapper"], &[]),
    stage(
        "drain",
        Side::Recorder,
        &["recorder/drain", "recorder/stream_events", "format/src/encode", "format/src/session", "recorder/stack_tree"],
        &[],
    ),
    stage("writing", Side::Recorder, &["format/src/writer", "recorder/trace_file", "format/src/record"], &[]),
    stage("rounds and snapshots", Side::Recorder, &["capture/kernel/", "views/cli/", "format/src/snapshot"], &[]),
];

/// Of code that lies in these files nothing more is known than that.
const WHOLE_FILES: &[(&str, Side, &str)] = &[
    ("[kernel", Side::Program, "kernel: faults, system calls"),
    ("[kernel", Side::Recorder, "kernel: faults, system calls"),
    // Once a program runs it is asked for one thing alone: whose unwind table covers an address (_dl_find_object).
    ("ld-linux", Side::Program, "unwinding"),
    ("libc.so", Side::Program, "real allocator, C library"),
    ("libc.so", Side::Recorder, "C library: copies, allocations"),
];

/// The stage of code that lies in `object`, its frames innermost first.
pub fn stage_of(side: Side, object: &str, frames: &[Frame]) -> String {
    if let Some((.., name)) = WHOLE_FILES.iter().find(|(part, of, _)| *of == side && object.contains(part)) {
        return (*name).to_owned();
    }
    let stages = || STAGES.iter().filter(|stage| stage.side == side);
    for frame in frames {
        let function = frame.function.rsplit("::").next().unwrap_or_default();
        // A function of the standard library has a common name and belongs to whoever inlined it.
        let is_ours =
            !frame.file.contains("/library/") && !frame.file.contains("rustc/") || function.starts_with("_rdtsc");
        if !is_ours {
            continue;
        }
        let by_function = stages().find(|stage| stage.functions.iter().any(|name| starts_with(function, name)));
        let by_file = || stages().find(|stage| stage.files.iter().any(|part| frame.file.contains(part)));
        if let Some(stage) = by_function.or_else(by_file) {
            return stage.name.to_owned();
        }
    }
    format!("other: {}", object.rsplit('/').next().unwrap_or_default())
}

/// A whole name, or the beginning where the name ends with an underscore.
fn starts_with(function: &str, name: &str) -> bool {
    function == name || name.ends_with('_') && function.starts_with(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(side: Side, object: &str, frames: &[(&str, &str)]) -> String {
        let frame = |&(function, file): &(&str, &str)| Frame { function: function.into(), file: file.into() };
        stage_of(side, object, &frames.iter().map(frame).collect::<Vec<_>>())
    }

    #[test]
    fn the_innermost_function_of_ours_decides() {
        const LIBRARY: &str = "/dev/shm/x/libpagetrace_preload.so";
        let inlined = [
            ("load", "/rustc/1/library/core/src/sync/atomic.rs"),
            ("take", "capture/inprocess/src/on/call_stack/last_walk.rs"),
            ("malloc_hook", "capture/preload/src/hooks.rs"),
        ];
        assert_eq!(stage(Side::Program, LIBRARY, &inlined), "unwinding");
        assert_eq!(stage(Side::Program, LIBRARY, &inlined[2..]), "entry and hook");
        let publish = [("publish", "capture/inprocess/src/on/event_buffer.rs")];
        assert_eq!(stage(Side::Program, LIBRARY, &publish), "publishing");
        assert_eq!(stage(Side::Program, LIBRARY, &[("enter", publish[0].1)]), "guard and buffer");
        assert_eq!(stage(Side::Program, LIBRARY, &[]), "other: libpagetrace_preload.so");
    }

    #[test]
    fn the_two_sides_differ() {
        assert_eq!(stage(Side::Program, "/lib/libc.so.6", &[]), "real allocator, C library");
        assert_eq!(stage(Side::Recorder, "/lib/libc.so.6", &[]), "C library: copies, allocations");
        let compress = [("ZSTD_compressBlock_fast", "zstd/lib/compress/zstd_fast.c")];
        assert_eq!(stage(Side::Recorder, "/bin/pagetrace", &compress), "compression");
        let decode = [("next", "format/src/encode.rs")];
        assert_eq!(stage(Side::Recorder, "/bin/pagetrace", &decode), "drain");
    }
}
