"""Compares this proxy with its peers: the same job for all, in turn, on one machine.

    python3 benches/compare --install        installs the peers and builds what is measured, then goes on
    python3 benches/compare                  all of it, five rounds of 2 s: about an hour
    python3 benches/compare --quick http1    three rounds of a second of one scenario
    python3 benches/compare --check          that every proxy takes its configurations, and every scenario
                                             runs, as short as can be; its figures mean nothing

Writes comparison.md (first of all what was promised, and whether it is kept), comparison.json, plots and
raw outputs into a folder. A peer that is not there, or cannot do a job, is left out, and the table says so.
Speaks to loopback only; ends what it has started, also on Ctrl-C. Proxies have core 0 (two workers: 0 and
1), load and origins core 1, or, where there are four cores or more, those from 2 on. This program itself
has core 0, too.
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
from bench import Bench, Size
from peers import Job


def check_configurations(weir):
    """Renders every kind of job for every proxy, and lets it check that: the number of refusals."""
    proxies, missing = peers.present(weir)
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        certificates = Path(folder) / "certs"
        machine.run(weir, "cert", "dev", certificates)
        kinds = [{}, {"http2": True}, {"origin_http2": True, "http2": True}, {"certificates": certificates, "mutual": True}, {"routes": 50}]
        kinds += [{"routes": 500}, {"logs": True}, {"websocket": True}, {"workers": 2, "rollout": True}, {"reloads": True}, {"adds_all": False}]
        for proxy in proxies:
            taken = refused = 0
            for kind in kinds:
                job = Job(port=machine.free_port(), admin=machine.free_port(), origins=(1, 2), folder=Path(folder), **kind)
                try:
                    command = [str(it) for it in proxy.check(job)]
                except peers.Unable:
                    continue
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode == 0:
                    taken += 1
                else:
                    refused += 1
                    print(f"{proxy.name} refuses {kind}:\n{done.stdout}{done.stderr}")
            print(f"{proxy.name} {proxy.version()}: takes {taken} kinds of configuration")
            faults += refused
    if missing:
        print(f"not here: {', '.join(missing)} (see --install)")
    return faults


def arguments():
    parser = argparse.ArgumentParser(prog="benches/compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="*", help="which; none: all")
    parser.add_argument("--install", action="store_true", help="first install the peers, and build ours and the load (a quarter of an hour)")
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="of each round")
    parser.add_argument("--peers", help="only these, with commas")
    parser.add_argument("--weir", default=machine.REPOSITORY / "target/dist/weir")
    parser.add_argument("--load", default=machine.REPOSITORY / "target/release/examples/load")
    parser.add_argument("--out", default=f"target/compare/{time.strftime('%Y-%m-%d-%H%M%S')}")
    asked = parser.parse_args()
    unknown = [name for name in asked.scenario if name not in scenarios.ALL]
    if unknown:
        parser.error(f"no such scenario: {', '.join(unknown)} (see --list)")
    if asked.list:
        return asked
    if asked.install:
        for command in [".ci/install bench", "deploy/build", "cargo build --release --locked --example load"]:
            print(command, flush=True)
            if subprocess.run(command.split(), cwd=machine.REPOSITORY).returncode:
                parser.error(f"that failed: {command}")
    for program in [asked.weir, asked.load]:
        if not Path(program).exists():
            parser.error(f"{program} is missing: see --install")
    for program in ["nginx", "wrk", "h2load", "curl", "taskset"]:
        if not machine.find(program):
            parser.error(f"{program} is missing: see --install")
    return asked


def size(asked):
    found = Size()
    if asked.quick:
        found = Size(rounds=3, seconds=1)
    if asked.check:
        found = Size(rounds=1, seconds=0.3, warm_up=0, tiny=True)
    found.rounds, found.seconds = asked.rounds or found.rounds, asked.seconds or found.seconds
    return found


def measure(bench, names, out, about):
    """All tables, written after each; and what went wrong."""
    results, faults = {}, []
    try:
        for name in names:
            try:
                for title, rows in scenarios.ALL[name](bench):
                    results[title] = {"rows": rows, "notes": bench.taken_notes()}
                    for who, row in rows.items():
                        print(f"{title}: {who}: {' '.join(f'{key}={report.number(value)}' for key, value in row.items())}", flush=True)
                    report.write(out, about, results)
            except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
                faults.append(f"{name}: {error}")
                print(f"{name}: FAILED: {error}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        faults.append("interrupted")
        print("interrupted; what was started has been ended, and the tables so far are complete", file=sys.stderr)
    about["failed"] = "; ".join(fault.splitlines()[0] for fault in faults) or "nothing"
    report.write(out, about, results)
    return results, faults


def untold(results, proxies):
    """Goals that a whole run should have measured, with the peers that are here."""
    here = {proxy.name for proxy in proxies} | dict(peers.releases(proxies)).keys()
    for goal, _, what in report.goals(results):
        # As small as can be, tables of many routes and connections have other titles.
        is_small = "000" in goal.table or "000" in goal.ours or "10 routes" in goal.against
        needs = {goal.against} & {*report.PEERS, *peers.RELEASES}
        if what == "not measured" and needs <= here and not is_small:
            yield f"{goal.measure}, against {goal.against}"


def main():
    asked = arguments()
    if asked.list:
        for name, scenario in scenarios.ALL.items():
            print(f"{name:<12} {scenario.__doc__}")
        return 0
    weir = str(Path(asked.weir).resolve())
    refusals = check_configurations(weir) if asked.check else 0
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    # Two of them are enough to see that scenarios run.
    wanted = asked.peers or ("haproxy,nginx" if asked.check else "")
    proxies, missing = peers.present(weir, wanted.split(",") if wanted else None)
    out = Path(asked.out)
    (out / "raw").mkdir(parents=True, exist_ok=True)
    about = machine.about()
    about["versions"] = ", ".join(f"{proxy.name} {proxy.version()}" for proxy in proxies)
    if missing:
        about["not here"] = ", ".join(missing)
    about |= peers.LEFT_OUT
    # Proxies have sessions of their own: TERM, and a terminal that goes away, must end them as Ctrl-C does.
    for one in [signal.SIGTERM, signal.SIGHUP]:
        signal.signal(one, signal.default_int_handler)
    machine.leave_the_load_alone()
    bench = Bench(proxies, str(Path(asked.load).resolve()), out / "raw", size(asked))
    about["rounds"] = f"{bench.size.rounds} of {bench.size.seconds:g} s, in turn, after a warm-up"
    try:
        results, faults = measure(bench, asked.scenario or list(scenarios.ALL), out, about)
    finally:
        bench.close()
    for goal, ratio, what in report.goals(results):
        print(f"{what:<7} {report.ratio_text(ratio):>7} ({goal.bound}) {goal.measure}, against {goal.against}")
    print(f"written to {out}/comparison.md")
    missed = list(untold(results, proxies)) if asked.check and not asked.scenario and not faults else []
    for goal in missed:
        print(f"FAILED: not measured: {goal}", file=sys.stderr)
    return 1 if faults or missed or refusals else 0


if __name__ == "__main__":
    sys.exit(main())
