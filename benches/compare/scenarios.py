"""What is measured, and how: each scenario gives rows of one proxy's figures. Must not know how they are shown."""

import re
import shutil
import statistics
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import machine
from machine import PROXY_CORES, Processes, answers, connects, cpu, free_port, least_share, run, threads
from peers import Job


class Bench:
    """A run: its programs, its length, and where raw outputs go."""

    def __init__(self, proxies, load, raw, rounds, seconds):
        self.proxies, self.load, self.raw = proxies, load, raw
        self.rounds, self.seconds = rounds, seconds
        self.folder = Path(tempfile.mkdtemp(prefix="weir-compare-"))
        self.folder.chmod(0o755)  # an origin that root has started reads as somebody else
        self.certificates = self.folder / "certs"
        run(proxies[0].binary, "cert", "dev", self.certificates)
        self.half_of_nginx = None

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def keep(self, name, text):
        with (self.raw / f"{name}.txt").open("a") as file:
            file.write(text + "\n")

    @contextmanager
    def origins(self, http2=False):
        """Two ports of an nginx that answers with 132 bytes, or files of 1 KiB, 64 KiB and 100 MiB."""
        files = self.folder / "files"
        files.mkdir(exist_ok=True)
        for name, size in [("1k", 1 << 10), ("64k", 1 << 16), ("100m", 100 << 20)]:
            if not (files / name).exists():
                (files / name).write_bytes(b"x" * size)
        ports = (free_port(), free_port())
        listen = " ".join(f"listen 127.0.0.1:{port}{' http2' if http2 else ''} backlog=4096;" for port in ports)
        temporary = "".join(f"{kind}_temp_path {self.folder}/origin-{kind}; " for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
        config = self.folder / "origin.conf"
        config.write_text(
            f"daemon off; worker_processes 1; pid {self.folder}/origin.pid; error_log {self.folder}/origin.log crit;\n"
            "worker_rlimit_nofile 20000;\nevents { worker_connections 16000; }\n"
            f"http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 300s; client_max_body_size 1g; sendfile on; {temporary}\n"
            f"server {{ {listen}\n location / {{ return 200 \"{'0' * 132}\"; }}\n"
            f" location /files/ {{ alias {files}/; }}\n"
            " location /grpc.Echo/ { default_type application/grpc; add_header grpc-status 0; return 200; }\n"
            "} }\n"
        )
        with Processes() as processes:
            processes.start([machine.find("nginx"), "-c", config], machine.LOAD_CORE, self.folder / "origin.out")
            for port in ports:
                connects(port)
            yield ports

    @contextmanager
    def readers(self):
        """Two ports of an origin that reads a body to its end before it answers; nginx answers at once."""
        ports = (free_port(), free_port())
        listening = [part for port in ports for part in ("--listen", f"origin=127.0.0.1:{port}")]
        with Processes() as processes:
            processes.start([self.load, "origin", *listening], machine.LOAD_CORE, self.folder / "reader.out")
            for port in ports:
                connects(port)
            yield ports

    @contextmanager
    def running(self, proxy, origins, **more):
        """The proxy at its job: process id and port."""
        folder = Path(tempfile.mkdtemp(prefix=f"{proxy.name}-", dir=self.folder))
        folder.chmod(0o755)
        job = Job(port=free_port(), admin=free_port(), origins=origins, folder=folder, **more)
        with Processes() as processes:
            process = processes.start(proxy.write(job), PROXY_CORES[job.workers], folder / "out.txt")
            try:
                connects(job.port)
                if not job.http2 and not job.origin_http2:
                    answers(job.port, job.certificates)
            except RuntimeError as error:
                raise RuntimeError(f"{proxy.name}: {error}\n{(folder / 'out.txt').read_text()[-2000:]}") from None
            yield process.pid, job

    def in_turn(self, name, measure, proxies=None, http2_origin=False, reads=False, **job):
        """Runs every proxy in each round, after a warm-up; the median of each figure, and its spread."""
        proxies = proxies or self.proxies
        with self.readers() if reads else self.origins(http2_origin) as origins:
            found = {proxy.name: [] for proxy in proxies}
            # Whichever of them fails to start or to end, the others are ended.
            with ExitStack() as stack:
                running = [(proxy, *stack.enter_context(self.running(proxy, origins, origin_http2=http2_origin, **job))) for proxy in proxies]
                for round_ in range(-1, self.rounds):
                    for proxy, pid, its in running:
                        before = threads(pid)
                        try:
                            count, figures, raw = measure(its, 1 if round_ < 0 else self.seconds)
                        except RuntimeError as error:
                            raise RuntimeError(f"{proxy.name}: {error}") from None
                        after = threads(pid)
                        used = sum(after.values()) - sum(before.values())
                        if its.workers == 2:
                            figures["least_share"] = least_share(before, after)
                        self.keep(name, f"## {proxy.name} round {round_}\n{raw}")
                        if round_ >= 0:
                            found[proxy.name].append({"cpu_us": used / 1000 / max(count, 1e-9), **figures})
        return {proxy: medians(rows) for proxy, rows in found.items()}


def medians(rows):
    keys = rows[0].keys()
    result = {key: statistics.median(row[key] for row in rows) for key in keys}
    cpu_us = [row["cpu_us"] for row in rows]
    result["spread"] = (max(cpu_us) - min(cpu_us)) / result["cpu_us"] if result["cpu_us"] else 0
    return result


def wrk(connections, path="/", scheme="http"):
    def measure(job, seconds):
        url = f"{scheme}://localhost:{job.port}{path}"
        said = run(machine.find("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", url.replace("localhost", "127.0.0.1"))
        count = int(re.search(r"(\d+) requests in", said)[1])
        failed = sum(int(n) for n in re.findall(r"(?:Non-2xx or 3xx responses:|connect|read|write|timeout) (\d+)", said))
        return count, {"rps": count / seconds, "failed": failed}, said
    return measure


def h2load(connections, streams, path="/", *more):
    def measure(job, seconds):
        said = run(machine.find("h2load"), "-t1", f"-c{connections}", f"-m{streams}", "-D", seconds, *more, f"http://127.0.0.1:{job.port}{path}")
        count = int(re.search(r"requests: .* (\d+) succeeded", said)[1])
        failed = int(re.search(r"(\d+) failed", said)[1])
        return count, {"rps": count / seconds, "failed": failed}, said
    return measure


def field(text, name):
    return float(re.search(rf"\b{name}=([0-9.]+)", text)[1])


def own(bench, verb, *arguments, secure=False, each="answered"):
    """The load program beside this folder."""
    def measure(job, seconds):
        command = [bench.load, verb, "--to", f"127.0.0.1:{job.port}", "--seconds", seconds, *arguments]
        if secure:
            at = job.certificates
            command += ["--ca", at / "ca.crt", "--certificate", at / "client.crt", "--key", at / "client.key"]
        said = run(*command, fails=True)
        count = field(said, each)
        figures = {"rps": count / seconds}
        for name in ["p50_us", "p99_us", "p999_us"]:
            if f"{name}=" in said:
                figures[name] = field(said, name)
        if verb == "requests":
            figures["failed"] = field(said, "other") + field(said, "lost")
        return count, figures, said
    return measure


def http1(bench):
    """HTTP/1.1, kept connections, 10 routes, one worker: 1, 64 and 1,000 connections."""
    for connections in [1, 64, 1000]:
        rows = bench.in_turn(f"http1-{connections}", wrk(connections))
        if connections == 64 and "nginx" in rows:
            bench.half_of_nginx = rows["nginx"]["rps"] / 2
        yield f"http1, {connections} connections", rows


def latency(bench):
    """HTTP/1.1 at a fixed rate, half of nginx's maximum; counted from when each request was due."""
    rate = bench.half_of_nginx
    if rate is None:
        nginx = [proxy for proxy in bench.proxies if proxy.name == "nginx"] or bench.proxies[:1]
        rate = bench.in_turn("latency-rate", wrk(64), nginx)[nginx[0].name]["rps"] / 2
    # The load program is the slower half of its core; what it cannot send it would count as latency.
    rate = int(min(rate, 12_000))
    measure = own(bench, "requests", "--connections", 64, "--rate", rate)
    yield f"latency at {rate} requests/s", bench.in_turn("latency", measure)


def h2c_h1(bench):
    """HTTP/2 without TLS to HTTP/1.1: 8 connections, 16 streams each."""
    yield "h2c to http1", bench.in_turn("h2c-h1", h2load(8, 16), http2=True)


def h2c_h2c(bench):
    """HTTP/2 without TLS on both sides."""
    can = [proxy for proxy in bench.proxies if proxy.name != "nginx"]
    yield "h2c to h2c", bench.in_turn("h2c-h2c", h2load(8, 16), can, http2_origin=True, http2=True)


def grpc(bench):
    """gRPC unary calls: POST with a message of five bytes, answered with trailers only."""
    message = bench.folder / "message"
    message.write_bytes(bytes(5))
    more = ["-d", message, "-H", "content-type: application/grpc", "-H", "te: trailers"]
    measure = h2load(8, 16, "/grpc.Echo/Unary", *more)
    yield "gRPC unary", bench.in_turn("grpc", measure, http2_origin=True, http2=True)


def tls(bench):
    """TLS 1.3 with kept connections."""
    rows = bench.in_turn("tls", wrk(64, scheme="https"), certificates=bench.certificates)
    yield "tls, kept connections", rows


def mtls(bench):
    """TLS 1.3 with client certificates and kept connections."""
    measure = own(bench, "requests", "--connections", 64, secure=True)
    yield "mtls, kept connections", bench.in_turn("mtls", measure, certificates=bench.certificates, mutual=True)


def handshakes(bench):
    """Whole TLS 1.3 handshakes (ECDSA P-256, no resumption); CPU of one."""
    def measure(job, seconds):
        said = run(bench.load, "handshakes", "--to", f"127.0.0.1:{job.port}", "--ca", job.certificates / "ca.crt", "--seconds", seconds, fails=True)
        count = field(said, "done")
        return count, {"rps": count / seconds}, said
    yield "tls handshakes", bench.in_turn("handshakes", measure, certificates=bench.certificates)


def bodies(bench):
    """Bodies of 1 KiB and 64 KiB down; 100 MiB down and up. CPU: of a request, and of a GiB."""
    for name in ["1k", "64k"]:
        yield f"body of {name}, down", bench.in_turn(f"body-{name}", wrk(64, f"/files/{name}"))

    def transfer(job, down):
        url = f"http://127.0.0.1:{job.port}/{'files/100m' if down else ''}"
        kind = ["--output", "/dev/null"] if down else ["--upload-file", bench.folder / "files/100m", "--output", "/dev/null"]
        began = time.monotonic()
        times = 5
        for _ in range(times):
            run("curl", "--silent", "--fail", "--header", "Expect:", *kind, url)
        gib = times * 100 / 1024
        return gib, {"GiB_s": gib / (time.monotonic() - began)}, url

    for down in [True, False]:
        name = f"100 MiB {'down' if down else 'up'}, a GiB"
        yield name, bench.in_turn(f"body-100m-{'down' if down else 'up'}", lambda job, _, down=down: transfer(job, down), reads=not down)


def websocket(bench):
    """WebSocket echo over 20 connections, as fast as it goes: CPU of a message."""
    port = free_port()
    with Processes() as processes:
        processes.start([bench.load, "echo", "--listen", f"127.0.0.1:{port}"], machine.LOAD_CORE, bench.folder / "echo.out")
        connects(port)
        measure = own(bench, "websockets", "--connections", 20, "--pause", 0, each="messages")
        found = {proxy.name: [] for proxy in bench.proxies}
        for round_ in range(bench.rounds):
            for proxy in bench.proxies:
                folder = Path(tempfile.mkdtemp(dir=bench.folder))
                job = Job(port=free_port(), admin=free_port(), origins=(port, port), folder=folder, websocket=True)
                with Processes() as mine:
                    pid = mine.start(proxy.write(job), PROXY_CORES[1], folder / "out.txt").pid
                    connects(job.port)
                    before = cpu(pid)
                    count, figures, raw = measure(job, bench.seconds)
                    bench.keep("websocket", f"## {proxy.name} round {round_}\n{raw}")
                    found[proxy.name].append({"cpu_us": (cpu(pid) - before) / 1000 / max(count, 1), **figures})
    yield "websocket echo", {name: medians(rows) for name, rows in found.items()}


def access_log(bench):
    """HTTP/1.1 with a JSON access log to a file, beside none. HAProxy writes to sockets only."""
    can = [proxy for proxy in bench.proxies if proxy.name != "haproxy"]
    yield "access log on", bench.in_turn("access-log-on", wrk(64), can, log=bench.folder / "access.log")
    yield "access log off", bench.in_turn("access-log-off", wrk(64), can)


def memory(bench):
    """Resident memory when idle; for each of 1,000 and 10,000 idle connections; with 10,000 routes."""
    def settled(pid):
        least, until = machine.memory(pid), time.monotonic() + 8
        while time.monotonic() < until:
            time.sleep(0.5)
            least = min(least, machine.memory(pid))
        return least

    for count in [1000, 10_000]:
        rows = {}
        with bench.origins() as origins:
            for proxy in bench.proxies:
                with bench.running(proxy, origins) as (pid, job), Processes() as clients:
                    idle = machine.memory(pid)
                    many = clients.start(
                        [bench.load, "many", "--to", f"127.0.0.1:{job.port}", "--connections", count, "--seconds", 60],
                        machine.LOAD_CORE, bench.folder / "many.out")
                    until = time.monotonic() + 60
                    while "many open" not in (bench.folder / "many.out").read_text():
                        if many.poll() is not None or time.monotonic() > until:
                            break
                        time.sleep(0.1)
                    rows[proxy.name] = {"idle_MiB": idle / 2**20, "KiB_each": (settled(pid) - idle) / 1024 / count}
        yield f"memory, {count} idle connections", rows
    rows = {}
    with bench.origins() as origins:
        for proxy in bench.proxies:
            with bench.running(proxy, origins, routes=10_000) as (pid, _):
                rows[proxy.name] = {"idle_MiB": machine.memory(pid) / 2**20}
    yield "memory, 10000 routes", rows


def startup(bench):
    """From the start of the process to its first answer, and the size of its program."""
    with bench.origins() as origins:
        found, binary = {proxy.name: [] for proxy in bench.proxies}, {}
        for _ in range(bench.rounds):
            for proxy in bench.proxies:
                began = time.monotonic()
                with bench.running(proxy, origins) as (pid, _):
                    found[proxy.name].append((time.monotonic() - began) * 1000)
                    # Some packages have a script in front of the program.
                    programs = [Path(f"/proc/{one}/exe").resolve() for one in machine.tree(pid)]
                    binary[proxy.name] = max(program.stat().st_size for program in programs) / 2**20
    yield "startup", {name: {"ms": statistics.median(times), "binary_MiB": binary[name]} for name, times in found.items()}


def routes(bench):
    """Requests with 10, 1,000, 10,000 and 100,000 routes; the last two of those who search them one by one are left out."""
    fast = [proxy for proxy in bench.proxies if proxy.name in ("weir", "nginx")]
    for count in [10, 1000, 10_000, 100_000]:
        who = bench.proxies if count <= 1000 else fast if count == 10_000 else bench.proxies[:1]
        measure = wrk(64, f"/service-{count // 2}/items")
        yield f"{count} routes", bench.in_turn(f"routes-{count}", measure, who, routes=count)


def reload(bench):
    """Ours: p99 at 2,000 requests/s while a file of 10,000 routes is loaded 100 times, beside none."""
    weir = bench.proxies[0]
    measure = own(bench, "requests", "--connections", 64, "--rate", 2000)
    rows = {}
    with bench.origins() as origins, bench.running(weir, origins, routes=10_000, workers=2) as (pid, job):
        file = weir.write(job)[3]
        text = file.read_text()
        for name in ["none", "100 reloads"]:
            found = []
            for round_ in range(bench.rounds):
                with Processes() as changing:
                    if name != "none":
                        script = Path(__file__).with_name("touch.py")
                        changing.start(["python3", script, file, "100", "20"], "0", bench.folder / "touch.out")
                    found.append({"cpu_us": 0, **measure(job, 20 if name != "none" else bench.seconds)[1]})
                file.write_text(text)
            rows[name] = medians(found)
        said = run(weir.binary, "status", "--admin", f"127.0.0.1:{job.admin}", fails=True)
        bench.keep("reload", said)
    yield "reload of 10000 routes", rows


def itself(bench):
    """Ours: a running rollout beside none, with all metrics on in both."""
    weir = bench.proxies[:1]
    without = bench.in_turn("self-off", wrk(64), weir)["weir"]
    with_ = bench.in_turn("self-on", wrk(64), weir, rollout=True)["weir"]
    again = bench.in_turn("self-off-again", wrk(64), weir)["weir"]
    without["cpu_us"] = (without["cpu_us"] + again["cpu_us"]) / 2
    yield "a rollout", {"without": without, "with a running rollout": with_}


def workers(bench):
    """Two workers beside one. The load shares the second core, so this shows no more than that both work."""
    one = bench.in_turn("workers-1", wrk(64))
    two = bench.in_turn("workers-2", wrk(64), workers=2)
    yield "one worker", one
    yield "two workers, load on the second's core", two


ALL = {
    "http1": http1, "latency": latency, "h2c-h1": h2c_h1, "h2c-h2c": h2c_h2c, "grpc": grpc, "tls": tls, "mtls": mtls,
    "handshakes": handshakes, "bodies": bodies, "websocket": websocket, "access-log": access_log, "memory": memory,
    "startup": startup, "routes": routes, "reload": reload, "self": itself, "workers": workers,
}
