//! `/api/v1/rollouts`: how rollouts stand, and what a person may ask of them.
//!
//! Owns paths and bodies. Must not know how anything is carried out.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::json;

use super::State;
use super::server::{BODY, json, text};
use crate::config::values::Duration;
use crate::rollout::evidence::Verdict;
use crate::rollout::machine::{Action, Command};
use crate::rollout::{Moment, Share};
use crate::steering::Trouble;

const ROOT: &str = "/api/v1/rollouts";

/// What may come with a command; all of it may be absent.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Asked {
    owner: Option<String>,
    reason: String,
    /// For `promote`: on to all of the traffic.
    full: bool,
    /// For `weight`: in percent,
    weight: Option<f64>,
    /// until then,
    until: Option<Moment>,
    /// or for so long.
    #[serde(rename = "for")]
    lasts: Option<Duration>,
}

/// A page, where the path is one.
pub(super) fn get(state: &State, path: &str) -> Option<Response<Full<Bytes>>> {
    let rest = path.strip_prefix(ROOT)?;
    if rest.is_empty() {
        return Some(json(&state.desk.standing()));
    }
    let mut parts = rest.strip_prefix('/')?.split('/');
    let (name, page) = (parts.next()?, parts.next());
    if parts.next().is_some() {
        return None;
    }
    match page {
        None => state.desk.of(name).map(|view| json(&view)),
        Some("history") => state.desk.history(name).map(|records| {
            let records: Vec<_> = records.iter().map(|record| &**record).collect();
            json(&records)
        }),
        Some("evidence") => state.desk.totals(name).map(|totals| json(&totals)),
        Some("verdict") => state
            .desk
            .of(name)
            .map(|view| json(&view.verdict_document())),
        Some(_) => None,
    }
}

/// What Flagger asks its webhooks: whether to go back, and whether to go on. A status that is no success says no.
#[derive(Debug, Deserialize)]
struct FlaggerAsks {
    /// Of its canary.
    name: String,
    #[serde(default)]
    metadata: FlaggerMetadata,
}

#[derive(Debug, Default, Deserialize)]
struct FlaggerMetadata {
    /// The rollout, where it has another name.
    rollout: Option<String>,
}

/// Answers Flagger.
pub(super) async fn flagger(state: &State, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let wanted = match request.uri().path() {
        "/api/v1/flagger/rollback" => Verdict::Fail,
        _ => Verdict::Pass,
    };
    let body = Limited::new(request.into_body(), BODY).collect().await;
    let asked = body
        .ok()
        .and_then(|body| serde_json::from_slice::<FlaggerAsks>(&body.to_bytes()).ok());
    let Some(asked) = asked else {
        return refused(
            StatusCode::BAD_REQUEST,
            "expected the body of a webhook of Flagger",
        );
    };
    let name = asked.metadata.rollout.unwrap_or(asked.name);
    match state.desk.of(&name) {
        None => refused(StatusCode::NOT_FOUND, &Trouble::Unknown(name).to_string()),
        Some(view) => {
            let mut response = json(&view.verdict_document());
            if view.verdict_document().verdict != wanted {
                *response.status_mut() = StatusCode::PRECONDITION_FAILED;
            }
            response
        }
    }
}

/// Whether the path is one to post to.
pub(super) fn is_command(path: &str) -> bool {
    path.strip_prefix(ROOT).is_some_and(|rest| {
        let verb = rest.rsplit('/').next();
        rest.matches('/').count() == 2
            && matches!(
                verb,
                Some("promote" | "pause" | "resume" | "abort" | "retry" | "weight")
            )
    })
}

/// Carries out a command.
pub(super) async fn post(state: &State, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    let mut parts = path.trim_start_matches(ROOT).split('/').skip(1);
    let (name, verb) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let body = match Limited::new(request.into_body(), BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return refused(StatusCode::BAD_REQUEST, "the body cannot be read"),
    };
    let asked: Asked = if body.trim_ascii().is_empty() {
        Asked::default()
    } else {
        match serde_json::from_slice(&body) {
            Ok(asked) => asked,
            Err(error) => {
                let message = format!("the body is not as it should be: {error}");
                return refused(StatusCode::BAD_REQUEST, &message);
            }
        }
    };
    let action = match action(verb, &asked) {
        Ok(action) => action,
        Err(message) => return refused(StatusCode::BAD_REQUEST, message),
    };
    let command = Command {
        action,
        owner: asked.owner.unwrap_or_else(|| "admin API".to_owned()),
        reason: asked.reason,
    };
    match state.desk.command(name, &command) {
        Ok(()) => match state.desk.of(name) {
            Some(view) => json(&view),
            None => json(&json!({})),
        },
        Err(error @ Trouble::Unknown(_)) => refused(StatusCode::NOT_FOUND, &error.to_string()),
        Err(error @ Trouble::Refused(_)) => refused(StatusCode::CONFLICT, &error.to_string()),
    }
}

fn action(verb: &str, asked: &Asked) -> Result<Action, &'static str> {
    Ok(match verb {
        "promote" if asked.full => Action::PromoteFully,
        "promote" => Action::Promote,
        "pause" => Action::Pause,
        "resume" => Action::Resume,
        "abort" => Action::Abort,
        "retry" => Action::Retry,
        _ => {
            let weight = asked.weight.and_then(Share::from_percent);
            let until = match (asked.until, asked.lasts) {
                (Some(_), Some(_)) => return Err("give `until` or `for`, not both"),
                (until, None) => until,
                (None, Some(lasts)) => Some(crate::steering::now().after(lasts.get())),
            };
            Action::SetWeight {
                share: weight.ok_or("`weight` has to be a percentage, from 0 to 100")?,
                until,
            }
        }
    })
}

fn refused(status: StatusCode, why: &str) -> Response<Full<Bytes>> {
    text(status, format!("{why}\n"))
}
