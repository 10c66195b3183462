//! Estimates and how far they may be off, in words.

use std::io::{self, Write};

use super::quantities::{bytes, count, counted};
use super::report_model::{Process, Report, Rss, Site};

/// So many standard errors to either side hold the true figure in about 95 of 100 cases.
const ERRORS_OF_95_PERCENT: f64 = 1.96;

/// Bytes, and how far off they may be where they are an estimate: `41.2 MiB ± 3 %`.
pub fn bytes_within(amount: u64, error: Option<u64>) -> String {
    format!("{}{}", bytes(amount), within(amount, error))
}

/// ` ± 3 %`, nothing of an exact figure.
pub fn within(amount: u64, error: Option<u64>) -> String {
    match error {
        None => String::new(),
        // Nothing was sampled: the interval has another form then.
        Some(_) if amount == 0 => String::new(),
        Some(error) => {
            let percent = error as f64 * ERRORS_OF_95_PERCENT / amount as f64 * 100.0;
            if percent < 1.0 { " ± <1 %".into() } else { format!(" ± {percent:.0} %") }
        }
    }
}

/// How far off a class of RSS may be.
pub fn class_within(rss: &Rss, class: &str, amount: i64) -> String {
    let errors = rss.class_errors.as_ref();
    let error = match class {
        "live_objects" => errors.map(|it| it.live_objects),
        "allocator_rest" => errors.map(|it| it.allocator_rest),
        _ => None,
    };
    within(amount.unsigned_abs(), error)
}

/// What a site holds live.
pub fn live_of(site: &Site) -> String {
    let objects = counted(site.live_objects, "live object");
    let live = bytes_within(site.live_bytes, site.errors.live_bytes_error);
    match site.errors.live_samples {
        None => format!("{live} in {objects}"),
        Some(samples) => format!("{live} in about {objects} ({})", counted(samples, "sample")),
    }
}

/// Says that figures are estimates.
///
/// # Errors
/// What `out` gives.
pub fn write_sampling(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let Some(sampling) = &report.sampling else { return Ok(()) };
    writeln!(
        out,
        "  Objects were sampled, one in {} bytes: what is said of them is estimated, ± with 95 % confidence.",
        count(sampling.mean_bytes)
    )
}

/// The objects of a process where they were sampled.
///
/// # Errors
/// What `out` gives.
pub fn write_sampled_objects(process: &Process, out: &mut dyn Write) -> io::Result<()> {
    let (objects, errors) = (&process.objects, &process.objects.errors);
    let figure = |figure: Option<u64>, error| {
        let figure = figure.unwrap_or(0);
        format!("{}{}", count(figure), within(figure, error))
    };
    let samples = errors.live_samples.unwrap_or(0);
    writeln!(
        out,
        "\nAbout {} objects live with {}, by {}; about {} allocated and {} freed in the whole recording.",
        figure(objects.live, errors.live_error),
        bytes_within(objects.live_bytes.unwrap_or(0), errors.live_bytes_error),
        counted(samples, "sample"),
        figure(objects.allocated, errors.allocated_error),
        figure(objects.freed, errors.freed_error)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_of_95_percent() {
        fn check(amount: u64, error: Option<u64>, expected: &str) {
            assert_eq!(bytes_within(amount, error), expected);
        }
        check(1 << 20, None, "1.0 MiB");
        check(1000, Some(100), "1000 B ± 20 %");
        check(1000, Some(1000), "1000 B ± 196 %");
        check(1000, Some(1), "1000 B ± <1 %");
        check(0, Some(0), "0 B");
    }
}
