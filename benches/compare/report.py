"""Tables, JSON and plots of what was measured, and what was promised of it. Must not know how."""

import html
import json
from dataclasses import dataclass

import machine
from peers import RELEASES

PEERS = ["haproxy", "nginx", "envoy", "caddy", "pingora"]
MORE_IS_BETTER = {"rps", "GiB_s"}


@dataclass
class Goal:
    """What we promise: a ratio of ours to another's, in the tables whose title begins so."""

    measure: str
    table: str
    figure: str
    against: str            # a row of the table, `best peer`, or a number that is the goal itself
    most: float = None      # at most this ratio,
    least: float = None     # or at least
    ours: str = "weir"      # our row
    free_cores: bool = False

    @property
    def bound(self):
        return f"<= {self.most:g}" if self.least is None else f">= {self.least:g}"


REQUEST = "CPU a request, HTTP/1.1, 64 connections"
GOALS = [
    Goal(REQUEST, "http1, 64 connections", "cpu_us", "haproxy", 0.95),
    Goal(f"{REQUEST}, then", "http1, 64 connections", "cpu_us", "haproxy", 0.85),
    Goal(REQUEST, "http1, 64 connections", "cpu_us", "nginx", 0.60),
    Goal(REQUEST, "http1, 64 connections", "cpu_us", "haproxy 2.8", 0.85),
    Goal(REQUEST, "http1, 64 connections", "cpu_us", "nginx 1.31", 0.60),
    Goal(REQUEST, "http1, 64 connections", "cpu_us", "envoy", 0.30),
    Goal("requests/s at saturation, one worker", "http1, 64 connections", "rps", "best peer", least=1.0),
    Goal("p99 at half of nginx's maximum", "latency", "p99_us", "best peer", 1.0),
    Goal("p99.9 at half of nginx's maximum", "latency", "p999_us", "best peer", 1.0),
    Goal("mTLS, kept connections, CPU a request", "mtls, kept connections", "cpu_us", "haproxy", 1.0),
    Goal("mTLS, kept connections, CPU a request", "mtls, kept connections", "cpu_us", "nginx", 1.0),
    Goal("CPU of a TLS 1.3 handshake (ECDSA)", "tls handshakes", "cpu_us", "haproxy", 1.0),
    Goal("CPU of a TLS 1.3 handshake (ECDSA)", "tls handshakes", "cpu_us", "nginx", 1.0),
    Goal("h2c to HTTP/1.1, CPU a request", "h2c to http1", "cpu_us", "envoy", 0.5),
    Goal("h2c to HTTP/1.1, CPU a request", "h2c to http1", "cpu_us", "haproxy", 1.0),
    Goal("gRPC unary, CPU a request", "gRPC unary", "cpu_us", "envoy", 0.5),
    Goal("gRPC unary, CPU a request", "gRPC unary", "cpu_us", "haproxy", 1.0),
    Goal("100 MiB down, CPU a GiB", "100 MiB down", "cpu_us", "haproxy", 1.2),
    Goal("100 MiB up, CPU a GiB", "100 MiB up", "cpu_us", "haproxy", 1.2),
    Goal("memory, idle", "memory, 1000 idle connections", "idle_MiB", "envoy", 0.25),
    Goal("KiB for each of 10,000 idle connections", "memory, 10000 idle connections", "KiB_each", "4", 4),
    Goal("memory, 10,000 routes", "memory, 10000 routes", "idle_MiB", "envoy", 0.25),
    Goal("a rollout on, and metrics that are read: CPU", "a rollout and metrics", "cpu_us", "weir", 1.05, ours="weir, on"),
    Goal("JSON access log on: CPU", "access log", "cpu_us", "weir", 1.20, ours="weir, logging"),
    Goal("100,000 routes: requests/s", "our routes in turn", "rps", "weir, 10 routes", least=0.95, ours="weir, 100000 routes"),
    Goal("100 reloads of 10,000 routes: p99", "reload of", "p99_us", "weir", 1.5, ours="weir, reloading"),
    Goal("two workers, 64 connections: requests/s", "http1, 64 connections", "rps", "weir", least=1.7, ours="weir, 2 workers", free_cores=True),
    # What they hinder each other costs CPU: who needs at most so much more of it serves 1.7 times as much with two cores.
    Goal("two workers, 64 connections: CPU a request", "http1, 64 connections", "cpu_us", "weir", 1.17, ours="weir, 2 workers"),
    Goal("two workers: the lesser one's share", "http1, 64 connections", "least_share", "0.4", least=0.4, ours="weir, 2 workers"),
]


def goals(results):
    """Each goal with its ratio, or `None`, and what came of it: kept, missed, or why nobody knows."""
    for goal in GOALS:
        rows = next((table["rows"] for title, table in results.items() if title.startswith(goal.table)), {})
        ours = rows.get(goal.ours, {}).get(goal.figure)
        if goal.against[0].isdigit():
            other = 1
        else:
            names = [*PEERS, *RELEASES] if goal.against == "best peer" else [goal.against]
            others = [rows[name][goal.figure] for name in names if goal.figure in rows.get(name, {})]
            other = (max if goal.figure in MORE_IS_BETTER else min)(others) if others else None
        if goal.free_cores and not machine.HAS_FREE_CORES:
            yield goal, None, "not measured: the load has no core of its own"
        elif ours is None or not other:
            yield goal, None, "not measured"
        else:
            ratio = ours / other
            kept = ratio <= goal.most if goal.least is None else ratio >= goal.least
            yield goal, ratio, "kept" if kept else "missed"


def number(value):
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def ratio_text(ratio):
    return "" if ratio is None else f"{ratio:.2f}"


def markdown(about, results):
    lines = ["# Comparison", "", *(f"- {key}: {value}" for key, value in about.items()), "", "## Goals", ""]
    lines += ["| measure | against | ours to it | goal | |", "|---|---|---|---|---|"]
    lines += [f"| {goal.measure} | {goal.against} | {ratio_text(ratio)} | {goal.bound} | {what} |" for goal, ratio, what in goals(results)]
    lines += ["", "Below, medians; `spread` is that of the CPU between rounds. Ratios are of CPU, ours to the row's. Compare the rows of one table only.", ""]
    for name, table in results.items():
        rows = table["rows"]
        keys = list(dict.fromkeys(key for row in rows.values() for key in row))
        ours = rows.get("weir", {}).get("cpu_us")
        lines += [f"## {name}", "", f"| proxy | {' | '.join(keys)} | ours to it |", f"|---|{'---|' * (len(keys) + 1)}"]
        for who, row in rows.items():
            ratio = f"{ours / row['cpu_us']:.2f}" if ours and row.get("cpu_us") else ""
            lines.append(f"| {who} | {' | '.join(number(row[key]) if key in row else '' for key in keys)} | {ratio} |")
        lines += ["", *(f"{note[0].upper()}{note[1:]}.\n" for note in table["notes"])]
    return "\n".join(lines) + "\n"


def bars(title, values, unit):
    """A bar chart as SVG."""
    width, row, left = 640, 26, 150
    most = max(values.values()) or 1
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{row * len(values) + 50}" font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="10" y="22" font-weight="bold">{html.escape(title)} ({html.escape(unit)})</text>',
    ]
    for place, (name, value) in enumerate(values.items()):
        y = 38 + place * row
        length = max(0, (width - left - 90) * value / most)
        colour = "#0b6e4f" if name.startswith("weir") else "#8d99ae"
        parts += [
            f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{html.escape(name)}</text>',
            f'<rect x="{left}" y="{y}" width="{length:.1f}" height="18" fill="{colour}"/>',
            f'<text x="{left + length + 6:.1f}" y="{y + 14}">{number(value)}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


UNITS = {
    "cpu_us": "CPU us each", "rps": "a second", "p99_us": "us at the 99th percentile", "p999_us": "us at the 99.9th percentile",
    "KiB_each": "KiB a connection", "idle_MiB": "MiB", "ms": "ms", "GiB_s": "GiB a second",
}


def write(folder, about, results):
    kept = [{"measure": goal.measure, "against": goal.against, "ratio": ratio, "goal": goal.bound, "came": what} for goal, ratio, what in goals(results)]
    (folder / "comparison.json").write_text(json.dumps({"about": about, "goals": kept, "results": results}, indent=2) + "\n")
    (folder / "comparison.md").write_text(markdown(about, results))
    for name, table in results.items():
        for figure, unit in UNITS.items():
            values = {who: row[figure] for who, row in table["rows"].items() if row.get(figure)}
            if len(values) > 1:
                file = "".join(c if c.isalnum() else "-" for c in f"{name}-{figure}")
                (folder / f"{file}.svg").write_text(bars(name, values, unit))
