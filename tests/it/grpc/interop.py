"""Server and client of gRPC's interoperability cases, by grpcio.

    interop.py serve [CERTIFICATE KEY]              prints its port, serves until its standard input ends
    interop.py ask ADDRESS [CA]                     runs every case, and prints the name of each that passed

With files of PEM it speaks TLS, under the name `web.example`.
"""

import concurrent.futures
import pathlib
import queue
import sys

import grpc

sys.path.insert(0, str(pathlib.Path(__file__).parent))
messages, services = grpc.protos_and_services("interop.proto")

INITIAL = "x-grpc-test-echo-initial"
TRAILING = "x-grpc-test-echo-trailing-bin"
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
PATIENCE = 20


def echo_metadata(context):
    for name, value in context.invocation_metadata():
        if name == INITIAL:
            context.send_initial_metadata(((name, value),))
        if name == TRAILING:
            context.set_trailing_metadata(((name, value),))


def answers(request):
    """The messages that a request asks for."""
    for wanted in request.response_parameters:
        yield messages.StreamingOutputCallResponse(payload=zeros(wanted.size))


def echo_status(request, context):
    if request.HasField("response_status"):
        status = request.response_status
        code = next(c for c in grpc.StatusCode if c.value[0] == status.code)
        context.set_code(code)
        context.set_details(status.message)


def zeros(count):
    return messages.Payload(body=bytes(count))


class TestService(services.TestServiceServicer):
    def EmptyCall(self, request, context):
        echo_metadata(context)
        return messages.Empty()

    def UnaryCall(self, request, context):
        echo_metadata(context)
        echo_status(request, context)
        return messages.SimpleResponse(payload=zeros(request.response_size))

    def StreamingOutputCall(self, request, context):
        echo_metadata(context)
        echo_status(request, context)
        yield from answers(request)

    def StreamingInputCall(self, requests, context):
        total = sum(len(request.payload.body) for request in requests)
        return messages.StreamingInputCallResponse(aggregated_payload_size=total)

    def FullDuplexCall(self, requests, context):
        echo_metadata(context)
        for request in requests:
            echo_status(request, context)
            yield from answers(request)


def serve(files):
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(16))
    services.add_TestServiceServicer_to_server(TestService(), server)
    if files:
        certificate, key = (pathlib.Path(file).read_bytes() for file in files)
        credentials = grpc.ssl_server_credentials([(key, certificate)])
        port = server.add_secure_port("127.0.0.1:0", credentials)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    print(port, flush=True)
    server.start()
    sys.stdin.read()
    server.stop(0).wait()


def failure(call):
    """The error that a call ends with."""
    try:
        result = call()
        for _ in result if hasattr(result, "__next__") else ():
            pass
    except grpc.RpcError as error:
        return error
    raise AssertionError("it did not fail")


def expect(error, code, details=None):
    assert error.code() is code, error
    assert details is None or error.details() == details, repr(error.details())


class Talk:
    """The client's half of a bidirectional call, message by message."""

    def __init__(self, stub, **options):
        self.requests = queue.Queue()
        self.call = stub.FullDuplexCall(iter(self.requests.get, None), timeout=PATIENCE, **options)

    def send(self, request):
        self.requests.put(request)

    def ask(self, answer, payload):
        self.send(
            messages.StreamingOutputCallRequest(
                response_parameters=[messages.ResponseParameters(size=answer)],
                payload=zeros(payload),
            )
        )
        got = next(self.call)
        assert got.payload.body == bytes(answer), len(got.payload.body)

    def finish(self):
        self.requests.put(None)


def empty_unary(stub):
    assert stub.EmptyCall(messages.Empty(), timeout=PATIENCE) == messages.Empty()


def large_request():
    return messages.SimpleRequest(response_size=314159, payload=zeros(271828))


def large_unary(stub):
    answer = stub.UnaryCall(large_request(), timeout=PATIENCE)
    assert answer.payload.body == bytes(314159)


def client_streaming(stub):
    requests = (
        messages.StreamingInputCallRequest(payload=zeros(size)) for size in (27182, 8, 1828, 45904)
    )
    answer = stub.StreamingInputCall(requests, timeout=PATIENCE)
    assert answer.aggregated_payload_size == 74922, answer


def server_streaming(stub):
    sizes = [31415, 9, 2653, 58979]
    request = messages.StreamingOutputCallRequest(
        response_parameters=[messages.ResponseParameters(size=size) for size in sizes]
    )
    answers = stub.StreamingOutputCall(request, timeout=PATIENCE)
    assert [len(answer.payload.body) for answer in answers] == sizes


def ping_pong(stub):
    talk = Talk(stub)
    for answer, payload in ((31415, 27182), (9, 8), (2653, 1828), (58979, 45904)):
        talk.ask(answer, payload)
    talk.finish()
    assert list(talk.call) == []
    assert talk.call.code() is grpc.StatusCode.OK


def empty_stream(stub):
    assert list(stub.FullDuplexCall(iter(()), timeout=PATIENCE)) == []


def cancel_after_begin(stub):
    never = queue.Queue()
    call = stub.StreamingInputCall.future(iter(never.get, None), timeout=PATIENCE)
    call.cancel()
    never.put(None)
    assert call.cancelled() and call.code() is grpc.StatusCode.CANCELLED, call


def cancel_after_first_response(stub):
    talk = Talk(stub)
    talk.ask(31415, 27182)
    talk.call.cancel()
    talk.finish()
    expect(failure(lambda: talk.call), grpc.StatusCode.CANCELLED)


def timeout_on_sleeping_server(stub):
    requests = queue.Queue()
    requests.put(messages.StreamingOutputCallRequest(payload=zeros(27182)))
    call = stub.FullDuplexCall(iter(requests.get, None), timeout=0.001)
    expect(failure(lambda: call), grpc.StatusCode.DEADLINE_EXCEEDED)
    # One millisecond is often over before anything is sent; this one reaches the server.
    call = stub.FullDuplexCall(iter(requests.get, None), timeout=0.3)
    requests.put(messages.StreamingOutputCallRequest(payload=zeros(27182)))
    expect(failure(lambda: call), grpc.StatusCode.DEADLINE_EXCEEDED)
    requests.put(None)
    requests.put(None)


def custom_metadata(stub):
    metadata = ((INITIAL, "test_initial_metadata_value"), (TRAILING, b"\xab\xab\xab"))
    _, call = stub.UnaryCall.with_call(large_request(), metadata=metadata, timeout=PATIENCE)
    talk = Talk(stub, metadata=metadata)
    talk.ask(314159, 271828)
    talk.finish()
    assert list(talk.call) == []
    for done in (call, talk.call):
        assert dict(done.initial_metadata())[INITIAL] == "test_initial_metadata_value"
        assert dict(done.trailing_metadata())[TRAILING] == b"\xab\xab\xab"


def status_code_and_message(stub):
    status = messages.EchoStatus(code=2, message="test status message")
    error = failure(
        lambda: stub.UnaryCall(messages.SimpleRequest(response_status=status), timeout=PATIENCE)
    )
    expect(error, grpc.StatusCode.UNKNOWN, "test status message")
    request = messages.StreamingOutputCallRequest(response_status=status)
    error = failure(lambda: stub.FullDuplexCall(iter((request,)), timeout=PATIENCE))
    expect(error, grpc.StatusCode.UNKNOWN, "test status message")


def special_status_message(stub):
    status = messages.EchoStatus(code=2, message=SPECIAL)
    error = failure(
        lambda: stub.UnaryCall(messages.SimpleRequest(response_status=status), timeout=PATIENCE)
    )
    expect(error, grpc.StatusCode.UNKNOWN, SPECIAL)


def unimplemented_method(stub):
    error = failure(lambda: stub.UnimplementedCall(messages.Empty(), timeout=PATIENCE))
    expect(error, grpc.StatusCode.UNIMPLEMENTED)


def unimplemented_service(stub):
    error = failure(lambda: stub.other.UnimplementedCall(messages.Empty(), timeout=PATIENCE))
    expect(error, grpc.StatusCode.UNIMPLEMENTED)


def compressed_unary(stub):
    """Not one of the published ones, which need a server that looks at the flag: it stays gzip."""
    answer = stub.UnaryCall(large_request(), timeout=PATIENCE, compression=grpc.Compression.Gzip)
    assert answer.payload.body == bytes(314159)


CASES = [
    empty_unary,
    large_unary,
    client_streaming,
    server_streaming,
    ping_pong,
    empty_stream,
    cancel_after_begin,
    cancel_after_first_response,
    timeout_on_sleeping_server,
    custom_metadata,
    status_code_and_message,
    special_status_message,
    unimplemented_method,
    unimplemented_service,
    compressed_unary,
]


def ask(address, ca):
    if ca:
        credentials = grpc.ssl_channel_credentials(pathlib.Path(ca[0]).read_bytes())
        options = (("grpc.ssl_target_name_override", "web.example"),)
        channel = grpc.secure_channel(address, credentials, options)
    else:
        channel = grpc.insecure_channel(address)
    stub = services.TestServiceStub(channel)
    stub.other = services.UnimplementedServiceStub(channel)
    for case in CASES:
        case(stub)
        print(case.__name__, flush=True)
    # What went wrong on the way leaves a connection that is as good as before.
    for _ in range(100):
        large_unary(stub)
    print("all well")


if __name__ == "__main__":
    verb, *rest = sys.argv[1:]
    serve(rest) if verb == "serve" else ask(rest[0], rest[1:])
