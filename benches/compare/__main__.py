"""Compares this proxy with its peers: the same job for all, in turn, on one machine.

    .ci/install bench && cargo build --release --bins --example load
    python3 benches/compare                  all of it, five rounds: about half an hour
    python3 benches/compare --quick http1    three short rounds of one scenario
    python3 benches/compare --check          that every proxy takes its configuration; measures nothing

Writes comparison.md, comparison.json, plots and raw outputs into a folder. Speaks to loopback only; ends
what it has started. Proxies have core 0, load and origins core 1.
"""

import argparse
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
import machine
import peers
import report
import scenarios
from peers import Job


def check(weir):
    """Renders every kind of job for every proxy, and lets it check that."""
    proxies, missing = peers.present(weir)
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        certificates = Path(folder) / "certs"
        machine.run(weir, "cert", "dev", certificates)
        kinds = [{}, {"http2": True}, {"origin_http2": True, "http2": True}, {"certificates": certificates, "mutual": True}, {"routes": 50}]
        kinds += [{"log": Path(folder) / "access.log"}, {"workers": 2, "rollout": True}]
        for proxy in proxies:
            refused = 0
            for kind in kinds:
                if proxy.name == "haproxy" and "log" in kind:
                    continue
                job = Job(port=machine.free_port(), admin=machine.free_port(), origins=(1, 2), folder=Path(folder), **kind)
                done = subprocess.run([str(it) for it in proxy.check(job)], capture_output=True, text=True)
                if done.returncode:
                    refused += 1
                    print(f"{proxy.name} refuses {kind}:\n{done.stdout}{done.stderr}")
            print(f"{proxy.name} {proxy.version()}: takes {len(kinds) - refused} kinds of configuration")
            faults += refused
    if missing:
        print(f"not here: {', '.join(missing)} (.ci/install bench)")
    return faults


def main():
    parser = argparse.ArgumentParser(prog="benches/compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="*", help="which; none: all")
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--quick", action="store_true", help="three rounds of two seconds")
    parser.add_argument("--rounds", type=int, help="default 5")
    parser.add_argument("--seconds", type=int, help="of each round; default 4")
    parser.add_argument("--peers", help="only these, with commas")
    parser.add_argument("--weir", default="target/release/weir")
    parser.add_argument("--load", default="target/release/examples/load")
    parser.add_argument("--out", default=f"target/compare/{time.strftime('%Y-%m-%d-%H%M%S')}")
    asked = parser.parse_args()
    if asked.list:
        for name, scenario in scenarios.ALL.items():
            print(f"{name:<12} {scenario.__doc__}")
        return 0
    weir = str(Path(asked.weir).resolve())
    if asked.check:
        return check(weir)
    unknown = [name for name in asked.scenario if name not in scenarios.ALL]
    if unknown:
        parser.error(f"no such scenario: {', '.join(unknown)} (see --list)")
    for program in [weir, asked.load]:
        if not Path(program).exists():
            parser.error(f"{program} is missing: cargo build --release --bins --example load")
    for program in ["nginx", "wrk", "h2load", "curl", "taskset"]:
        if not machine.find(program):
            parser.error(f"{program} is missing: .ci/install bench")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    proxies, missing = peers.present(weir, asked.peers.split(",") if asked.peers else None)
    out = Path(asked.out)
    (out / "raw").mkdir(parents=True, exist_ok=True)
    about = machine.about()
    about["versions"] = ", ".join(f"{proxy.name} {proxy.version()}" for proxy in proxies)
    if missing:
        about["not here"] = ", ".join(missing)
    rounds, seconds = (3, 2) if asked.quick else (5, 4)
    bench = scenarios.Bench(proxies, str(Path(asked.load).resolve()), out / "raw", asked.rounds or rounds, asked.seconds or seconds)
    about["rounds"] = f"{bench.rounds} of {bench.seconds} s, in turn, after a warm-up"
    results, faults = {}, 0
    # Proxies have sessions of their own: TERM must end them too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for name in asked.scenario or scenarios.ALL:
            try:
                for title, rows in scenarios.ALL[name](bench):
                    results[title] = rows
                    print(f"{title}: " + "; ".join(
                        f"{who} {' '.join(f'{key}={report.number(value)}' for key, value in row.items())}" for who, row in rows.items()), flush=True)
                    report.write(out, about, results)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                faults += 1
                print(f"{name}: FAILED: {error}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        faults += 1
    finally:
        bench.close()
    print("\n".join(f"{kept:<7} {ratio:6.2f} ({goal}) {what}" for what, ratio, goal, kept in report.goals(results)))
    print(f"written to {out}/comparison.md")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
