"""A run: starts origins and proxies, measures these in turn, keeps what was said. Must not know what is measured."""

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import machine
from machine import PROXY_CORES, Processes, answers, connects, free_port, least_share, run, threads
from peers import Job, Unable


@dataclass
class Size:
    """How long a run is."""

    rounds: int = 5
    seconds: float = 2
    warm_up: float = 1      # seconds of a round that does not count; 0: none
    tiny: bool = False      # everything else is as small as can be, too: that it works, not how fast

    def of(self, full, tiny):
        return tiny if self.tiny else full


def medians(rows):
    """Of each figure; and how far CPU spreads between rounds."""
    result = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    if result.get("cpu_us"):
        cpu_us = [row["cpu_us"] for row in rows]
        result["spread"] = (max(cpu_us) - min(cpu_us)) / result["cpu_us"]
    return result


def latencies(rows):
    """Medians; and the p99.9 with which the slowest tenth of the rounds begins. Not CPU: opening connections is some of
    that in a short round."""
    result = medians([{key: value for key, value in row.items() if key != "cpu_us"} for row in rows])
    slow = sorted(row["p999_us"] for row in rows)[len(rows) * 9 // 10]
    return {**result, "slow_p999_us": slow}


class Bench:
    """See the file."""

    def __init__(self, proxies, load, raw, size):
        self.proxies, self.load, self.raw, self.size = proxies, load, raw, size
        self.weir = proxies[0]
        self.folder = Path(tempfile.mkdtemp(prefix="weir-compare-"))
        self.folder.chmod(0o755)  # an origin that root has started reads as somebody else
        self.certificates = self.folder / "certs"
        run(self.weir.binary, "cert", "dev", self.certificates)
        self.half_of_nginx = None
        self.both_ends = None   # the process, while there is one
        self.notes = []

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def note(self, text):
        """Is shown below the table that comes next."""
        if text not in self.notes:
            self.notes.append(text)

    def taken_notes(self):
        notes, self.notes = self.notes, []
        return notes

    def keep(self, name, text):
        with (self.raw / f"{name}.txt").open("a") as file:
            file.write(text + "\n")

    @contextmanager
    def sized(self, **other):
        """With a size that differs, for one scenario."""
        before, self.size = self.size, replace(self.size, **other)
        try:
            yield
        finally:
            self.size = before

    @contextmanager
    def excused(self, proxy, doing, label=None):
        """A peer that fails is left out, and the table says so. Ours must not, nor, where only that it works is checked, one that is able."""
        try:
            yield
        except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
            if proxy is self.weir or self.size.tiny and not isinstance(error, Unable):
                raise RuntimeError(f"{proxy.name}: {error}") from None
            self.note(f"{label or proxy.name} is left out, {doing}: {str(error).strip().splitlines()[0][:200]}")
            self.keep("left-out", f"## {proxy.name}, {doing}\n{error}")

    def each(self, *, with_=None, named=None):
        """Every proxy, as what takes part; and each of them once more, at a job that differs."""
        taking = {}
        for proxy in self.proxies:
            taking[proxy.name] = (proxy, {})
            if with_:
                taking[f"{proxy.name}, {named}"] = (proxy, with_)
        return taking

    def in_turn(self, name, measure, taking=None, origins=None, of_rounds=medians, **job):
        """
        Runs everything that takes part in each round, after a warm-up; what comes of the figures of all rounds. What
        takes part has a label, a proxy, and what differs in its job.
        """
        taking = taking or self.each()
        found, running = {}, {}
        with (origins or self.origins)() as ports, ExitStack() as stack:
            # Whatever fails, all of them are ended.
            for label, (proxy, more) in taking.items():
                with self.excused(proxy, "starting", label):
                    running[label] = (proxy, stack.enter_context(self.running(proxy, ports, **{**job, **more})))
            first = -1 if self.size.warm_up else 0
            for round_ in range(first, self.size.rounds):
                for label, (proxy, its) in list(running.items()):
                    left_out = True
                    with self.excused(proxy, "measured", label):
                        figures, raw = self.measured(measure, its, self.size.warm_up if round_ < 0 else self.size.seconds)
                        self.keep(name, f"## {label} round {round_}\n{raw}")
                        left_out = False
                    if left_out:
                        found.pop(label, None)
                        del running[label]
                    elif round_ >= 0:
                        found.setdefault(label, []).append(figures)
        return {label: of_rounds(rows) for label, rows in found.items()}

    def measured(self, measure, job, seconds):
        before = threads(job.pid)
        count, figures, raw = measure(job, seconds)
        if not count and self.size.tiny:  # a busy machine may need longer for the first answer
            count, figures, raw = measure(job, 3)
        after = threads(job.pid)
        if not count:
            raise RuntimeError(f"nothing was answered\n{raw}")
        # Not the difference of sums: a thread that ends takes along what it has had before.
        used = sum(time - before.get(thread, 0) for thread, time in after.items())
        if job.workers == 2:
            figures["least_share"] = least_share(before, after)
        for file in [job.log, job.out] if job.logs else []:
            if file.exists():
                os.truncate(file, 0)  # or it fills the disk
        # Where processes come and go with each reload, nobody knows what those that are gone have had.
        return figures if job.reloads else {"cpu_us": used / 1000 / count, **figures}, raw

    @contextmanager
    def running(self, proxy, origins, **more):
        """The proxy at its job, once it answers."""
        folder = Path(tempfile.mkdtemp(prefix=f"{proxy.name}-", dir=self.folder))
        folder.chmod(0o755)
        job = Job(port=free_port(), admin=free_port(), origins=origins, folder=folder, **more)
        with Processes() as processes:
            process = processes.start(proxy.write(job), PROXY_CORES[job.workers], job.out)
            job.pid, job.proxy = process.pid, proxy
            try:
                connects(job.port, process=process)
                if not job.http2 and not job.origin_http2 and not job.websocket:
                    answers(job.port, job.certificates)
            except RuntimeError as error:
                raise RuntimeError(f"{error}\n{job.out.read_text(errors='replace')[-2000:]}") from None
            yield job

    @contextmanager
    def origins(self, http2=False):
        """Two ports of an nginx that answers with 132 bytes, or files of 1 KiB, 64 KiB and 100 MiB."""
        files = self.folder / "files"
        files.mkdir(exist_ok=True)
        for name, size in [("1k", 1 << 10), ("64k", 1 << 16), ("100m", self.size.of(100, 1) << 20)]:
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
        with self.listening([machine.find("nginx"), "-c", config], ports, "origin"):
            yield ports

    @contextmanager
    def ends(self):
        """Two ports of an origin that is the load, too, all in one thread: see `requests_at`."""
        ports = (free_port(), free_port())
        listening = [part for port in ports for part in ("--listen", f"127.0.0.1:{port}")]
        with self.listening([self.load, "ends", *listening], ports, "ends", asked=True) as process:
            self.both_ends = process
            try:
                yield ports
            finally:
                self.both_ends = None

    def http2_origins(self):
        return self.origins(http2=True)

    @contextmanager
    def readers(self, http2=False):
        """Two ports of an origin that reads a body to its end before it answers (nginx answers at once), and says
        at `/fields` what fields a request had."""
        ports = (free_port(), free_port())
        listening = [part for port in ports for part in ("--listen", f"origin=127.0.0.1:{port}")]
        version = ["--http2"] if http2 else []
        with self.listening([self.load, "origin", *listening, *version], ports, "reader"):
            yield ports

    @contextmanager
    def echoes(self):
        """An origin that sends every message of a WebSocket back."""
        port = free_port()
        with self.listening([self.load, "echo", "--listen", f"127.0.0.1:{port}"], [port], "echo"):
            yield port, port

    @contextmanager
    def listening(self, command, ports, name, *, asked=False):
        with Processes() as processes:
            process = processes.start(command, machine.LOAD_CORE, self.folder / f"{name}.out", asked=asked)
            for port in ports:
                connects(port, process=process)
            yield process


def until(condition, deadline):
    """Whether it came to hold within so many seconds."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
