//! Every metric: name, kind, unit, help text and bucket list, once.
//!
//! Must not know labels' values or who counts.

/// A counter, gauge or histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// One metric family.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Metric {
    /// Name as exported, unit and `_total` included.
    pub(crate) name: &'static str,
    /// What Prometheus shows as its type.
    pub(crate) kind: Kind,
    /// One sentence.
    pub(crate) help: &'static str,
}

/// Bounds in seconds of every duration histogram.
pub(crate) const SECONDS_BUCKETS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Counter,
        help,
    }
}

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Gauge,
        help,
    }
}

const fn histogram(name: &'static str, help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Histogram,
        help,
    }
}

macro_rules! metrics {
    ($($constant:ident = $make:ident($name:literal, $help:literal);)*) => {
        $(pub(crate) const $constant: Metric = $make($name, $help);)*
        /// All of them, for descriptions.
        pub(crate) const ALL: &[Metric] = &[$($constant,)*];
    };
}

metrics! {
    REQUESTS = counter("weir_requests_total", "Requests answered, by status code.");
    REQUEST_DURATION = histogram("weir_request_duration_seconds", "From the request's head to the end of the response's body.");
    UPSTREAM_FIRST_BYTE = histogram("weir_upstream_first_byte_seconds", "From sending the request to the head of the endpoint's response.");
    ERRORS = counter("weir_errors_total", "Answers made by the proxy itself and bodies that it had to cut, by reason.");
    ATTEMPTS = counter("weir_attempts_total", "Attempts against endpoints, by outcome.");
    RETRIES = counter("weir_retries_total", "Attempts repeated, by reason.");
    RETRIES_REFUSED = counter("weir_retries_refused_total", "Attempts that failed and were not repeated although the rule repeats such failures, by what stood against it.");
    SHIELDED = counter("weir_shielded_total", "Requests that this backend failed and another one was asked for in its place, by what became of them.");
    SHIFTED = counter("weir_shifted_total", "Requests that another backend served because their own had no usable endpoint.");
    HEDGES = counter("weir_hedges_total", "Second attempts while the first one was waited for, by what became of them.");
    RATE_KEYS_FORGOTTEN = counter("weir_rate_limit_keys_forgotten_total", "Buckets of keys that were not full and made room for those of others; more `maxKeys` are needed.");
    MIRRORED = counter("weir_mirrored_total", "Copies of requests for a mirror, by what became of them.");
    MIRROR_FIRST_BYTE = histogram("weir_mirror_first_byte_seconds", "From sending a copy to the head of its answer.");
    MIRRORS_IN_FLIGHT = gauge("weir_mirrors_in_flight", "Copies on their way, or waiting for their body.");
    FAULTS = counter("weir_faults_total", "Delays, failures and resets that a rule makes on purpose.");
    SPLIT_WEIGHT = gauge("weir_split_weight", "The effective weight of a backend in a rule.");
    REQUESTS_IN_FLIGHT = gauge("weir_requests_in_flight", "Requests that a backend is serving now.");
    REQUESTS_PENDING = gauge("weir_requests_pending", "Requests that wait for a connection to a backend now.");
    REQUEST_BYTES = counter("weir_request_bytes_total", "Bytes of request bodies.");
    RESPONSE_BYTES = counter("weir_response_bytes_total", "Bytes of response bodies.");
    CONNECTIONS = gauge("weir_connections", "Open connections of clients.");
    CONNECTIONS_TOTAL = counter("weir_connections_total", "Connections of clients accepted.");
    ACCEPT_ERRORS = counter("weir_accept_errors_total", "Failures to accept a connection; the listener then waits a little.");
    ACCEPT_PAUSES = counter("weir_accept_pauses_total", "Times that a worker stopped accepting, as there were as many connections as there may be.");
    PROTOCOL_ERRORS = counter("weir_protocol_errors_total", "Connections closed because what came was not HTTP.");
    PROXY_PROTOCOL = counter("weir_proxy_protocol_total", "Connections at listeners with the PROXY protocol, by what their header said or why there was none.");
    HTTP2_LIMIT_EXCEEDED = counter("weir_http2_limit_exceeded_total", "Connections closed with ENHANCE_YOUR_CALM because the client sent too many frames of a kind.");
    UPSTREAM_HTTP2_LIMIT_EXCEEDED = counter("weir_upstream_http2_limit_exceeded_total", "Connections to endpoints closed because the endpoint sent too many frames of a kind.");
    AUTHORIZATION_REFUSED = counter("weir_authorization_refused_total", "Requests that authorization refuses, or in a dry run would refuse; the rule is none for what no rule allows.");
    TLS_HANDSHAKES = counter("weir_tls_handshakes_total", "Handshakes with clients, by result.");
    CERTIFICATE_EXPIRY = gauge("weir_certificate_expiry_timestamp_seconds", "When what is in use of a file ends, in Unix time: the certificate, the first authority of a bundle, the first list of revoked ones.");
    CERTIFICATE_SUCCESSFUL = gauge("weir_certificate_last_reload_successful", "1 when what a file of keys or certificates says is in use, 0 when it was refused and what it said before is.");
    CERTIFICATE_RELOADS = counter("weir_certificate_reloads_total", "Changes of files of keys or certificates, by result.");
    UPSTREAM_CONNECTIONS = gauge("weir_upstream_connections", "Open connections to a backend.");
    UPSTREAM_CONNECTIONS_TOTAL = counter("weir_upstream_connections_total", "Connections made to a backend.");
    HEALTH_CHECKS = counter("weir_health_checks_total", "Active checks of endpoints, by result.");
    EJECTIONS = counter("weir_endpoint_ejections_total", "Endpoints that got no requests for a while because too many had failed there, by what was too many.");
    ENDPOINTS = gauge("weir_endpoints", "Endpoints of a backend, by state.");
    BACKEND_READY = gauge("weir_backend_ready", "1 when a backend has an endpoint that requests may go to, else 0.");
    ROLLOUT_WEIGHT = gauge("weir_rollout_weight", "The candidate's part of what both get, from 0 to 1.");
    ROLLOUT_SET_BY = gauge("weir_rollout_weight_set_by", "1 for who decides over the candidate's weight: file, plan, operator or guard.");
    ROLLOUT_STATE = gauge("weir_rollout_state", "1 for the phase that a rollout is in.");
    ROLLOUT_EVIDENCE = gauge("weir_rollout_evidence", "Natural logarithm of the evidence against the candidate, by indicator.");
    ROLLOUT_THRESHOLD = gauge("weir_rollout_evidence_threshold", "Natural logarithm of the evidence at which the guard takes the candidate's traffic, by indicator.");
    ROLLOUT_EXCESS = gauge("weir_rollout_excess_failures", "The candidate's failed requests beyond what stable's failures at the same time explain.");
    ROLLOUT_EXCLUDED = gauge("weir_rollout_excluded", "Outcomes of the run that the evidence leaves out, by reason.");
    ROLLOUT_HOOKS = counter("weir_rollout_hooks_total", "What programs were told of decisions, by whether it reached them.");
    ROLLOUT_DECISIONS = counter("weir_rollout_decisions_total", "Decisions, by kind.");
    DISCOVERY_ANSWERS = counter("weir_discovery_answers_total", "Answers to the question where the endpoints of a backend are, by result.");
    DISCOVERY_LAST_SUCCESS = gauge("weir_discovery_last_success_timestamp_seconds", "When the endpoints of a backend were last told, in Unix time; 0 for never.");
    CONFIG_GENERATION = gauge("weir_config_generation", "Number of the configuration that serves.");
    CONFIG_RELOADS = counter("weir_config_reloads_total", "Attempts to load a changed configuration, by result.");
    CONFIG_LAST_SUCCESSFUL = gauge("weir_config_last_reload_successful", "1 when the newest configuration serves, 0 when it was refused.");
    CONFIG_LAST_SUCCESS = gauge("weir_config_last_reload_success_timestamp_seconds", "When a configuration was last put to work, in Unix time.");
    ACCESS_LOG_DROPPED = counter("weir_access_log_dropped_total", "Lines of the access log that were dropped because its writer was too slow.");
    LOG_DROPPED = counter("weir_log_dropped_total", "Events of the program log that were dropped because its writer was too slow.");
    PANICS = counter("weir_panics_total", "Tasks that panicked. Anything but 0 is a defect; please report it.");
    TASKS = gauge("weir_tasks", "Tasks alive on the workers: a few of their own, and those of connections, requests and tunnels.");
    BUILD_INFO = gauge("weir_build_info", "Always 1; the labels say what runs.");
    PROCESS_CPU = counter("process_cpu_seconds_total", "CPU time used, user and system, in seconds.");
    PROCESS_MEMORY = gauge("process_resident_memory_bytes", "Resident memory.");
    PROCESS_FDS = gauge("process_open_fds", "Open file descriptors.");
    PROCESS_MAX_FDS = gauge("process_max_fds", "Limit of open file descriptors.");
    PROCESS_START = gauge("process_start_time_seconds", "When the process started, in Unix time.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_end_in_total_and_nothing_else_does() {
        for metric in ALL {
            assert_eq!(
                metric.name.ends_with("_total"),
                metric.kind == Kind::Counter,
                "{}",
                metric.name
            );
        }
    }
}
