//! A moment, as it is written on the command line: `peak`, `end`, or a time since the start.

use std::str::FromStr;
use std::time::Duration;

use pagetrace_format::TraceNanos;
use pagetrace_replay::Moment;

use crate::trace_input::TraceInput;

/// A moment, as it is written on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names say it.
pub enum At {
    Peak,
    End,
    Time(Duration),
}

impl At {
    /// The peak where nothing is asked for; of execution traces of Go, which know no residency, the end.
    pub fn or_default(asked: Option<At>, input: &TraceInput) -> At {
        asked.unwrap_or(if input.go_execution_trace().is_some() { At::End } else { At::Peak })
    }

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            At::Peak => "peak",
            At::End => "end",
            At::Time(_) => "time",
        }
    }

    /// What a replay is asked for.
    pub fn moment(self) -> Moment {
        match self {
            At::Peak => Moment::Peak,
            At::End => Moment::End,
            At::Time(time) => Moment::At(TraceNanos(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))),
        }
    }
}

impl FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<At, String> {
        match text {
            "peak" => return Ok(At::Peak),
            "end" => return Ok(At::End),
            _ => {}
        }
        let (number, unit) = match text.find(|c: char| c.is_ascii_alphabetic()) {
            Some(place) => text.split_at(place),
            None => (text, "s"),
        };
        let nanos = match unit {
            "s" => 1e9,
            "ms" => 1e6,
            "us" => 1e3,
            "ns" => 1.0,
            _ => return Err("expected peak, end, or a time since the start such as 1.5, 2s or 200ms".into()),
        };
        let number: f64 = number.trim().parse().map_err(|_| format!("expected peak, end or a time, found {text:?}"))?;
        Duration::try_from_secs_f64(number * nanos / 1e9)
            .map(At::Time)
            .map_err(|_| format!("expected a time since the start, at least 0, found {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_so() {
        fn check(text: &str, expected: Option<At>) {
            assert_eq!(text.parse::<At>().ok(), expected, "{text}");
        }
        let time = |millis| Some(At::Time(Duration::from_millis(millis)));
        check("peak", Some(At::Peak));
        check("end", Some(At::End));
        check("0", time(0));
        check("1.5", time(1500));
        check("1.5s", time(1500));
        check("200ms", time(200));
        check("2000us", time(2));
        check("3000000ns", time(3));
        check("", None);
        check("-1", None);
        check("5 minutes", None);
        check("1h", None);
        check("nan", None);
        check("1e30", None);
    }
}
