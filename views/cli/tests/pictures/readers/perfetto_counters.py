"""Counters of a Perfetto trace by process and name, read with Perfetto's own Python package, as JSON."""

import json
import sys

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

trace = Trace()
with open(sys.argv[1], "rb") as file:
    trace.ParseFromString(file.read())
processes, tracks, found = {}, {}, {}
for packet in trace.packet:
    assert packet.trusted_packet_sequence_id != 0
    if packet.HasField("track_descriptor"):
        track = packet.track_descriptor
        if track.HasField("process"):
            processes[track.uuid] = f"{track.process.process_name} ({track.process.pid})"
        else:
            assert track.HasField("counter"), track
            tracks[track.uuid] = (processes.get(track.parent_uuid, ""), track.name)
    else:
        event = packet.track_event
        assert event.type == TrackEvent.TYPE_COUNTER
        process, name = tracks[event.track_uuid]
        found.setdefault(process, {}).setdefault(name, []).append([packet.timestamp, event.counter_value])
json.dump(found, sys.stdout)
