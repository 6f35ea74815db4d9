"""Calls an app of gRPC: client.py HOST:PORT AUTHORITY WHAT [CA]. Says one line about each call."""
import sys
import threading
import time

import grpc

target, authority, what = sys.argv[1:4]
options = [
    ("grpc.default_authority", authority),
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.max_send_message_length", 16 << 20),
    ("grpc.enable_retries", 0),
]
if len(sys.argv) > 4:
    with open(sys.argv[4], "rb") as ca:
        credentials = grpc.ssl_channel_credentials(ca.read())
    options.append(("grpc.ssl_target_name_override", authority))
    channel = grpc.secure_channel(target, credentials, options)
else:
    channel = grpc.insecure_channel(target, options)
unary = lambda name: channel.unary_unary(f"/test.App/{name}")


def kinds():
    answer, call = unary("Echo").with_call(b"hello", metadata=(("x-own", "mine"),), timeout=30)
    print("unary", answer.decode(), dict(call.trailing_metadata()).get("x-seen"))
    print("client-stream", channel.stream_unary("/test.App/Total")(iter([b"1", b"2", b"39"]), timeout=30).decode())
    print("server-stream", b",".join(channel.unary_stream("/test.App/Count")(b"5", timeout=30)).decode())
    # Each answer comes before the next question is asked.
    turn = threading.Semaphore(1)

    def questions():
        for n in range(3):
            turn.acquire()
            yield str(n).encode()

    said = []
    for answer in channel.stream_stream("/test.App/Chat")(questions(), timeout=30):
        said.append(answer.decode())
        turn.release()
    print("bidi", said)


def statuses():
    try:
        unary("Fail")(b"", timeout=30)
    except grpc.RpcError as error:
        print("fail", error.code().name, error.details())
    try:
        unary("Nowhere")(b"", timeout=30)
    except grpc.RpcError as error:
        print("unknown", error.code().name)
    got = []
    try:
        for answer in channel.unary_stream("/test.App/Half")(b"", timeout=30):
            got.append(answer.decode())
    except grpc.RpcError as error:
        print("half", got, error.code().name, error.details())


def large():
    message = bytes(i % 251 for i in range(4 << 20))
    print("large", unary("Echo")(message, timeout=60) == message)
    both = list(channel.stream_stream("/test.App/Chat")(iter([message] * 3), timeout=60))
    print("large-bidi", [len(answer) for answer in both])


def down():
    try:
        unary("Echo")(b"", timeout=30)
    except grpc.RpcError as error:
        print("down", error.code().name)


def deadline():
    try:
        unary("Hang")(b"", timeout=1)
    except grpc.RpcError as error:
        print("deadline", error.code().name)


def cancel():
    call = unary("Hang").future(b"")
    print("called", flush=True)
    sys.stdin.readline()
    call.cancel()
    print("cancelled", flush=True)
    # The connection is as good as before.
    print("after", unary("Echo")(b"fine", timeout=30).decode())


def many():
    """Calls without a pause until told to stop; says how many, and which went wrong."""
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
    done, wrong = 0, []
    print("calling", flush=True)
    while not stop.is_set():
        try:
            unary("Echo")(b"x", timeout=30)
            done += 1
        except grpc.RpcError as error:
            wrong.append(f"{error.code().name} {error.details()}")
    print("many", done > 0, wrong[:3])


globals()[what]()
