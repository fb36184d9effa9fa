"""Load on one proxy, by several programs: a measure gives what was done, figures, and what the program said."""

import re
import threading
import time
import urllib.request

import machine
from machine import run


def wrk(connections, path="/", scheme="http"):
    def measure(job, seconds):
        # Two workers where the load has cores of its own must not wait for it.
        count = 2 if job.workers == 2 and machine.HAS_FREE_CORES and connections > 1 else 1
        command = [machine.find("wrk"), f"-t{count}", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
        if seconds < 1:
            command = ["timeout", "--preserve-status", "--signal=INT", seconds, *command]
        said = run(*command, f"{scheme}://127.0.0.1:{job.port}{path}")
        lasted = re.search(r"(\d+) requests in ([0-9.]+)(us|ms|s|m)", said)
        took = float(lasted[2]) * {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60}[lasted[3]]
        failed = sum(int(n) for n in re.findall(r"(?:Non-2xx or 3xx responses:|connect|read|write|timeout) (\d+)", said))
        return int(lasted[1]), {"rps": int(lasted[1]) / took, "failed": failed}, said
    return measure


def h2load(connections, streams, path="/", *more):
    def measure(job, seconds):
        command = [machine.find("h2load"), "-t1", f"-c{connections}", f"-m{streams}", "-D", f"{round(seconds * 1000)}ms", *more]
        said = run(*command, f"http://127.0.0.1:{job.port}{path}")
        count = int(re.search(r"requests: .* (\d+) succeeded", said)[1])
        failed = int(re.search(r"(\d+) failed", said)[1]) + sum(int(n) for n in re.findall(r"(\d+) [345]xx", said))
        return count, {"rps": count / seconds, "failed": failed}, said
    return measure


def told(job):
    """The names of the fields that an origin gets with a request, beside the client's own."""
    version = "--http2-prior-knowledge" if job.http2 else "--http1.1"
    said = run(*machine.curl_command(job.port, "/fields", job.certificates), "--silent", "--show-error", "--include", "--max-time", 20, version)
    found = re.search(r"^x-fields: *(\S+)", said, re.MULTILINE | re.IGNORECASE)
    if not found:
        raise RuntimeError(f"the origin did not say what it had got:\n{said}")
    return set(found[1].split(",")) - {"host", "user-agent", "accept"}


def field(text, name):
    found = re.search(rf"\b{name}=([0-9.]+)", text)
    if not found:
        raise RuntimeError(f"no {name}= was said:\n{text}")
    return float(found[1])


def own(bench, verb, *arguments, secure=False, mutual=False, each="answered"):
    """The load program beside this folder."""
    def measure(job, seconds):
        command = [bench.load, verb, "--to", f"127.0.0.1:{job.port}", "--seconds", seconds, *arguments]
        if secure:
            command += ["--ca", job.certificates / "ca.crt"]
        if mutual:
            command += ["--certificate", job.certificates / "client.crt", "--key", job.certificates / "client.key"]
        said = run(*command, fails=True)
        count = field(said, each)
        figures = {"rps": count / seconds, **(accounted(said) if verb == "requests" else {})}
        return count, figures, said
    return measure


def accounted(said):
    """What became of requests."""
    figures = {name: field(said, name) for name in ["p50_us", "p99_us", "p999_us"]}
    figures["failed"] = field(said, "other") + field(said, "lost") + field(said, "unsent")
    return figures


def requests_at(bench, rate):
    """Requests over 64 connections that are due at exact times, sent by the thread that is the origin, too."""
    def measure(job, seconds):
        line = f"--to 127.0.0.1:{job.port} --seconds {seconds} --connections 64 --rate {rate} --exact"
        said = machine.ask(bench.both_ends, line, seconds + 60)
        count = field(said, "answered")
        return count, {"rps": count / seconds, **accounted(said), "load_late_us": field(said, "lag_us")}, said
    return measure


def undisturbed(bench, measure, **how):
    """With the proxy before all else on its core, where that is allowed: what else the machine does is no proxy's."""
    def measured(job, seconds):
        try:
            machine.come_first(job.pid, **how)
        except OSError as error:
            bench.note(f"proxies could not be given priority ({error}; it needs root): other work of the machine is part of their latencies")
        return measure(job, seconds)
    return measured


def curl(bench, down, times):
    """The file of 100 MiB, so many times; counted in GiB."""
    size = (bench.folder / "files/100m").stat

    def measure(job, _):
        url = f"http://127.0.0.1:{job.port}/{'files/100m' if down else ''}"
        kind = ["--output", "/dev/null"] if down else ["--upload-file", bench.folder / "files/100m", "--output", "/dev/null"]
        began = time.monotonic()
        for _ in range(times):
            run("curl", "--silent", "--fail", "--header", "Expect:", *kind, url)
        gib = times * size().st_size / 2**30
        return gib, {"GiB_s": gib / (time.monotonic() - began)}, url
    return measure


class Repeated:
    """Does something so often within so many seconds, in a thread of its own; what fails, fails the block."""

    def __init__(self, what, times, seconds):
        self.what, self.times, self.every = what, times, seconds / max(times, 1)
        self.over, self.error = threading.Event(), None
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        due = time.monotonic()
        for _ in range(self.times):
            try:
                self.what()
            except (OSError, RuntimeError) as error:
                self.error = error
                return
            due += self.every
            if self.over.wait(max(0, due - time.monotonic())):
                return

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        self.over.set()
        self.thread.join(30)
        if self.error and not kind:
            raise RuntimeError(str(self.error))


def reloading(measure, times):
    """With so many reloads meanwhile, where the job says so; how many of them were done."""
    def measured(job, seconds):
        if not job.reloads:
            return measure(job, seconds)
        before = job.proxy.reloaded(job)
        with Repeated(lambda: job.proxy.reload(job), times, seconds):
            count, figures, said = measure(job, seconds)
        return count, {**figures, "reloads": job.proxy.reloaded(job) - before}, said
    return measured


def scraped(measure):
    """With all metrics read every half second, where the job has a rollout."""
    def measured(job, seconds):
        if not job.rollout:
            return measure(job, seconds)
        url = f"http://127.0.0.1:{job.admin}/metrics"
        with Repeated(lambda: urllib.request.urlopen(url, timeout=5).read(), max(1, round(seconds * 2)), seconds):
            return measure(job, seconds)
    return measured
