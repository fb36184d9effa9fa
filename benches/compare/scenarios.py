"""What is measured: each scenario gives tables of every proxy's figures. Must not know how they are shown."""

import statistics
import time
from pathlib import Path

import machine
from bench import latencies, until
from machine import Processes
from measures import curl, h2load, own, reloading, requests_at, scraped, told, undisturbed, wrk
from peers import ADDED, CERTIFICATE, RELEASES, Floor, releases


def http1(bench):
    """HTTP/1.1, kept connections, 10 routes: 1, 64 and 1,000 connections, each with one and two workers."""
    for connections in bench.size.of([1, 64, 1000], [1, 64]):
        taking = bench.each(with_={"workers": 2}, named="2 workers")
        if connections == 64:
            for label, release in releases(bench.proxies):
                taking[label] = (release, {})
                bench.note(f"{label}: {release.version()} from PyPI, compiled {RELEASES[label][2]}")
            taking["floor"] = (Floor(bench.load), {})
            bench.note(
                "`floor` is no peer and counts for no goal: a forwarder that looks at nothing. It copies bytes, over one connection to the"
                " origin for each client's; a wait, a read and a write for each message is what the kernel takes of any program with sockets"
            )
        rows = bench.in_turn(f"http1-{connections}", wrk(connections), taking)
        if connections == 64 and "nginx" in rows:
            bench.half_of_nginx = rows["nginx"]["rps"] / 2
        if not machine.HAS_FREE_CORES:
            bench.note("with 2 workers the load shares the second one's core")
        yield f"http1, {connections} connection{'s' * (connections > 1)}", rows


def fields(bench):
    """That origins are told the same by all proxies; and HTTP/1.1 where the others tell them less than ours does."""
    secure = {"certificates": bench.certificates, "mutual": True}
    for job in [{}, {"http2": True}, {"http2": True, "origin_http2": True}, secure]:
        asked = {*ADDED, CERTIFICATE} if job is secure else set(ADDED)
        with bench.readers(http2="origin_http2" in job) as ports:
            for proxy in bench.proxies:
                found = asked
                with bench.excused(proxy, "telling origins"), bench.running(proxy, ports, **job) as running:
                    found = told(running)
                if not asked <= found or (proxy is bench.weir and found != asked):
                    raise RuntimeError(f"{proxy.name} tells an origin {', '.join(sorted(found))}, and not {', '.join(sorted(asked))} ({job})")
    taking = bench.each(with_={"adds_all": False}, named="less")
    del taking[f"{bench.weir.name}, less"]
    bench.note(
        f"from all proxies, here and everywhere, origins get {', '.join(ADDED)}, and {CERTIFICATE} where clients show one;"
        " `less`: only `x-forwarded-for`, and those of the others that the proxy sends unasked"
    )
    yield "fewer fields for origins, 64 connections", bench.in_turn("fields", wrk(64), taking)


def latency(bench):
    """HTTP/1.1 at a fixed rate, half of nginx's maximum; counted from when each request was due."""
    rate = bench.half_of_nginx
    if rate is None:
        nginx = {proxy.name: (proxy, {}) for proxy in bench.proxies if proxy.name == "nginx"} or {"weir": (bench.weir, {})}
        rate = next(iter(bench.in_turn("latency-rate", wrk(64), nginx).values()))["rps"] / 2
    # A virtual machine is stalled for a millisecond or more about once a second, which is the p99.9 of that second
    # whoever serves. In most quarters of one it is not.
    with bench.sized(rounds=bench.size.of(20 * bench.size.rounds, 1), seconds=0.25):
        rate, directly = sendable(bench, int(rate))
        rows = bench.in_turn("latency", undisturbed(bench, requests_at(bench, rate)), origins=bench.ends, of_rounds=latencies)
    bench.note(
        "medians of twenty times as many rounds as elsewhere, of a quarter of a second: what happens less than about twice a second,"
        " be it a stall of the machine or a pause of the proxy, is not in them; the p99.9 of the slowest tenth of the rounds begins at `slow_p999_us`"
    )
    bench.note("load and origins are one thread, and proxies come before all else on their core, so that no scheduler stands in between")
    bench.note("`load_late_us`: 99 % of requests were let go by the load at most so late, which is part of the latencies")
    yield f"latency at {rate} requests/s", {**rows, "no proxy": directly}


def sendable(bench, asked):
    """The rate, or a lower one that the load can send to the origin itself; and how that went."""
    def tried(rate):
        rounds = []
        for _ in range(bench.size.rounds):
            _, figures, said = requests_at(bench, rate)(origin, bench.size.seconds)
            bench.keep("latency-load", said)
            rounds.append(figures)
        figures = latencies(rounds)
        # What cannot keep up is ever later, which the median shows; other work of the machine does not.
        return figures, figures["rps"] > 0.98 * rate and figures["p50_us"] < 500

    with bench.ends() as ports:
        origin = type("Origin", (), {"port": ports[0]})
        for share in [1, 1, 0.8, 0.65, 0.5]:
            rate = int(asked * share)
            figures, keeps_up = tried(rate)
            if keeps_up or bench.size.tiny:
                break
        else:
            bench.note("not even half of the rate could be sent to the origin itself: the machine was busy with something else, so these latencies tell nothing")
    if rate < asked:
        bench.note(f"half of nginx's maximum is {asked} requests/s; the load that is its own origin kept up to {rate}")
    return rate, figures


def h2c_h1(bench):
    """HTTP/2 without TLS to HTTP/1.1: 8 connections, 16 streams each."""
    yield "h2c to http1", bench.in_turn("h2c-h1", h2load(8, 16), http2=True)


def h2c_h2c(bench):
    """HTTP/2 without TLS on both sides."""
    rows = bench.in_turn("h2c-h2c", h2load(8, 16), origins=bench.http2_origins, http2=True, origin_http2=True)
    bench.note("nginx by grpc_pass, the only HTTP/2 to origins that it has")
    yield "h2c to h2c", rows


def grpc(bench):
    """gRPC unary calls: POST with a message of five bytes, answered with trailers only."""
    message = bench.folder / "message"
    message.write_bytes(bytes(5))
    more = ["-d", message, "-H", "content-type: application/grpc", "-H", "te: trailers"]
    measure = h2load(8, 16, "/grpc.Echo/Unary", *more)
    yield "gRPC unary", bench.in_turn("grpc", measure, origins=bench.http2_origins, http2=True, origin_http2=True)


def tls(bench):
    """TLS 1.3 with kept connections."""
    yield "tls, kept connections", bench.in_turn("tls", wrk(64, scheme="https"), certificates=bench.certificates)


def mtls(bench):
    """TLS 1.3 with client certificates and kept connections."""
    measure = own(bench, "requests", "--connections", 64, secure=True, mutual=True)
    yield "mtls, kept connections", bench.in_turn("mtls", measure, certificates=bench.certificates, mutual=True)


def handshakes(bench):
    """Whole TLS 1.3 handshakes (ECDSA P-256, no resumption); CPU of one."""
    measure = own(bench, "handshakes", secure=True, each="done")
    yield "tls handshakes", bench.in_turn("handshakes", measure, certificates=bench.certificates)


def bodies(bench):
    """Bodies of 1 KiB, 64 KiB and 100 MiB, down and up. CPU: of a request, and of a GiB."""
    for name in ["1k", "64k"]:
        yield f"body of {name}, down", bench.in_turn(f"body-{name}-down", wrk(64, f"/files/{name}"))
        up = h2load(64, 1, "/", "--h1", "-d", bench.folder / "files" / name)
        yield f"body of {name}, up", bench.in_turn(f"body-{name}-up", up, origins=bench.readers)
    for way, origins in [("down", bench.origins), ("up", bench.readers)]:
        measure = curl(bench, way == "down", bench.size.of(5, 1))
        yield f"100 MiB {way}, a GiB", bench.in_turn(f"body-100m-{way}", measure, origins=origins)


def websocket(bench):
    """WebSocket echo over 20 connections, as fast as it goes: CPU of a message."""
    measure = own(bench, "websockets", "--connections", 20, "--pause", 0, each="messages")
    yield "websocket echo", bench.in_turn("websocket", measure, origins=bench.echoes, websocket=True)


def access_log(bench):
    """HTTP/1.1 with a JSON access log to a file, beside none."""
    rows = bench.in_turn("access-log", wrk(64), bench.each(with_={"logs": True}, named="logging"))
    bench.note("haproxy writes to its standard output, which is a file; the others open one. A line for each request, written when each would by default: haproxy and nginx at once, ours within 5 ms")
    yield "access log", rows


def memory(bench):
    """Memory when idle; for each of 1,000 and 10,000 idle connections; with 10,000 routes."""
    def settled(pid):
        least, end = machine.memory(pid), time.monotonic() + bench.size.of(8, 0.2)
        while time.monotonic() < end:
            time.sleep(bench.size.of(0.5, 0.1))
            least = min(least, machine.memory(pid))
        return least

    for count in bench.size.of([1000, 10_000], [20]):
        rows = {}
        with bench.origins() as origins:
            for proxy in bench.proxies:
                with bench.excused(proxy, "measured"), bench.running(proxy, origins) as job, Processes() as clients:
                    idle, said = settled(job.pid), bench.folder / "many.out"
                    many = clients.start(
                        [bench.load, "many", "--to", f"127.0.0.1:{job.port}", "--connections", count, "--seconds", 90], machine.LOAD_CORE, said)
                    is_open = lambda: many.poll() is not None or "many open" in said.read_text()
                    if not until(is_open, 60) or f"many open={count} " not in said.read_text():
                        raise RuntimeError(f"{count} connections could not be opened\n{said.read_text()[-500:]}")
                    rows[proxy.name] = {"idle_MiB": idle / 2**20, "KiB_each": (settled(job.pid) - idle) / 1024 / count}
        yield f"memory, {count} idle connections", rows
    rows, count = {}, bench.size.of(10_000, 50)
    with bench.origins() as origins:
        for proxy in bench.proxies:
            with bench.excused(proxy, "measured"), bench.running(proxy, origins, routes=count) as job:
                rows[proxy.name] = {"idle_MiB": settled(job.pid) / 2**20}
    yield f"memory, {count} routes", rows


def startup(bench):
    """From the start of the process to its first answer, and the size of its program."""
    found, binary = {}, {}
    with bench.origins() as origins:
        for _ in range(bench.size.rounds):
            for proxy in bench.proxies:
                began = time.monotonic()
                with bench.excused(proxy, "starting"), bench.running(proxy, origins) as job:
                    found.setdefault(proxy.name, []).append((time.monotonic() - began) * 1000)
                    # Some packages have a script in front of the program.
                    programs = [Path(f"/proc/{one}/exe").resolve() for one in machine.tree(job.pid)]
                    binary[proxy.name] = max(program.stat().st_size for program in programs) / 2**20
    yield "startup", {name: {"ms": statistics.median(times), "binary_MiB": binary[name]} for name, times in found.items()}


def routes(bench):
    """Requests with 1 to 100,000 routes; and ours with all these numbers in turn."""
    counts = bench.size.of([1, 10, 1000, 10_000, 100_000], [1, 200])
    middle = lambda count: wrk(64, f"/service-{count // 2}/items")
    for count in counts:
        taking = bench.each()
        if count > 10_000:
            for name, why in [("nginx", "sorts them for most of a minute before it serves"), ("caddy", "has more than a millisecond of work for each request with 10,000 already")]:
                if taking.pop(name, None):
                    bench.note(f"{name} is left out, as it {why}")
        if count > 100:
            bench.note("haproxy with a map of prefixes, which is its way to have many; envoy and caddy look at one route after another")
        yield f"{count} route{'s' * (count > 1)}", bench.in_turn(f"routes-{count}", middle(count), taking, routes=count)
    taking = {f"weir, {count} routes": (bench.weir, {"routes": count}) for count in counts}
    measure = lambda job, seconds: middle(job.routes)(job, seconds)
    yield "our routes in turn", bench.in_turn("routes-ours", measure, taking)


def reload(bench):
    """p99 at 1,000 requests/s with 10,000 routes while these are loaded anew, 100 times over all rounds, beside none."""
    routes, times = bench.size.of((10_000, 100), (50, 2))
    # Who makes its own reload nice, or forks for it, is to have of that what it has elsewhere.
    measure = undisturbed(bench, reloading(requests_at(bench, 1000), max(1, times // bench.size.rounds)), keeping_niceness=True)
    with bench.sized(seconds=max(bench.size.seconds, bench.size.of(10, 1))):
        taking = bench.each(with_={"reloads": True}, named="reloading")
        rows = bench.in_turn("reload", measure, taking, origins=bench.ends, routes=routes, workers=2 if machine.HAS_FREE_CORES else 1)
    bench.note(f"{times} reloads were asked for over {bench.size.rounds} rounds, as many in each; `reloads` is how many were done in one")
    bench.note("weir: the file renamed over, both contents being there before; haproxy: USR2 to its master; nginx: HUP; envoy: the file of its route discovery likewise; caddy: POST /load")
    yield f"reload of {routes} routes", rows


def itself(bench):
    """Ours: a running rollout and metrics that are read, beside no rollout and metrics that nobody reads."""
    rows = bench.in_turn("self", scraped(wrk(64)), {"weir": (bench.weir, {}), "weir, on": (bench.weir, {"rollout": True})})
    bench.note("metrics cannot be switched off, so they are counted in both rows; read, twice a second, only in the second")
    yield "a rollout and metrics", rows


ALL = {
    "http1": http1, "fields": fields, "latency": latency, "h2c-h1": h2c_h1, "h2c-h2c": h2c_h2c, "grpc": grpc, "tls": tls, "mtls": mtls,
    "handshakes": handshakes, "bodies": bodies, "websocket": websocket, "access-log": access_log, "memory": memory,
    "startup": startup, "routes": routes, "reload": reload, "self": itself,
}
