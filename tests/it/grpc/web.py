"""A client of gRPC-Web, by sonora: the interoperability cases that it has shapes for.

    web.py URL     runs them, and prints `all well`
"""

import sys

import grpc
import sonora.client

from interop import INITIAL, failure, expect, large_request, messages, services


class Channel:
    """Generated stubs say more of a method than sonora wants to know."""

    def __init__(self, channel):
        self.channel = channel

    def __getattr__(self, shape):
        make = getattr(self.channel, shape)
        return lambda path, request_serializer, response_deserializer, **_: make(
            path, request_serializer, response_deserializer
        )


def ask(url):
    with sonora.client.insecure_web_channel(url) as channel:
        channel = Channel(channel)
        stub = services.TestServiceStub(channel)
        assert stub.EmptyCall(messages.Empty(), timeout=20) == messages.Empty()
        assert stub.UnaryCall(large_request(), timeout=20).payload.body == bytes(314159)

        sizes = [31415, 9, 2653, 58979]
        parameters = [messages.ResponseParameters(size=size) for size in sizes]
        request = messages.StreamingOutputCallRequest(response_parameters=parameters)
        answers = stub.StreamingOutputCall(request, timeout=20)
        assert [len(answer.payload.body) for answer in answers] == sizes

        _, call = stub.UnaryCall.with_call(large_request(), 20, ((INITIAL, "here"),))
        assert dict(call.initial_metadata())[INITIAL] == "here", call.initial_metadata()

        status = messages.EchoStatus(code=2, message="größer als 100%")
        request = messages.SimpleRequest(response_status=status)
        expect(failure(lambda: stub.UnaryCall(request)), grpc.StatusCode.UNKNOWN, "größer als 100%")
        empty = messages.Empty()
        expect(failure(lambda: stub.UnimplementedCall(empty)), grpc.StatusCode.UNIMPLEMENTED)
        other = services.UnimplementedServiceStub(channel)
        expect(failure(lambda: other.UnimplementedCall(empty)), grpc.StatusCode.UNIMPLEMENTED)
    print("all well")


if __name__ == "__main__":
    ask(sys.argv[1])
