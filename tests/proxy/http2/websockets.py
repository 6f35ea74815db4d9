"""An app of HTTP/2 in clear text that takes WebSockets (RFC 8441), or not: websockets.py [no].

Says its port, and then what becomes of each stream. In a WebSocket it greets and then says again what it is told, as
bytes: frames are nobody's affair on the way. /no is refused, /cut is reset once something was said.
"""
import socket
import sys
import threading

import h2.config
import h2.connection
import h2.events
import h2.settings

takes = len(sys.argv) < 2
listener = socket.create_server(("127.0.0.1", 0))
print(f"port {listener.getsockname()[1]}", flush=True)


def serve(line):
    conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    if takes:
        values = {h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 1, h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 100}
        conn.local_settings = h2.settings.Settings(client=False, initial_values=values)
    conn.initiate_connection()
    line.sendall(conn.data_to_send())
    sockets, cut, waiting, over = set(), set(), {}, set()

    def say_more():
        """As much of what waits as may be said now."""
        for stream, text in list(waiting.items()):
            count = min(len(text), conn.local_flow_control_window(stream), conn.max_outbound_frame_size)
            while count > 0:
                conn.send_data(stream, text[:count])
                text = text[count:]
                count = min(len(text), conn.local_flow_control_window(stream), conn.max_outbound_frame_size)
            waiting[stream] = text
            if not text:
                del waiting[stream]
                if stream in over:
                    conn.end_stream(stream)

    while data := line.recv(65536):
        for event in conn.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                fields, stream = dict(event.headers), event.stream_id
                if fields[":path"] == "/no":
                    conn.send_headers(stream, [(":status", "403"), ("content-length", "2")])
                    conn.send_data(stream, b"no", end_stream=True)
                elif ":protocol" in fields:
                    sockets.add(stream)
                    if fields[":path"] == "/cut":
                        cut.add(stream)
                    conn.send_headers(stream, [(":status", "200"), ("sec-websocket-protocol", "chat")])
                    names = ["sec-websocket-key", "upgrade", "connection"]
                    told = [fields[":method"], fields[":protocol"], fields[":path"], *(n for n in names if n in fields)]
                    waiting[stream] = (" ".join(told) + "\n").encode()
                else:
                    conn.send_headers(stream, [(":status", "200")])
                    conn.send_data(stream, fields[":method"].encode(), end_stream=True)
            elif isinstance(event, h2.events.DataReceived):
                conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if event.stream_id in cut:
                    conn.reset_stream(event.stream_id, 2)
                    waiting.pop(event.stream_id, None)
                elif event.data:
                    waiting[event.stream_id] = waiting.get(event.stream_id, b"") + event.data
            elif isinstance(event, h2.events.StreamEnded):
                if event.stream_id in sockets:
                    print("ended", flush=True)
                    over.add(event.stream_id)
                    waiting.setdefault(event.stream_id, b"")
            elif isinstance(event, h2.events.StreamReset):
                print(f"reset {int(event.error_code)}", flush=True)
                waiting.pop(event.stream_id, None)
        say_more()
        line.sendall(conn.data_to_send())


while True:
    threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()
