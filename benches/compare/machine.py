"""Processes, ports and the CPU that they use. Must not know what is measured."""

import os
import platform
import select
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
CORES = len(os.sched_getaffinity(0))
# Whether two workers leave cores to the load.
HAS_FREE_CORES = CORES >= 4
PROXY_CORES = {1: "0", 2: "0,1" if CORES > 1 else "0"}
LOAD_CORE = f"2-{CORES - 1}" if HAS_FREE_CORES else "1" if CORES > 1 else "0"


def leave_the_load_alone():
    """What these programs do themselves meanwhile, they do on a proxy's core: all proxies have the same of it."""
    os.sched_setaffinity(0, {int(PROXY_CORES[1])})


def find(program):
    """The program's path, also outside of PATH; None where it is missing."""
    places = ["/usr/sbin", "/sbin", str(REPOSITORY / "target/tools/venv/bin"), str(REPOSITORY / "target/tools/bin")]
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), *places]))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(*command, core=LOAD_CORE, timeout=120, fails=False):
    """What the command printed. Its failure is an error, unless it `fails` for good reasons."""
    done = subprocess.run(
        ["taskset", "-c", core, *map(str, command)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout,
    )
    if done.returncode and not fails:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}")
    return done.stdout


class Processes:
    """Ends what it has started, by process id, however the block is left."""

    def __init__(self):
        self.started = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # A second Ctrl-C must not keep the rest of them alive.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
        try:
            for process in self.started:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
            for process in reversed(self.started):
                end(process)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def start(self, command, core, log, *, asked=False):
        """What is `asked` reads lines from us, and answers with lines that do not go to its log."""
        log.unlink(missing_ok=True)
        with log.open("a") as out:
            process = subprocess.Popen(
                ["taskset", "-c", core, *map(str, command)],
                stdin=subprocess.PIPE if asked else subprocess.DEVNULL, stdout=subprocess.PIPE if asked else out, stderr=out,
                start_new_session=True, text=True,
            )
        self.started.append(process)
        return process


def ask(process, line, timeout):
    """One line, and the line that answers it."""
    process.stdin.write(line + "\n")
    process.stdin.flush()
    if not select.select([process.stdout], [], [], timeout)[0]:
        raise RuntimeError(f"no answer within {timeout:.0f} s to: {line}")
    answer = process.stdout.readline()
    if not answer:
        raise RuntimeError(f"it has ended, asked: {line}")
    return answer


def end(process):
    """It has been asked to end; what does not is killed, with all that it has started."""
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        pass
    # Its session is its own: nobody else's processes are in this group.
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # nothing is left of it
    process.wait()


def tree(pid):
    """The process and its descendants."""
    found, left = [], [pid]
    while left:
        pid = left.pop()
        found.append(pid)
        try:
            for task in Path(f"/proc/{pid}/task").iterdir():
                left += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            pass  # it has ended
    return found


def threads(pid):
    """Nanoseconds that each thread of the process and its children has had."""
    found = {}
    for one in tree(pid):
        for stat in Path(f"/proc/{one}/task").glob("*/schedstat"):
            try:
                found[stat.parent.name] = int(stat.read_text().split()[0])
            except OSError:
                pass  # it has ended
    return found


def least_share(before, after):
    """Of the two threads that have worked most: the part of their work that the lesser one did."""
    more, less = sorted((used - before.get(thread, 0) for thread, used in after.items()), reverse=True)[:2]
    return less / max(more + less, 1)


def come_first(pid, *, keeping_niceness=False):
    """Runs all threads of the process and its children before all else on their core. (To be nice would not do: it
    counts only within a session, and sessions share a core evenly.) Keeping niceness, its session gets most of the
    core, and its threads share that as they will. An OSError where the system does not allow it."""
    if keeping_niceness:
        Path(f"/proc/{pid}/autogroup").write_text("-20")
        return
    for thread in threads(pid):
        with suppress(ProcessLookupError):  # it has ended
            os.sched_setscheduler(int(thread), os.SCHED_FIFO, os.sched_param(1))


def memory(pid):
    """Proportional set size of the process and its children, in bytes."""
    total = 0
    for one in tree(pid):
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # it has ended
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def curl_command(port, path, secure=None):
    """The command that asks for a page; `secure`: with the certificates in that folder."""
    command = ["curl", "--connect-to", f"localhost:{port}:127.0.0.1:{port}"]
    if secure:
        command += ["--cacert", f"{secure}/ca.crt", "--cert", f"{secure}/client.crt", "--key", f"{secure}/client.key"]
    return [*command, f"{'https' if secure else 'http'}://localhost:{port}{path}"]


def answers(port, secure=None, deadline=30.0):
    """Seconds until the port answers a request."""
    began = time.monotonic()
    while subprocess.run([*curl_command(port, "/", secure), "--silent", "--output", "/dev/null", "--max-time", "2"]).returncode:
        if time.monotonic() - began > deadline:
            raise RuntimeError(f"port {port} does not answer within {deadline:.0f} s")
        time.sleep(0.02)
    return time.monotonic() - began


def connects(port, deadline=30.0, process=None):
    """Waits until somebody listens; not for a process that has ended."""
    until = time.monotonic() + deadline
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process and process.poll() is not None:
                raise RuntimeError(f"it ended with exit code {process.returncode}") from None
            if time.monotonic() > until:
                raise RuntimeError(f"nobody listens at port {port} after {deadline:.0f} s") from None
            time.sleep(0.02)


def about():
    """The machine, for the head of a report."""
    names = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "kernel": platform.release(),
        "cpu": names[0] if names else platform.machine(),
        "cores": len(names),
        "load before": "%.1f" % os.getloadavg()[0],
    }
