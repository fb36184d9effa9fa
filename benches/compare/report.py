"""Tables, JSON and plots of what was measured. Must not know how."""

import html
import json

# What we promise: scenario, figure, against whom, at most (below 0: at least) this ratio of ours to theirs.
GOALS = [
    ("http1, 64 connections", "cpu_us", "haproxy", 0.95),
    ("http1, 64 connections", "cpu_us", "nginx", 0.60),
    ("http1, 64 connections", "cpu_us", "envoy", 0.30),
    ("http1, 64 connections", "rps", "best", -1.0),
    ("latency", "p99_us", "best", 1.0),
    ("latency", "p999_us", "best", 1.0),
    ("mtls, kept connections", "cpu_us", "haproxy", 1.0),
    ("mtls, kept connections", "cpu_us", "nginx", 1.0),
    ("tls handshakes", "cpu_us", "haproxy", 1.0),
    ("tls handshakes", "cpu_us", "nginx", 1.0),
    ("h2c to http1", "cpu_us", "envoy", 0.5),
    ("h2c to http1", "cpu_us", "haproxy", 1.0),
    ("gRPC unary", "cpu_us", "envoy", 0.5),
    ("gRPC unary", "cpu_us", "haproxy", 1.0),
    ("100 MiB down, a GiB", "cpu_us", "haproxy", 1.2),
    ("100 MiB up, a GiB", "cpu_us", "haproxy", 1.2),
    ("memory, 1000 idle connections", "idle_MiB", "envoy", 0.25),
    ("memory, 10000 routes", "idle_MiB", "envoy", 0.25),
    ("a rollout", "cpu_us", "without", 1.05),
    ("reload of 10000 routes", "p99_us", "none", 1.5),
]
# Ours in one table to ours in another.
AGAINST_OURSELVES = [
    ("access log on", "access log off", "cpu_us", 1.20),
    ("100000 routes", "10 routes", "rps", -0.95),
    ("two workers, load on the second's core", "one worker", "rps", -1.7),
]
# Of ours alone: at most, or (below 0) at least, so much.
ALONE = [
    ("memory, 10000 idle connections", "KiB_each", 4.0),
    ("two workers, load on the second's core", "least_share", -0.4),
]
MORE_IS_BETTER = {"rps", "GiB_s"}


def goals(results):
    """Lines of promises: text, ratio, goal, kept or missed."""
    for scenario, figure, against, goal in GOALS:
        for name, rows in results.items():
            if not name.startswith(scenario):
                continue
            ours = rows.get("weir") or rows.get("with a running rollout") or rows.get("100 reloads")
            others = [row[figure] for who, row in rows.items() if who != "weir" and figure in row and against in ("best", who)]
            if not ours or figure not in ours or not others:
                continue
            best = max(others) if figure in MORE_IS_BETTER else min(others)
            yield judged(f"{name}: {figure}, ours to {against}", ours[figure], best, goal)
    ours = {name: rows.get("weir", {}) for name, rows in results.items()}
    for name, beside, figure, goal in AGAINST_OURSELVES:
        if figure in ours.get(name, {}) and figure in ours.get(beside, {}):
            yield judged(f"{name}: {figure}, to {beside}", ours[name][figure], ours[beside][figure], goal)
    for name, figure, goal in ALONE:
        if figure in ours.get(name, {}):
            yield judged(f"{name}: {figure}", ours[name][figure], 1, goal)


def judged(what, ours, other, goal):
    ratio = ours / other if other else float("inf")
    kept = ratio >= -goal if goal < 0 else ratio <= goal
    return what, ratio, f"{'>=' if goal < 0 else '<='} {abs(goal):.2f}", "kept" if kept else "missed"


def number(value):
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def markdown(about, results):
    lines = ["# Comparison", "", *(f"- {key}: {value}" for key, value in about.items()), ""]
    lines += ["Medians; `spread` is that of the CPU between rounds. Ratios are of CPU, ours to the row's; only figures of one run compare.", ""]
    for name, rows in results.items():
        keys = list(dict.fromkeys(key for row in rows.values() for key in row))
        ours = rows.get("weir", {}).get("cpu_us")
        lines += [f"## {name}", "", f"| proxy | {' | '.join(keys)} | ours to it |", f"|---|{'---|' * (len(keys) + 1)}"]
        for who, row in rows.items():
            ratio = f"{ours / row['cpu_us']:.2f}" if ours and row.get("cpu_us") else ""
            lines.append(f"| {who} | {' | '.join(number(row[key]) if key in row else '' for key in keys)} | {ratio} |")
        lines.append("")
    lines += ["## Goals", "", "| what | ratio | goal | |", "|---|---|---|---|"]
    lines += [f"| {what} | {ratio:.2f} | {goal} | {kept} |" for what, ratio, goal, kept in goals(results)]
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
        length = (width - left - 90) * value / most
        colour = "#0b6e4f" if name.startswith(("weir", "with")) else "#8d99ae"
        parts += [
            f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{html.escape(name)}</text>',
            f'<rect x="{left}" y="{y}" width="{length:.1f}" height="18" fill="{colour}"/>',
            f'<text x="{left + length + 6:.1f}" y="{y + 14}">{number(value)}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def write(folder, about, results):
    (folder / "comparison.json").write_text(json.dumps({"about": about, "results": results}, indent=2) + "\n")
    (folder / "comparison.md").write_text(markdown(about, results))
    units = {"cpu_us": "CPU us each", "rps": "a second", "p99_us": "us at the 99th percentile", "KiB_each": "KiB a connection", "idle_MiB": "MiB", "ms": "ms"}
    for name, rows in results.items():
        for figure, unit in units.items():
            values = {who: row[figure] for who, row in rows.items() if row.get(figure)}
            if len(values) > 1:
                file = "".join(c if c.isalnum() else "-" for c in f"{name}-{figure}")
                (folder / f"{file}.svg").write_text(bars(name, values, unit))
