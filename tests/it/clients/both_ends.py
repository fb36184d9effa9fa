"""A gRPC server and a client of it, by grpcio. Messages are plain bytes: no protoc is needed.

    both_ends.py serve           prints its port, serves until its standard input ends
    both_ends.py ask ADDRESS     calls every shape, and prints `all well`
"""

import concurrent.futures
import queue
import sys

import grpc

BINARY = bytes(range(256))


def unary(request, context):
    metadata = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-head", metadata.get("x-asked", "none")),))
    context.set_trailing_metadata((("x-trailer", "here"), ("x-trailer-bin", BINARY)))
    return request[::-1]


def server_stream(request, context):
    for number in range(int(request)):
        yield b"%d" % number


def client_stream(requests, context):
    return b"%d" % sum(int(request) for request in requests)


def both(requests, context):
    for request in requests:
        yield request + b"!"


def fail(request, context):
    context.set_trailing_metadata((("x-why", "because"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "größer als erlaubt: 100%")


def fail_late(request, context):
    yield b"first"
    yield b"second"
    context.abort(grpc.StatusCode.DATA_LOSS, "after two")


def slow(request, context):
    gone = concurrent.futures.Future()
    if context.add_callback(lambda: gone.set_result(None)):
        gone.result(timeout=20)
    return b""


def serve():
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
        "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
        "Both": grpc.stream_stream_rpc_method_handler(both),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "FailLate": grpc.unary_stream_rpc_method_handler(fail_late),
        "Slow": grpc.unary_unary_rpc_method_handler(slow),
    }
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("weir.Test", handlers),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(0).wait()


def refused(call):
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("not refused")


def ask(address):
    channel = grpc.insecure_channel(address)
    name = "/weir.Test/"

    call = channel.unary_unary(name + "Unary")
    answer, done = call.with_call(b"stressed", metadata=(("x-asked", "yes"),), timeout=20)
    assert answer == b"desserts", answer
    assert dict(done.initial_metadata())["x-head"] == "yes", done.initial_metadata()
    trailers = dict(done.trailing_metadata())
    assert trailers["x-trailer"] == "here" and trailers["x-trailer-bin"] == BINARY, trailers
    large = bytes(3_000_000) + b"end"
    assert call(large, timeout=20) == large[::-1]
    assert call(b"", timeout=20) == b""

    stream = channel.unary_stream(name + "ServerStream")
    assert [int(item) for item in stream(b"1000", timeout=20)] == list(range(1000))
    assert list(stream(b"0", timeout=20)) == []

    total = channel.stream_unary(name + "ClientStream")
    assert total((b"%d" % number for number in range(1000)), timeout=20) == b"499500"

    # Each message is sent only when the one before has come back: nothing may be held on the way.
    back = queue.Queue()

    def talk():
        yield b"0"
        for number in range(1, 50):
            back.get(timeout=20)
            yield b"%d" % number

    seen = []
    for item in channel.stream_stream(name + "Both")(talk(), timeout=20):
        seen.append(item)
        back.put(item)
    assert seen == [b"%d!" % number for number in range(50)], seen

    error = refused(lambda: channel.unary_unary(name + "Fail")(b"", timeout=20))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION, error
    assert error.details() == "größer als erlaubt: 100%", error.details()
    assert dict(error.trailing_metadata())["x-why"] == "because", error.trailing_metadata()

    got = []
    late = channel.unary_stream(name + "FailLate")(b"", timeout=20)
    error = refused(lambda: [got.append(item) for item in late])
    assert got == [b"first", b"second"], got
    assert (error.code(), error.details()) == (grpc.StatusCode.DATA_LOSS, "after two"), error

    error = refused(lambda: channel.unary_unary(name + "Missing")(b"", timeout=20))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED, error
    error = refused(lambda: channel.unary_unary(name + "Slow")(b"", timeout=0.3))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED, error
    # What the proxy answers by itself is a gRPC status too.
    error = refused(lambda: channel.unary_unary("/weir.Gone/Unary")(b"", timeout=20))
    assert error.code() is grpc.StatusCode.UNAVAILABLE, error
    error = refused(lambda: channel.unary_unary("/weir.Nowhere/Unary")(b"", timeout=20))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED, error
    print("all well")


if __name__ == "__main__":
    serve() if sys.argv[1] == "serve" else ask(sys.argv[2])
