//! What was written -> what runs. The document has been checked; what can still fail here is what
//! depends on the machine: looking up names and opening the access log.
//!
//! Owns defaults that depend on several fields, and which parts of the snapshot before live on.

mod backend;
mod earlier;
mod limits;
mod listener;
mod policies;
mod rollout;
mod shared;
mod tables;
mod tls;
mod values;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use self::earlier::EarlierRules;
use self::listener::serve_options;
use self::policies::FilterOwner;
use self::shared::Shared;
use self::tables::{RuleTable, Tables};
use self::values::{balanced_by, compile_filters, compile_match, key_source};
use super::limits::{Bound, Limits as RuleLimits};
use super::port::{Door, Port};
use super::rule::{Arm, Draws, Force, OnTrial, OnUnavailable, Retry, Rule, Sticky, Timeouts};
use super::sparse::Maybe;
use super::written::Written;
use super::{AccessLogHandle, AdminSettings, DrainSettings, Snapshot};
use crate::aside;
use crate::config::document as written;
use crate::route::{HostMap, Match, PatternError};
use crate::split::{Split, StickySplit};
use crate::telemetry::access_log::{self, AccessLog};
use crate::telemetry::connection::ListenerMetrics;
use crate::telemetry::recorder::Registry;
use crate::telemetry::route::{NONE, RouteMetrics, RuleMetrics};
use crate::tls::material::MaterialError;
use crate::upstream::backend::Backend;
use crate::upstream::budget::{Budget, BudgetSettings};

/// Why a checked document does not run on this machine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileError {
    /// A name of an endpoint has no address.
    #[error("backend {backend}: cannot look up {name}: {source}")]
    Lookup {
        backend: String,
        name: String,
        source: std::io::Error,
    },
    /// The access log's file cannot be opened.
    #[error(
        "cannot open the access log {path} ({source}): have `accessLog.path` name a file in a folder that exists and \
         in which the user that runs weir may write"
    )]
    AccessLog {
        path: String,
        source: std::io::Error,
    },
    /// What was written cannot be kept.
    #[error("cannot keep what was written: {source}")]
    Written { source: std::io::Error },
    /// A certificate, key or list cannot be used.
    #[error("{owner}: {source}")]
    Tls {
        owner: String,
        source: MaterialError,
    },
    /// An expression that the check accepted is refused.
    #[error("route {route}: {source}")]
    Pattern { route: String, source: PatternError },
    /// A plan that the check accepted makes no sense.
    #[error("rollout {name}{faults}")]
    Rollout { name: String, faults: String },
    /// A value that the check accepted cannot be sent.
    #[error("route {route}: {what} cannot be sent in a header field")]
    Value { route: String, what: &'static str },
}

/// What a compilation needs besides the document.
#[derive(Debug)]
pub(crate) struct Compiler<'a> {
    registry: &'a Registry,
    workers: usize,
    /// The snapshot that serves now; what did not change is taken over.
    earlier: Option<&'a Snapshot>,
    earlier_rules: EarlierRules<'a>,
    /// Whether the access log and the files of TLS are opened, and what was written is kept; not for `explain`
    /// and `check`.
    to_serve: bool,
    shared: RefCell<Shared>,
}

impl<'a> Compiler<'a> {
    /// For looking at the result.
    pub(crate) fn to_look_at(registry: &'a Registry, workers: usize) -> Self {
        Self {
            registry,
            workers,
            earlier: None,
            earlier_rules: EarlierRules::default(),
            to_serve: false,
            shared: RefCell::default(),
        }
    }

    /// For serving, after the snapshot that does so now.
    pub(crate) fn to_serve(
        registry: &'a Registry,
        workers: usize,
        earlier: Option<&'a Snapshot>,
    ) -> Self {
        Self {
            earlier,
            earlier_rules: EarlierRules::of(earlier),
            to_serve: true,
            ..Self::to_look_at(registry, workers)
        }
    }

    /// Compiles a checked document.
    ///
    /// # Errors
    /// See [`CompileError`].
    pub(crate) fn compile(
        self,
        mut document: written::Document,
        hash: u64,
    ) -> Result<Snapshot, CompileError> {
        let written = self.to_serve.then(|| Written::of(&document));
        let written = written.transpose();
        let written = written.map_err(|source| CompileError::Written { source })?;
        let generation = self.earlier.map_or(1, |earlier| earlier.generation + 1);
        let mut backends = BTreeMap::new();
        for backend in &document.backends {
            aside::give_way();
            let compiled = self.backend(backend)?;
            backends.insert(compiled.name().into(), compiled);
        }
        let routes = std::mem::take(&mut document.routes);
        let mut rules = Vec::with_capacity(routes.len());
        let mut tables = Tables::of(&document.listeners);
        // One by one, so that what is compiled takes the place of what was written.
        for route in routes {
            let compiled = self.route(&route, &document, &backends)?;
            tables.add(&route, &compiled);
            rules.extend(compiled.into_iter().map(|it| it.rule));
        }
        rules.shrink_to_fit();
        let ports = self.ports(&document, tables, generation)?;
        let admin = document.admin.clone().unwrap_or_default();
        let drain = document.drain.clone().unwrap_or_default();
        Ok(Snapshot {
            generation,
            hash,
            leaving: self.leaving(&ports),
            ports,
            rollouts: self.rollouts(&document, &rules)?,
            rules,
            backends,
            state_folder: document.state.as_ref().map(|state| state.folder.clone()),
            access_log: self.access_log(document.access_log.clone().unwrap_or_default())?,
            drain: DrainSettings {
                delay: drain.delay.get(),
                timeout: drain.timeout.get(),
            },
            admin: AdminSettings {
                address: admin.address.get(),
                metrics_address: admin.metrics_address.map(|address| address.get()),
                socket: admin.socket,
                token_file: admin.token_file,
            },
            labels: labels(&document),
            written: written.unwrap_or_default(),
        })
    }

    fn access_log(
        &self,
        written: written::AccessLog,
    ) -> Result<Arc<AccessLogHandle>, CompileError> {
        let format = match written.format {
            written::AccessLogFormat::Json => access_log::Format::Json,
            written::AccessLogFormat::Ecs => access_log::Format::Ecs,
            written::AccessLogFormat::Combined => access_log::Format::Combined,
            written::AccessLogFormat::Off => {
                return Ok(Arc::new(AccessLogHandle {
                    settings: None,
                    log: AccessLog::off(),
                    kept: None,
                }));
            }
        };
        let settings = access_log::Settings {
            format,
            path: written.path,
            sample_percent: written.sample_percent,
            slower_than: written.slower_than.map(|d| d.get()),
            redact_query: written.redact_query,
        };
        if let Some(earlier) = self.earlier.map(|earlier| &earlier.access_log)
            && earlier.settings.as_ref() == Some(&settings)
        {
            return Ok(Arc::clone(earlier));
        }
        if !self.to_serve {
            return Ok(Arc::new(AccessLogHandle {
                settings: Some(settings),
                log: AccessLog::off(),
                kept: None,
            }));
        }
        let path = settings
            .path
            .as_ref()
            .map_or_else(|| "stdout".to_owned(), |p| p.display().to_string());
        let asked = settings.clone();
        let (log, guard) = aside::with_priority(move || AccessLog::start(asked))
            .map_err(|source| CompileError::AccessLog { path, source })?;
        Ok(Arc::new(AccessLogHandle {
            settings: Some(settings),
            kept: Some(Arc::new((
                access_log::Drops::count(&log, self.registry),
                guard,
            ))),
            log,
        }))
    }

    fn ports(
        &self,
        document: &written::Document,
        tables: Tables<'_>,
        generation: u64,
    ) -> Result<BTreeMap<SocketAddr, Arc<Port>>, CompileError> {
        let mut by_address: BTreeMap<SocketAddr, Vec<Member<'_>>> = BTreeMap::new();
        for member in tables.build() {
            let (_, listener, _) = &member;
            by_address
                .entry(listener.address.get())
                .or_default()
                .push(member);
        }
        let overload = self.overload(document);
        let tells_destination = document
            .backends
            .iter()
            .any(|backend| backend.proxy_protocol.is_some());
        let port = |(address, members): (SocketAddr, Vec<Member<'_>>)| {
            let (_, first, _) = *members.first()?;
            let mut by_host = HostMap::<Option<usize>>::default();
            for (index, (_, listener, _)) in members.iter().enumerate() {
                *by_host.entry(listener.hostname.as_ref()) = Some(index);
            }
            let metrics = match self.earlier.and_then(|earlier| earlier.port(address)) {
                Some(earlier)
                    if earlier
                        .listeners
                        .first()
                        .is_some_and(|l| *l.name == *first.name.as_str()) =>
                {
                    Arc::clone(&earlier.door.metrics)
                }
                _ => ListenerMetrics::new(self.registry, first.name.as_str()),
            };
            let listeners = members
                .into_iter()
                .map(|member| Ok(Arc::new(self.listener(member, document)?)))
                .collect::<Result<_, CompileError>>();
            let port = listeners.map(|listeners| Port {
                door: Arc::new(Door {
                    address,
                    options: serve_options(first),
                    max_connections: first.limits.connections,
                    max_in_all: self.most_connections(document),
                    proxy_protocol: self.proxy_protocol(first),
                    tells_destination,
                    metrics,
                }),
                overload: overload.clone(),
                generation,
                listeners,
                by_host,
            });
            Some(port.map(|port| (address, Arc::new(port))))
        };
        by_address.into_iter().filter_map(port).collect()
    }

    /// What the addresses that `ports` no longer has were last.
    fn leaving(&self, ports: &BTreeMap<SocketAddr, Arc<Port>>) -> BTreeMap<SocketAddr, Arc<Port>> {
        let Some(earlier) = self.earlier else {
            return BTreeMap::new();
        };
        let still = earlier
            .leaving
            .iter()
            .filter(|(_, port)| port.door.metrics.open() > 0);
        still
            .chain(&earlier.ports)
            .filter(|(address, _)| !ports.contains_key(address))
            .map(|(address, port)| (*address, Arc::clone(port)))
            .collect()
    }

    fn most_connections(&self, document: &written::Document) -> u32 {
        let overload = document.overload.as_ref();
        overload.and_then(|it| it.connections).unwrap_or(u32::MAX)
    }

    fn overload(&self, document: &written::Document) -> Option<Bound> {
        let limit = document.overload.as_ref()?.requests?;
        let mut ports = self
            .earlier
            .iter()
            .flat_map(|earlier| earlier.ports.values());
        let same = ports.find_map(|port| port.overload.as_ref());
        Some(Bound::new(limit, same))
    }

    fn route(
        &self,
        route: &written::Route,
        document: &written::Document,
        backends: &BTreeMap<Box<str>, Arc<Backend>>,
    ) -> Result<Vec<CompiledRule>, CompileError> {
        let limits = self.limits(route.name.as_str(), None, &route.limits);
        // Exactly as many: collecting results would take room for four at least, and of most there is one.
        let mut rules = Vec::with_capacity(route.rules.len());
        for (position, rule) in route.rules.iter().enumerate() {
            aside::give_way();
            let name = rule
                .name
                .as_ref()
                .map_or_else(|| position.to_string(), |n| n.as_str().to_owned());
            let path = format!("{}/{name}", route.name);
            let rollout = document.rollouts.iter().find(|it| it.rule == path);
            let on_trial = rollout.and_then(|it| self.on_trial(it, rule));
            rules.push(self.rule(
                (route.name.as_str(), &limits),
                &name,
                rule,
                backends,
                on_trial,
            )?);
        }
        Ok(rules)
    }

    fn rule(
        &self,
        (route, route_limits): (&str, &Option<Arc<RuleLimits>>),
        name: &str,
        written: &written::Rule,
        backends: &BTreeMap<Box<str>, Arc<Backend>>,
        on_trial: Option<OnTrial>,
    ) -> Result<CompiledRule, CompileError> {
        let pattern = |source| CompileError::Pattern {
            route: route.to_owned(),
            source,
        };
        let mut matches = Vec::with_capacity(written.matches.len());
        for one in &written.matches {
            matches.push(compile_match(one).map_err(pattern)?);
        }
        let earlier = self.earlier_rules.find(route, name);
        let metrics = self.metrics(route, name, written, earlier);
        let mut arms = Vec::with_capacity(written.backend_refs.len());
        for (index, reference) in written.backend_refs.iter().enumerate() {
            let mut arm = self.arm(metrics.of(index), reference, backends)?;
            let again = written.retry.is_some() || written.hedge.is_some();
            arm.budget = again.then(|| {
                let retry = written.retry.clone().unwrap_or_default();
                budget(earlier, reference.name.as_str(), &retry)
            });
            let hedge = self.hedge(route, name, reference.name.as_str(), written);
            arm.hedge = hedge.map(Box::new);
            arms.push(arm);
        }
        let weights = written.backend_refs.iter().map(|it| it.weight.get());
        let weights: Vec<_> = weights.collect();
        let division = self.shared.borrow_mut().division(&weights);
        let sticky = sticky(route, name, written);
        let owner = |labels| FilterOwner {
            registry: self.registry,
            backends,
            labels,
        };
        let timeout = |d: Option<crate::config::values::Duration>| {
            d.filter(|d| !d.is_zero()).map(|d| d.get())
        };
        let force = written.split.force.as_ref();
        let rule = Rule {
            filters: compile_filters(&owner([route, name, NONE]), &written.filters)?.into(),
            timeouts: Maybe::from(Timeouts {
                request: timeout(written.timeouts.request),
                attempt: timeout(written.timeouts.backend_request),
                first_byte: timeout(written.timeouts.first_byte),
                idle: timeout(written.timeouts.idle),
            }),
            route_limits: route_limits.clone(),
            limits: self.limits(route, Some(name), &written.limits),
            retry: written
                .retry
                .as_ref()
                .map(|retry| Box::new(compile_retry(retry, written))),
            draws: Draws::default(),
            workers: u32::try_from(self.workers).unwrap_or(u32::MAX),
            split: Split::divided(arms, division),
            sticky: sticky.map(Box::new),
            on_trial: on_trial.map(Box::new),
            force: Maybe::from(Force {
                header: force
                    .and_then(|f| f.header.as_ref())
                    .map(|name| name.get().clone()),
                cookie: force.and_then(|f| f.cookie.as_deref()).map(Into::into),
            }),
            on_unavailable: match written.split.on_unavailable {
                written::OnUnavailable::Shift => OnUnavailable::Shift,
                written::OnUnavailable::Error => OnUnavailable::Error,
            },
            metrics: metrics.without_backend(),
        };
        Ok(CompiledRule {
            rule: Arc::new(rule),
            matches,
        })
    }

    /// The series of a rule; what it has counted counts on.
    fn metrics(
        &self,
        route: &str,
        rule: &str,
        written: &written::Rule,
        earlier: Option<&Rule>,
    ) -> Arc<RuleMetrics> {
        let shared = &mut *self.shared.borrow_mut();
        let (route, rule) = (shared.name(route), shared.name(rule));
        let backends = written.backend_refs.iter();
        let backends = backends.map(|it| (shared.name(it.name.as_str()), it.weight.get()));
        let earlier = earlier.map(|it| it.metrics.of_rule());
        RuleMetrics::new(self.registry, route, rule, backends, earlier)
    }

    fn arm(
        &self,
        metrics: RouteMetrics,
        written: &written::BackendRef,
        backends: &BTreeMap<Box<str>, Arc<Backend>>,
    ) -> Result<Arm, CompileError> {
        let known_kind = matches!(written.kind.as_deref(), None | Some("Service" | "Backend"));
        let resolvable = known_kind && written.namespace.is_none();
        let (route, rule, name) = metrics.labels();
        let owner = FilterOwner {
            registry: self.registry,
            backends,
            labels: [route, rule, name],
        };
        let backend = backends.get(name).filter(|_| resolvable);
        let policy = backend.map(|backend| &backend.settings().balancing.policy);
        Ok(Arm {
            balanced_by: policy.and_then(balanced_by).map(Box::new),
            backend: backend.cloned(),
            filters: compile_filters(&owner, &written.filters)?.into(),
            budget: None,
            hedge: None,
            metrics,
        })
    }
}

/// The budget of a backend in a rule; the one of the snapshot before where its bounds are the same,
/// so that a reload in a storm does not fill it up.
fn budget(earlier: Option<&Rule>, backend: &str, retry: &written::Retry) -> Arc<Budget> {
    let settings = BudgetSettings {
        percent: retry.budget.percent,
        per_second: retry.budget.min_retries_per_second,
    };
    let same = earlier
        .iter()
        .flat_map(|it| it.split.arms())
        .find(|arm| arm.name() == backend)
        .and_then(|arm| arm.budget.as_ref())
        .filter(|budget| budget.settings() == settings);
    same.map_or_else(|| Budget::new(settings), Arc::clone)
}

fn labels(document: &written::Document) -> BTreeMap<Box<str>, BTreeMap<String, String>> {
    let labelled = document.backends.iter().filter(|it| !it.labels.is_empty());
    let labels = labelled.map(|it| (it.name.as_str().into(), it.labels.clone()));
    labels.collect()
}

fn sticky(route: &str, rule: &str, written: &written::Rule) -> Option<Sticky> {
    let source = key_source(written.split.key.as_ref()?)?;
    let default_salt = format!("{route}/{rule}");
    let salt = written.split.salt.as_deref().unwrap_or(&default_salt);
    let references = written.backend_refs.iter();
    let arms = references.map(|it| (it.name.as_str(), it.weight.get()));
    Some(Sticky {
        source,
        split: StickySplit::new(salt, arms),
    })
}

fn compile_retry(written: &written::Retry, rule: &written::Rule) -> Retry {
    let mut references = rule.backend_refs.iter();
    let fallback = written.fallback.as_ref();
    Retry {
        attempts: written.attempts.into(),
        codes: written.codes.iter().map(|code| code.get()).collect(),
        grpc_codes: written.grpc_codes.iter().map(|code| *code as u8).collect(),
        backoff: written.backoff.get(),
        non_idempotent: written.non_idempotent,
        body_bytes: usize::try_from(written.body_bytes.0).unwrap_or(usize::MAX),
        fallback: fallback.and_then(|name| references.position(|it| it.name == *name)),
    }
}

/// A listener of a port, with its number and its table.
type Member<'a> = (u16, &'a written::Listener, RuleTable);

/// A rule with the matches that lead to it; the table wants them apart.
struct CompiledRule {
    rule: Arc<Rule>,
    matches: Vec<Match>,
}
