"""Asks 200 times on one connection, 50 at once, each with fields of its own: client.py HOST PORT AUTHORITY."""
import socket
import sys

import h2.config
import h2.connection
import h2.events

host, port, authority = sys.argv[1:4]
line = socket.create_connection((host, int(port)))
conn = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
conn.initiate_connection()
line.sendall(conn.data_to_send())
asked, answers, bodies = 0, {}, {}


def ask():
    global asked
    stream = conn.get_next_available_stream_id()
    fields = [(":method", "POST"), (":scheme", "http"), (":authority", authority), (":path", f"/{asked}")]
    fields += [("x-number", str(asked)), ("x-again", "the same")]
    conn.send_headers(stream, fields)
    conn.send_data(stream, f"body {asked}".encode(), end_stream=True)
    bodies[stream] = b""
    asked += 1


for _ in range(50):
    ask()
line.sendall(conn.data_to_send())
while len(answers) < 200:
    data = line.recv(65536)
    assert data, "it ended"
    for event in conn.receive_data(data):
        if isinstance(event, h2.events.DataReceived):
            bodies[event.stream_id] += event.data
            conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            text = bodies[event.stream_id].decode()
            number = text.split()[1][1:]
            assert f"x-number: {number}" in text and text.endswith(f"body {number}"), text
            answers[event.stream_id] = text
            if asked < 200:
                ask()
        elif isinstance(event, h2.events.StreamReset):
            raise SystemExit(f"reset {event.error_code}")
    line.sendall(conn.data_to_send())
print(f"{len(answers)} answers, {len(set(answers.values()))} different")
