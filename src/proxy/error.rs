//! Why a request got no answer from an endpoint: status for the client, reason for everybody else.
//!
//! Owns the table from condition to status and reason. Must not know how an answer is written.

use std::error::Error as _;
use std::time::Duration;

use http::StatusCode;

use super::limits::seconds;
use crate::http::authority::Reject;
use crate::http::body::RequestTrouble;
use crate::http::framing::Ambiguous;
use crate::http::{client, grpc};
use crate::snapshot::authorization::Forbidden;
use crate::snapshot::filters::RewriteError;
use crate::snapshot::rule::NoChoice;
use crate::telemetry::reason::Reason;
use crate::upstream::connect::ConnectError;

/// See the module. The source of an error stays a source.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("{0}")]
    Rejected(#[from] Reject),
    #[error("the request has passed this proxy too often")]
    Loop,
    #[error("{0}")]
    Forbidden(#[from] Forbidden),
    #[error("no rule matches the request")]
    NoRoute,
    #[error("{}", no_choice(.0))]
    NoChoice(NoChoice),
    #[error("the backend of this rule cannot be resolved")]
    InvalidBackend,
    #[error("the backend has its limit of requests")]
    BackendFull,
    #[error("{0}")]
    Rewrite(#[from] RewriteError),
    #[error("the body is larger than the listener takes")]
    BodyTooLarge,
    #[error("the head of the request has a length that its body does not have")]
    BodyLength,
    #[error("the request's body: {}", trouble(.0))]
    Body(RequestTrouble),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the endpoint's answer: {0}")]
    Upstream(ExchangeError),
    #[error("the endpoint's answer: {0}")]
    Answer(Ambiguous),
    #[error("the endpoint did not switch protocols as it was asked to")]
    Upgrade,
    #[error(
        "the endpoint's HTTP/2 has no tunnel for this protocol (RFC 8441); `protocol: http1` has"
    )]
    NoTunnel,
    #[error("the attempt took longer than its limit")]
    AttemptTimeout,
    #[error("the request took longer than its limit")]
    RequestTimeout,
    #[error("the connection was made for another listener than the request's host belongs to")]
    Misdirected,
    #[error("the listener has its limit of requests")]
    Overloaded,
    #[error("the process has its limit of requests")]
    ProcessFull,
    #[error(
        "the attempt failed, and the backend has had as many repetitions as its budget has room for"
    )]
    RetryBudget,
    #[error("the rule or its route has its limit of requests in flight")]
    RuleFull { status: StatusCode },
    #[error("too many requests; there is room again in {} s", seconds(*.wait))]
    RateLimited { wait: Duration },
    #[error("a header block is too large")]
    Fields,
    #[error("this failure was made on purpose")]
    Fault {
        status: StatusCode,
        grpc: Option<u8>,
    },
    #[error("this connection was broken on purpose")]
    FaultReset,
}

fn no_choice(why: &NoChoice) -> &'static str {
    match why {
        NoChoice::Empty => "the rule has no backend",
        NoChoice::AllZero => "every weight of the rule is zero",
        NoChoice::Unavailable(_) => "the backend has no usable endpoint",
    }
}

fn trouble(what: &RequestTrouble) -> &'static str {
    match what {
        RequestTrouble::Client => "it could not be read to its end",
        RequestTrouble::TooLarge => "it is larger than the listener takes",
        RequestTrouble::Slow => "no byte came for too long",
    }
}

impl ProxyError {
    /// What the client gets and what is counted. One table, read beside the handler.
    pub(crate) fn verdict(&self) -> (StatusCode, Reason) {
        match self {
            Self::Rejected(reject) => rejected(*reject),
            Self::Loop => (StatusCode::LOOP_DETECTED, Reason::LoopDetected),
            Self::NoRoute => (StatusCode::NOT_FOUND, Reason::NoRoute),
            Self::NoChoice(NoChoice::Empty) => {
                (StatusCode::INTERNAL_SERVER_ERROR, Reason::NoBackend)
            }
            Self::NoChoice(NoChoice::AllZero) => {
                (StatusCode::INTERNAL_SERVER_ERROR, Reason::NoPositiveWeight)
            }
            Self::NoChoice(NoChoice::Unavailable(_)) => {
                (StatusCode::SERVICE_UNAVAILABLE, Reason::NoEndpoint)
            }
            Self::InvalidBackend => (StatusCode::INTERNAL_SERVER_ERROR, Reason::InvalidBackend),
            Self::BackendFull
            | Self::Connect(ConnectError::Limit { .. } | ConnectError::Waited { .. }) => {
                (StatusCode::SERVICE_UNAVAILABLE, Reason::LimitExceeded)
            }
            Self::Rewrite(RewriteError::Fields) | Self::Fields => {
                (StatusCode::INTERNAL_SERVER_ERROR, Reason::Internal)
            }
            Self::Rewrite(_) | Self::BodyLength | Self::Body(RequestTrouble::Client) => {
                (StatusCode::BAD_REQUEST, Reason::BadRequest)
            }
            Self::BodyTooLarge | Self::Body(RequestTrouble::TooLarge) => {
                (StatusCode::PAYLOAD_TOO_LARGE, Reason::TooLarge)
            }
            Self::Body(RequestTrouble::Slow) => (StatusCode::REQUEST_TIMEOUT, Reason::BodyTimeout),
            // 503 rather than 502: the request did not reach anything (Gateway API, GEP-1731).
            Self::Connect(ConnectError::Failed { .. } | ConnectError::Handshake { .. }) => {
                (StatusCode::SERVICE_UNAVAILABLE, Reason::ConnectFailed)
            }
            Self::Connect(ConnectError::Tls { .. } | ConnectError::NoHttp2 { .. }) => {
                (StatusCode::SERVICE_UNAVAILABLE, Reason::TlsFailed)
            }
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, Reason::Forbidden),
            Self::Misdirected => (StatusCode::MISDIRECTED_REQUEST, Reason::Misdirected),
            Self::Connect(ConnectError::Timeout { .. }) => {
                (StatusCode::SERVICE_UNAVAILABLE, Reason::ConnectTimeout)
            }
            Self::Upstream(error) if is_invalid(error) => {
                (StatusCode::BAD_GATEWAY, Reason::UpstreamInvalid)
            }
            Self::Answer(_) => (StatusCode::BAD_GATEWAY, Reason::UpstreamInvalid),
            Self::Upstream(_) => (StatusCode::BAD_GATEWAY, Reason::UpstreamReset),
            Self::Upgrade | Self::NoTunnel => (StatusCode::BAD_GATEWAY, Reason::UpgradeFailed),
            Self::AttemptTimeout => (StatusCode::GATEWAY_TIMEOUT, Reason::AttemptTimeout),
            Self::RequestTimeout => (StatusCode::GATEWAY_TIMEOUT, Reason::RequestTimeout),
            Self::Overloaded | Self::ProcessFull => {
                (StatusCode::SERVICE_UNAVAILABLE, Reason::Overloaded)
            }
            // GEP-3388.
            Self::RetryBudget => (StatusCode::SERVICE_UNAVAILABLE, Reason::RetryBudget),
            Self::RuleFull { status } => (*status, Reason::ConcurrencyLimited),
            Self::RateLimited { .. } => (StatusCode::TOO_MANY_REQUESTS, Reason::RateLimited),
            Self::Fault { status, .. } => (*status, Reason::FaultAbort),
            // Nobody gets the status.
            Self::FaultReset => (StatusCode::INTERNAL_SERVER_ERROR, Reason::FaultAbort),
        }
    }

    /// In how many seconds another try may help.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        match self {
            Self::RateLimited { wait } => Some(seconds(*wait)),
            Self::RuleFull { .. } => Some(1),
            other => (other.verdict().0 == StatusCode::SERVICE_UNAVAILABLE).then_some(1),
        }
    }

    /// What a gRPC call gets instead of the status.
    pub(crate) fn grpc_status(&self) -> u8 {
        match self {
            Self::Fault {
                grpc: Some(grpc), ..
            } => *grpc,
            // RESOURCE_EXHAUSTED: to UNAVAILABLE, which 429 is otherwise, clients answer with another try.
            Self::RateLimited { .. } => 8,
            other => grpc::status(other.verdict().0),
        }
    }

    /// Whether the client's connection must not be used again: what follows on it may be the rest of
    /// this request.
    pub(crate) fn closes(&self) -> bool {
        matches!(
            self,
            Self::Rejected(_) | Self::BodyTooLarge | Self::BodyLength | Self::Body(_)
        )
    }
}

/// Why an exchange ended without the head of an answer, as the engine tells it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    #[error("{0}")]
    Own(#[from] client::Error),
    #[error("{0}")]
    Http2(#[from] h2::Error),
    #[error("{0}")]
    Hyper(#[from] hyper::Error),
}

/// Whether the endpoint is known not to have looked at the request: it refused the stream, or said
/// GOAWAY below it (RFC 9113, 8.7). Such a request may be sent again, whatever it asks for.
pub(crate) fn is_unprocessed(error: &ExchangeError) -> bool {
    of_http2(error).is_some_and(|error| {
        // The engine gives a GOAWAY of the endpoint to the streams above the last one that it
        // names, and to no others.
        error.is_remote()
            && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
    })
}

/// Whether what the endpoint sent was not HTTP.
fn is_invalid(error: &ExchangeError) -> bool {
    let flood = |error: &h2::Error| {
        let io = error.get_io();
        io.is_some_and(|io| io.kind() == std::io::ErrorKind::InvalidData)
    };
    // What we refuse of what the engine takes.
    let refused = |error: &h2::Error| {
        !error.is_remote() && error.reason() == Some(h2::Reason::PROTOCOL_ERROR)
    };
    let invalid = |error: &h2::Error| error.is_library() || flood(error) || refused(error);
    is_unreadable(error) || of_http2(error).is_some_and(invalid)
}

/// Whether an answer came over HTTP/1 that is none, or has more than the head of one may have. A fault of
/// HTTP/2 concerns the connection, and may be of an earlier request's making.
pub(crate) fn is_unreadable(error: &ExchangeError) -> bool {
    let io = match error {
        ExchangeError::Own(client::Error::Unreadable(_)) => return true,
        ExchangeError::Own(client::Error::Closed | client::Error::Request)
        | ExchangeError::Http2(_) => return false,
        ExchangeError::Own(client::Error::Io(error)) => Some(error),
        ExchangeError::Hyper(error) if error.is_parse() => return true,
        ExchangeError::Hyper(error) => error.source().and_then(|source| source.downcast_ref()),
    };
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::InvalidData)
}

fn of_http2(error: &ExchangeError) -> Option<&h2::Error> {
    match error {
        ExchangeError::Http2(error) => Some(error),
        ExchangeError::Own(_) | ExchangeError::Hyper(_) => None,
    }
}

fn rejected(reject: Reject) -> (StatusCode, Reason) {
    match reject {
        Reject::LongTarget => (StatusCode::URI_TOO_LONG, Reason::TooLarge),
        Reject::ManyFields => (
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Reason::TooLarge,
        ),
        Reject::Expectation => (StatusCode::EXPECTATION_FAILED, Reason::ExpectationFailed),
        Reject::MethodRefused => (StatusCode::NOT_IMPLEMENTED, Reason::NotImplemented),
        Reject::Framing(Ambiguous::TransferEncoding) => {
            (StatusCode::NOT_IMPLEMENTED, Reason::NotImplemented)
        }
        Reject::HostCount
        | Reject::BadHost
        | Reject::HostMismatch
        | Reject::UserInfo
        | Reject::BadScheme
        | Reject::BadTarget
        | Reject::Path(_)
        | Reject::BadField
        | Reject::LongMethod
        | Reject::Framing(Ambiguous::ContentLength) => {
            (StatusCode::BAD_REQUEST, Reason::BadRequest)
        }
    }
}
