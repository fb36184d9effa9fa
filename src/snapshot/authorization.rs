//! Whether a client may do what it asks for, at one listener.
//!
//! Owns the order: what is denied is refused, then what is allowed is let through. Must not know how
//! an identity was verified.

use std::sync::Arc;

use crate::route::{Match, RequestView};
use crate::telemetry::authorization::RefusedMetrics;

/// The rules for one listener; the default lets everything through.
#[derive(Debug, Default)]
pub(crate) struct Authorization {
    pub(crate) dry_run: bool,
    pub(crate) deny: Vec<AuthorizationRule>,
    pub(crate) allow: Vec<AuthorizationRule>,
    /// For what no rule of `allow` fits, where there is one.
    pub(crate) otherwise: Option<Arc<RefusedMetrics>>,
}

/// One rule: any of the matches must apply.
#[derive(Debug)]
pub(crate) struct AuthorizationRule {
    pub(crate) name: Box<str>,
    pub(crate) matches: Vec<Match>,
    pub(crate) refused: Arc<RefusedMetrics>,
}

/// A request may not pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", match by {
    Some(name) => format!("the authorization rule {name} refuses it"),
    None => "no authorization rule allows it".to_owned(),
})]
pub(crate) struct Forbidden {
    /// The rule of `deny`; `None`: none of `allow` fits.
    by: Option<Box<str>>,
}

impl AuthorizationRule {
    fn fits(&self, request: &RequestView<'_>) -> bool {
        self.matches
            .iter()
            .any(|one| one.mismatch(request).is_none())
    }
}

impl Authorization {
    /// What the rules say, dry run or not.
    ///
    /// # Errors
    /// Why the request may not pass.
    fn judge(
        &self,
        request: &RequestView<'_>,
    ) -> Result<(), (Forbidden, Option<&Arc<RefusedMetrics>>)> {
        if let Some(policy) = self.deny.iter().find(|policy| policy.fits(request)) {
            let by = Some(policy.name.clone());
            return Err((Forbidden { by }, Some(&policy.refused)));
        }
        if self.allow.is_empty() || self.allow.iter().any(|policy| policy.fits(request)) {
            return Ok(());
        }
        Err((Forbidden { by: None }, self.otherwise.as_ref()))
    }

    /// Lets a request through, or counts it as refused.
    ///
    /// # Errors
    /// Why it may not pass; never in a dry run.
    pub(crate) fn admit(&self, request: &RequestView<'_>) -> Result<(), Forbidden> {
        let Err((forbidden, metrics)) = self.judge(request) else {
            return Ok(());
        };
        if let Some(metrics) = metrics {
            metrics.refused();
        }
        if self.dry_run {
            tracing::info!(method = %request.method, path = request.path, "would be refused: {forbidden}");
            return Ok(());
        }
        Err(forbidden)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;
    use crate::config::values::Identity;
    use crate::route::PathPattern;
    use crate::telemetry::recorder::Registry;

    fn policy(
        registry: &Registry,
        name: &str,
        who: &str,
        method: Option<Method>,
        path: &str,
    ) -> AuthorizationRule {
        let who = if who.is_empty() {
            Vec::new()
        } else {
            vec![who.parse().unwrap()]
        };
        AuthorizationRule {
            name: name.into(),
            matches: vec![
                Match::new(PathPattern::prefix(path), method, Vec::new(), Vec::new()).by(who),
            ],
            refused: RefusedMetrics::new(registry, "mesh", name, false),
        }
    }

    #[test]
    fn what_is_denied_wins_and_what_is_not_allowed_is_refused() {
        let registry = Registry::new();
        let front = "spiffe://shop/ns/*/sa/front";
        let mut rules = Authorization {
            dry_run: false,
            deny: vec![policy(
                &registry,
                "no-delete",
                "",
                Some(Method::DELETE),
                "/",
            )],
            allow: vec![
                policy(&registry, "front", front, None, "/"),
                policy(&registry, "health", "", Some(Method::GET), "/healthz"),
            ],
            otherwise: Some(RefusedMetrics::new(&registry, "mesh", "none", false)),
        };
        let identity = |uri: &str| Identity {
            uris: vec![uri.to_owned()],
            ..Identity::default()
        };
        let (known, other) = (
            identity("spiffe://shop/ns/a/sa/front"),
            identity("spiffe://shop/ns/a/sa/x"),
        );
        let refused =
            |rules: &Authorization, who: Option<&Identity>, method: Method, path: &str| {
                let headers = HeaderMap::new();
                let request = RequestView {
                    host: "a",
                    path,
                    query: None,
                    method: &method,
                    headers: &headers,
                    identity: who,
                };
                rules
                    .admit(&request)
                    .err()
                    .map(|forbidden| forbidden.by.map_or("-".to_owned(), String::from))
            };
        for (who, method, path, expected) in [
            (Some(&known), Method::GET, "/cart", None),
            (Some(&known), Method::DELETE, "/cart", Some("no-delete")),
            (Some(&other), Method::GET, "/cart", Some("-")),
            (None, Method::GET, "/cart", Some("-")),
            (None, Method::GET, "/healthz", None),
            (None, Method::POST, "/healthz", Some("-")),
            (None, Method::GET, "/healthzz", Some("-")),
        ] {
            let got = refused(&rules, who, method.clone(), path);
            assert_eq!(got.as_deref(), expected, "{who:?} {method} {path}");
        }
        rules.dry_run = true;
        assert_eq!(refused(&rules, None, Method::DELETE, "/"), None);
        let text = registry.render();
        let counted = r#"weir_authorization_refused_total{listener="mesh",rule="no-delete",mode="enforced"} 2"#;
        assert!(text.contains(counted), "{text}");
        assert_eq!(
            refused(&Authorization::default(), None, Method::GET, "/"),
            None
        );
    }
}
