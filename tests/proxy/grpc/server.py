"""An app of gRPC without generated code: bytes in, bytes out. Says its port, and what becomes of calls that hang."""
import sys
import threading
from concurrent import futures

import grpc


def echo(request, context):
    context.set_trailing_metadata((("x-seen", dict(context.invocation_metadata()).get("x-own", "")),))
    return request


def fail(request, context):
    context.abort(grpc.StatusCode.NOT_FOUND, "nothing here")


def total(requests, context):
    return str(sum(int(r) for r in requests)).encode()


def count(request, context):
    for n in range(int(request)):
        yield str(n).encode()


def chat(requests, context):
    for request in requests:
        yield b"you said " + request


def hang(request, context):
    gone = threading.Event()
    context.add_callback(gone.set)
    print("hanging", flush=True)
    gone.wait(60)
    print("cancelled", flush=True)
    return b""


def half(request, context):
    yield b"first"
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no more")


METHODS = {
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Hang": grpc.unary_unary_rpc_method_handler(hang),
    "Total": grpc.stream_unary_rpc_method_handler(total),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Half": grpc.unary_stream_rpc_method_handler(half),
    "Chat": grpc.stream_stream_rpc_method_handler(chat),
}
options = [("grpc.max_receive_message_length", 16 << 20), ("grpc.max_send_message_length", 16 << 20)]
server = grpc.server(futures.ThreadPoolExecutor(max_workers=32), options=options)
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.App", METHODS),))
if len(sys.argv) > 2:
    with open(sys.argv[1], "rb") as cert, open(sys.argv[2], "rb") as key:
        credentials = grpc.ssl_server_credentials([(key.read(), cert.read())])
    port = server.add_secure_port("127.0.0.1:0", credentials)
else:
    port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(f"port {port}", flush=True)
sys.stdin.read()
server.stop(0)
