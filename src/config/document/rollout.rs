//! Moving the traffic of a rule from one backend to another, judged on the way.
//!
//! Owns these objects of the file and their defaults. Must not know how they are read, compiled or run.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::GrpcCode;
use crate::config::values::{Duration, Name, Percent, StatusCode};

/// The planned move of a rule's traffic from a stable backend to a candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rollout {
    /// Name that commands, logs and metrics use.
    pub name: Name,
    /// The rule whose traffic moves, as `route/rule`; a rule without a name is called by its position.
    #[schemars(extend("pattern" = "^[^/]+/[^/]+$", "examples" = ["checkout/pay"]))]
    pub rule: String,
    /// The backend that serves now; one of the rule's backendRefs.
    pub stable: Name,
    /// The backend that is to replace it; another one of them.
    pub candidate: Name,
    /// Tells versions of the candidate apart: another one is another rollout, which begins by itself and
    /// meets other clients first. Absent: the candidate's label `version`, or nothing but its name.
    #[serde(default)]
    pub revision: Option<String>,
    /// How traffic moves.
    #[serde(default)]
    pub strategy: RolloutStrategy,
    /// The weights, growing. Absent: made from the strategy, the budget and the traffic.
    #[serde(default)]
    pub steps: Vec<RolloutStep>,
    /// What a step waits for.
    #[serde(default)]
    pub pace: RolloutPace,
    /// How long a step lasts at least, where it does not say itself. Longer than requests time out.
    #[serde(default = "minute")]
    pub minimum: Duration,
    /// After how long the policies decide, where a step does not say itself. `0s`: never.
    #[serde(default = "hour")]
    pub maximum: Duration,
    /// How strict the judgement is.
    #[serde(default)]
    pub analysis: RolloutAnalysis,
    /// What a bad candidate may cost before everything goes back to stable, evidence or not.
    #[serde(default)]
    pub budget: RolloutBudget,
    /// Sending requests that the candidate has failed to stable.
    #[serde(default)]
    pub shield: Option<RolloutShield>,
    /// When a step has lasted its maximum and the candidate got no requests.
    #[serde(default)]
    pub on_no_data: RolloutPolicy,
    /// When a step has lasted its maximum and the evidence is not enough.
    #[serde(default)]
    pub on_undecided: RolloutPolicy,
    /// What happens to what the candidate is serving when everything goes back to stable, by the guard or by
    /// a person.
    #[serde(default)]
    pub on_rollback: RolloutOnRollback,
    /// What stable keeps for a while after the switch, as a control. Absent: 10 % for ten minutes with
    /// `blueGreen`, nothing otherwise.
    #[serde(default)]
    pub holdback: Option<RolloutHoldback>,
    /// Whom to tell, and whom to ask.
    #[serde(default)]
    pub hooks: Vec<RolloutHook>,
}

fn minute() -> Duration {
    Duration::from_secs(60)
}

fn hour() -> Duration {
    Duration::from_secs(3_600)
}

/// How traffic moves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RolloutStrategy {
    /// In steps, each judged.
    #[default]
    Canary,
    /// All at once, with a part held back as a control. A step at 0 waits before: with `pause: manual`, for a
    /// person who has looked at it by `split.force`.
    BlueGreen,
    /// With its endpoints: the candidate has their part of all that are ready, in a slow start that of their
    /// part that they have by then, and no more than the step's weight. Steps are judged as usual; it ends
    /// when the last endpoint of stable is gone.
    Rolling,
    /// Not at all: a fixed split with evidence.
    Ab,
}

/// A weight, and how long it lasts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RolloutStep {
    /// The candidate's part of what both get, in percent.
    pub weight: Percent,
    /// What a passed step still waits for: `manual`, a person, or a time.
    #[serde(default)]
    pub pause: Option<RolloutPause>,
    /// In place of the rollout's.
    #[serde(default)]
    pub minimum: Option<Duration>,
    /// In place of the rollout's.
    #[serde(default)]
    pub maximum: Option<Duration>,
}

/// What a passed step still waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutPause {
    /// A person.
    Manual,
    /// So long.
    For(Duration),
}

impl Serialize for RolloutPause {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Manual => serializer.serialize_str("manual"),
            Self::For(duration) => duration.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for RolloutPause {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;

        impl serde::de::Visitor<'_> for Word {
            type Value = RolloutPause;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`manual`, or a duration such as `10m`")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RolloutPause, E> {
                if text == "manual" {
                    return Ok(RolloutPause::Manual);
                }
                text.parse().map(RolloutPause::For).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Word)
    }
}

impl JsonSchema for RolloutPause {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RolloutPause".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "`manual`, or how long a passed step waits",
            "type": "string", "pattern": "^(manual|([0-9]{1,5}(h|m|s|ms)){1,4})$",
            "examples": ["manual", "10m"],
        })
    }
}

/// What a step waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RolloutPace {
    /// Evidence that the candidate is good enough.
    #[default]
    Evidence,
    /// Its minimum, while there is no evidence against the candidate.
    Clock,
}

/// What happens when nobody knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RolloutPolicy {
    /// The step stays, until evidence or a person moves it.
    #[default]
    Hold,
    /// On to the next step.
    Continue,
    /// On to all of the traffic.
    Promote,
    /// Back to stable.
    RollBack,
}

/// What happens to what the candidate is serving when everything goes back to stable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RolloutOnRollback {
    /// What becomes of streams: tunnels such as WebSocket, and answers that do not say how long they are,
    /// such as gRPC streams and server-sent events. Any other answer ends by itself.
    pub streams: RolloutStreams,
    /// How long they may still go on; `0s`: not at all. gRPC calls then end with UNAVAILABLE, other streams
    /// are cut.
    pub grace: Duration,
}

impl Default for RolloutOnRollback {
    fn default() -> Self {
        Self {
            streams: RolloutStreams::default(),
            grace: Duration::from_secs(30),
        }
    }
}

/// What becomes of the candidate's streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RolloutStreams {
    /// They have a while to end, and are cut then, so that their clients come to stable.
    #[default]
    Drain,
    /// They go on as long as they like.
    Keep,
}

/// How strict the judgement is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RolloutAnalysis {
    /// Greatest probability that a good candidate is ever rolled back, over a whole rollout.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub false_alarm: f64,
    /// Greatest probability that a step is passed by a candidate beyond its limit.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub false_pass: f64,
    /// How many times as often as stable the candidate may fail.
    #[schemars(range(min = 1.0, max = 1000.0))]
    pub error_tolerance: f64,
    /// How many times as often as stable it may be slow: beyond the 90th or 99th percentile of what stable
    /// takes. 1.5 lets a candidate pass that is about a tenth slower; 1 allows nothing, and sees one that is a
    /// fifth slower ten times as early.
    #[schemars(range(min = 1.0, max = 1000.0))]
    pub slow_tolerance: f64,
    /// Answers that are bad although they are no server errors, 400 to 499.
    pub codes: Vec<StatusCode>,
    /// The same for the status of gRPC calls. UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL,
    /// UNAVAILABLE and DATA_LOSS are failures anyway.
    pub grpc_codes: Vec<GrpcCode>,
    /// What counts once.
    pub unit: RolloutUnit,
    /// Different keys among the candidate's failures without which there is no rollback. A key is what
    /// makes the split sticky, or the client's address.
    #[schemars(range(max = 16))]
    pub min_keys: u8,
    /// The rate of failures that the candidate must not exceed when it has all traffic and no control is
    /// left. Absent: nothing is watched then.
    pub limit_without_control: Option<Percent>,
}

impl Default for RolloutAnalysis {
    fn default() -> Self {
        Self {
            false_alarm: 0.001,
            false_pass: 0.05,
            error_tolerance: 1.25,
            slow_tolerance: 1.5,
            codes: Vec::new(),
            grpc_codes: Vec::new(),
            unit: RolloutUnit::Key,
            min_keys: 3,
            limit_without_control: None,
        }
    }
}

/// What counts once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RolloutUnit {
    /// The first event of a key.
    #[default]
    Key,
    /// Every event, for a few clients that send everything. `minKeys` does not count then, and the false
    /// alarms are no longer exactly those declared, because requests of one client are alike.
    Request,
}

/// What a bad candidate may cost, beyond what stable's failures at the same time explain.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RolloutBudget {
    /// Failed requests. The first weight is chosen so that a total failure is seen within it.
    #[schemars(range(min = 1))]
    pub failed_requests: Option<u64>,
    /// Keys with a failed request.
    #[schemars(range(min = 1))]
    pub keys: Option<u64>,
}

/// Requests that the candidate has failed are sent to stable, once, where that is safe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RolloutShield {
    /// How many of 100 requests of the candidate, at most, over all workers and ten seconds.
    #[schemars(range(max = 100))]
    pub percent: u8,
    /// On top of it, for candidates with few requests.
    #[schemars(range(max = 1_000_000))]
    pub per_second: u32,
    /// Also what may be processed twice: `POST`, `PATCH` and others.
    pub non_idempotent: bool,
    /// Tell the client by the field `x-weir-shielded`, with the name of the backend that has failed.
    pub header: bool,
}

impl Default for RolloutShield {
    fn default() -> Self {
        Self {
            percent: 20,
            per_second: 10,
            non_idempotent: false,
            header: false,
        }
    }
}

/// A program that is told of decisions by `POST`, or asked before a step. Nothing waits for it but that step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RolloutHook {
    /// Where it listens: http or https.
    #[schemars(extend("examples" = ["http://127.0.0.1:9000/rollouts"]))]
    pub url: String,
    /// What it is told of. Absent: everything.
    #[serde(default)]
    pub events: Vec<RolloutEvent>,
    /// Ask instead: a passed step goes on only when the answer is a success. It is asked again every few
    /// seconds.
    #[serde(default)]
    pub confirm: bool,
    /// A file with a secret: `x-weir-signature` is then the HMAC-SHA256 of the body under it.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// How long an answer may take.
    #[serde(default = "five_seconds")]
    pub timeout: Duration,
}

fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

/// A kind of decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RolloutEvent {
    /// A run began.
    Start,
    /// On to another weight.
    Step,
    /// Evidence, or the lack of it, stops the plan, or no longer does.
    Verdict,
    /// All traffic to stable: by the guard, or by a person.
    Rollback,
    /// All traffic to the candidate.
    Promotion,
    /// What persons did besides.
    Operator,
}

/// What stable keeps after the switch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RolloutHoldback {
    /// Its part: above 0, at most 50.
    pub weight: Percent,
    /// How long.
    pub duration: Duration,
}
