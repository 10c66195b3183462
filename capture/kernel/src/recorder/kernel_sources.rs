//! What the kernel's events were, in the records that each trace has of its sources.

use pagetrace_format::records::Source;

use crate::perf::{CallsBy, FILL_BYTES_LEAST, Found, Missed};

/// What is missing where there are no perf events.
const REFUSED: [(&str, &str); 5] = [
    (
        "page_faults",
        "who touched a page first, when and from where: pages are found by scans alone, thread unknown; residency_agreement and \
         change_agreement are null, since nothing is predicted",
    ),
    ("kernel_mode_faults", "what the kernel touches for a program"),
    ("page_system_calls", "when memory was mapped and given back between two snapshots"),
    ("read_family_results", "which pages reads have filled: scans find them"),
    ("touch_stacks", "the call stacks of first touches"),
];

/// The sources of page events: which were at work and what they missed.
pub fn sources(found: &Result<Found, String>, missed: Missed, dropped: u64) -> Vec<Source> {
    let source = |name: &str, active, missed: Vec<String>| {
        let name = name.to_owned();
        Source { name, active, missed: missed.join("; ") }
    };
    let found = match found {
        Ok(found) => found,
        Err(why) => return REFUSED.map(|(name, cost)| source(name, false, vec![why.clone(), cost.to_owned()])).into(),
    };
    let count = |count: u64, what: &str| (count > 0).then(|| format!("{count} {what}"));
    let mut of_faults: Vec<String> =
        count(dropped, "events of processes that were gone before they were seen").into_iter().collect();
    of_faults.push("whether a fault was a read or a write, where its instruction can be both or is not known".into());
    let in_kernel = match (found.kernel_mode, found.kernel_accesses) {
        (true, true) => Vec::new(),
        (true, false) => vec!["whether the kernel read or wrote".into()],
        (false, _) => vec![
            "what the kernel touches for a program: it tells that to root only, or with \
                       kernel.perf_event_paranoid=1"
                .into(),
        ],
    };
    let (calls, results, with_calls) = match &found.calls {
        Err(why) => (vec![why.clone()], vec![why.clone()], false),
        Ok(missing) => {
            let listed = |of_reads: bool| {
                let names: Vec<&str> = missing.iter().copied().filter(|name| is_read(name) == of_reads).collect();
                (!names.is_empty())
                    .then(|| format!("not watched, to keep threads cheap to start: {}", names.join(", ")))
            };
            let mut calls: Vec<String> = listed(false).into_iter().collect();
            if let CallsBy::AllTracepoint(why) = &found.calls_by {
                // Nothing is missing of the calls, but of the program's time.
                calls.push(format!(
                    "each system call of a program took some 0.1 µs longer than by programs in the kernel ({why})"
                ));
            }
            calls.extend(count(missed.process_madvise, "calls of process_madvise for processes that are not known"));
            calls.extend(count(missed.ends, "calls of which only the end was seen"));
            let mut results: Vec<String> = listed(true).into_iter().collect();
            results.extend(count(missed.vectors, "calls whose buffers could not be read in time"));
            if !found.kernel_mode {
                results.push(format!(
                    "results under {FILL_BYTES_LEAST} bytes: scans find pages that nothing else touches"
                ));
            }
            (calls, results, true)
        }
    };
    let stacks = match &found.stacks {
        Ok(()) => count(missed.stacks, "stacks whose fault was not found").into_iter().collect(),
        Err(why) => vec![why.clone()],
    };
    vec![
        source("page_faults", true, of_faults),
        source("kernel_mode_faults", found.kernel_mode, in_kernel),
        source("page_system_calls", with_calls, calls),
        source("read_family_results", with_calls, results),
        source("touch_stacks", found.stacks.is_ok(), stacks),
    ]
}

fn is_read(name: &str) -> bool {
    ["read", "pread64", "readv", "preadv", "preadv2", "recvfrom", "recvmsg", "getrandom", "getdents64"].contains(&name)
}
