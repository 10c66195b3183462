"""Counters of a Perfetto trace by process and name, read with Perfetto's own messages, as JSON. What these do not know, and tracks that
are told of twice or not at all, fail."""

import json
import sys

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import CounterDescriptor, Trace, TracePacket, TrackEvent

trace = Trace()
with open(sys.argv[1], "rb") as file:
    trace.ParseFromString(file.read())
assert trace.packet[0].sequence_flags & TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
processes, tracks, found = {}, {}, {}
for packet in trace.packet:
    assert packet.trusted_packet_sequence_id != 0
    without_unknown = TracePacket.FromString(packet.SerializeToString())
    without_unknown.DiscardUnknownFields()
    assert without_unknown == packet, packet
    if packet.HasField("track_descriptor"):
        track = packet.track_descriptor
        assert track.uuid not in processes and track.uuid not in tracks, track
        if track.HasField("process"):
            processes[track.uuid] = f"{track.process.process_name} ({track.process.pid})"
        else:
            assert track.counter.unit in (CounterDescriptor.UNIT_COUNT, CounterDescriptor.UNIT_SIZE_BYTES), track
            assert track.parent_uuid == 0 or track.parent_uuid in processes, track
            tracks[track.uuid] = (processes.get(track.parent_uuid, ""), track.name)
    else:
        event = packet.track_event
        assert event.type == TrackEvent.TYPE_COUNTER
        process, name = tracks[event.track_uuid]
        found.setdefault(process, {}).setdefault(name, []).append([packet.timestamp, event.counter_value])
json.dump(found, sys.stdout)
