//! A trace of Perfetto: for each process counters of RSS and its classes, and for each processor, buffer or thread with page events
//! counters of these.

use std::io::Write;

use pagetrace_replay::HistoryLimits;
use pagetrace_replay::history::Lane;
use prost::Message;

use super::site_samples::{analysed, class_names, process_name};
use super::{Export, ExportOptions};
use crate::pictures::lane_name;
use crate::reports::report_model::Report;
use crate::trace_input::TraceInput;

/// Writes Perfetto's protocol buffers.
pub struct PerfettoExport;

/// `TYPE_COUNTER` of TrackEvent.
const COUNTER: i32 = 4;
/// `UNIT_COUNT` and `UNIT_SIZE_BYTES` of CounterDescriptor.
const UNIT_COUNT: i32 = 2;
const UNIT_BYTES: i32 = 3;
/// `SEQ_INCREMENTAL_STATE_CLEARED` of TracePacket.
const STATE_CLEARED: u32 = 1;
const SEQUENCE: u32 = 1;

impl Export for PerfettoExport {
    fn export(&self, input: &TraceInput, options: &ExportOptions, out: &mut dyn Write) -> anyhow::Result<u64> {
        analysed(input, options, HistoryLimits::whole(0), |analysis, report, _| {
            let mut packets = Packets::default();
            processes(report, &mut packets);
            let start = analysis.replayed.start.0;
            let times: Vec<u64> = analysis.history.lane_times.iter().map(|time| time.0.saturating_sub(start)).collect();
            for lane in &analysis.history.lanes {
                let name = lane_name(lane, &analysis.replayed.metadata);
                page_events(&name, lane, &times, &mut packets);
            }
            out.write_all(&Trace { packet: packets.packets }.encode_to_vec())?;
            Ok(report.defects.len() as u64)
        })
    }
}

fn processes(report: &Report, packets: &mut Packets) {
    for (place, process) in report.processes.iter().enumerate() {
        let pid = process.pid.map_or(place as i32 + 1, |pid| i32::try_from(pid).unwrap_or(i32::MAX));
        let described = ProcessDescriptor { pid: Some(pid), process_name: Some(process_name(process)) };
        let parent = packets.track(TrackDescriptor { process: Some(described), ..TrackDescriptor::default() });
        let points = || report.timeline.iter().filter(|point| point.process == Some(place));
        let rss = points().filter_map(|point| Some((point.time_ns, i64::try_from(point.rss_bytes?).ok()?)));
        packets.counter("RSS", parent, UNIT_BYTES, rss);
        for name in class_names(report) {
            let of =
                |classes: &[(&str, i64)]| classes.iter().find(|(class, _)| *class == name).map(|(_, bytes)| *bytes);
            let values = points().filter_map(|point| Some((point.time_ns, of(&point.classes.as_ref()?.0)?)));
            if values.clone().any(|(_, bytes)| bytes != 0) {
                packets.counter(&name.replace('_', " "), parent, UNIT_BYTES, values);
            }
        }
    }
}

fn page_events(name: &str, lane: &Lane, times: &[u64], packets: &mut Packets) {
    for (kind, what) in ["alloc", "free", "scavenge"].into_iter().enumerate() {
        let counts = times.iter().zip(&lane.parts).map(|(&time, part)| (time, i64::from(part[kind])));
        packets.counter(&format!("{name} {what}"), 0, UNIT_COUNT, counts);
    }
}

/// A trace in the making.
#[derive(Default)]
struct Packets {
    packets: Vec<TracePacket>,
    tracks: u64,
}

impl Packets {
    fn track(&mut self, descriptor: TrackDescriptor) -> u64 {
        self.tracks += 1;
        let descriptor = TrackDescriptor { uuid: Some(self.tracks), ..descriptor };
        // Nothing before the first packet is needed to read what follows.
        let flags = if self.tracks == 1 { STATE_CLEARED } else { 0 };
        self.push(TracePacket {
            track_descriptor: Some(descriptor),
            sequence_flags: Some(flags),
            ..TracePacket::default()
        });
        self.tracks
    }

    fn counter(&mut self, name: &str, parent: u64, unit: i32, values: impl Iterator<Item = (u64, i64)>) {
        let track = self.track(TrackDescriptor {
            name: Some(name.to_owned()),
            parent_uuid: (parent != 0).then_some(parent),
            counter: Some(CounterDescriptor { unit: Some(unit) }),
            ..TrackDescriptor::default()
        });
        for (time, value) in values {
            let event = TrackEvent { r#type: Some(COUNTER), track_uuid: Some(track), counter_value: Some(value) };
            self.push(TracePacket { timestamp: Some(time), track_event: Some(event), ..TracePacket::default() });
        }
    }

    fn push(&mut self, packet: TracePacket) {
        self.packets.push(TracePacket { trusted_packet_sequence_id: Some(SEQUENCE), ..packet });
    }
}

#[derive(Clone, PartialEq, Message)]
struct Trace {
    #[prost(message, repeated, tag = "1")]
    packet: Vec<TracePacket>,
}

#[derive(Clone, PartialEq, Message)]
struct TracePacket {
    #[prost(uint64, optional, tag = "8")]
    timestamp: Option<u64>,
    #[prost(uint32, optional, tag = "10")]
    trusted_packet_sequence_id: Option<u32>,
    #[prost(message, optional, tag = "11")]
    track_event: Option<TrackEvent>,
    #[prost(uint32, optional, tag = "13")]
    sequence_flags: Option<u32>,
    #[prost(message, optional, tag = "60")]
    track_descriptor: Option<TrackDescriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct TrackDescriptor {
    #[prost(uint64, optional, tag = "1")]
    uuid: Option<u64>,
    #[prost(string, optional, tag = "2")]
    name: Option<String>,
    #[prost(message, optional, tag = "3")]
    process: Option<ProcessDescriptor>,
    #[prost(uint64, optional, tag = "5")]
    parent_uuid: Option<u64>,
    #[prost(message, optional, tag = "8")]
    counter: Option<CounterDescriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct ProcessDescriptor {
    #[prost(int32, optional, tag = "1")]
    pid: Option<i32>,
    #[prost(string, optional, tag = "6")]
    process_name: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct CounterDescriptor {
    #[prost(int32, optional, tag = "3")]
    unit: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct TrackEvent {
    #[prost(int32, optional, tag = "9")]
    r#type: Option<i32>,
    #[prost(uint64, optional, tag = "11")]
    track_uuid: Option<u64>,
    #[prost(int64, optional, tag = "30")]
    counter_value: Option<i64>,
}
