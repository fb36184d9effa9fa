//! One try against one endpoint, and the one repetition that a stale connection asks for.
//!
//! Owns when a request may be sent again on a new connection. Must not know routes.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Uri, Version, request};
use tokio_util::sync::CancellationToken;

use super::context::Connection;
use super::error::{ExchangeError, ProxyError, is_unprocessed, is_unreadable};
use super::interim::Passage;
use super::retry::Head;
use crate::http::body::{RequestBody, RequestProgress, UpstreamBody};
use crate::http::interim::Inform;
use crate::http::kinds::Kinds;
use crate::http::message::{RequestMessage, ResponseMessage};
use crate::http::{framing, spare, websocket};
use crate::telemetry::backend::{AttemptOutcome, RetryReason};
use crate::upstream::backend::Backend;
use crate::upstream::connect::ConnectError;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::outlier;
use crate::upstream::pool::{Http1, Http2Stream, Lease, Sender, Wanted};

/// A request ready to be sent.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) head: Head,
    pub(crate) body: RequestBody,
    /// Of its body, if it has one.
    pub(crate) progress: Option<Rc<RequestProgress>>,
    /// Is told when the request is on its way, where somebody waits for that.
    pub(crate) departs: Option<CancellationToken>,
    /// For informational answers, where there may be any and the client can get them.
    pub(crate) passage: Option<Passage<'a>>,
}

/// The head of an endpoint's answer, and what the connection needs at the end of its body. Boxed on its
/// way, as each future that hands it on would move its 230 bytes.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) response: ResponseMessage<UpstreamBody>,
    /// Of its fields.
    pub(crate) kinds: Kinds,
    pub(crate) lease: Lease,
    pub(crate) first_byte: Duration,
    /// How often the request was sent.
    pub(crate) sent: u32,
}

/// Sends the request to `endpoint` and waits for the head of the answer, until `deadline`.
///
/// # Errors
/// What stands between the request and an answer; it has been counted.
pub(crate) async fn attempt(
    connection: &Connection,
    backend: &Backend,
    endpoint: &Arc<Endpoint>,
    outgoing: Outgoing<'_>,
    deadline: Option<Instant>,
) -> Result<Box<Answered>, ProxyError> {
    let timing = backend.time(endpoint);
    // Made where it is awaited: it would be moved otherwise.
    let result = match deadline {
        None => exchange(connection, backend, endpoint, outgoing).await,
        Some(deadline) => {
            let exchange = exchange(connection, backend, endpoint, outgoing);
            let ended = tokio::time::timeout_at(deadline.into(), exchange).await;
            ended.unwrap_or(Err(ProxyError::AttemptTimeout))
        }
    };
    let (outcome, first_byte) = match &result {
        Ok(answered) if answered.response.head.status.is_server_error() => {
            (AttemptOutcome::ServerError, Some(answered.first_byte))
        }
        Ok(answered) => (AttemptOutcome::Ok, Some(answered.first_byte)),
        Err(ProxyError::AttemptTimeout | ProxyError::Connect(ConnectError::Timeout { .. })) => {
            (AttemptOutcome::Timeout, None)
        }
        Err(ProxyError::Connect(_)) => (AttemptOutcome::ConnectFailed, None),
        // The client's own doing is not an attempt that failed.
        Err(ProxyError::Body(_)) => {
            if let Some(timing) = timing {
                timing.forget();
            }
            return result;
        }
        Err(_) => (AttemptOutcome::Reset, None),
    };
    backend.metrics().attempt(outcome, first_byte);
    let good = outcome == AttemptOutcome::Ok;
    outlier::note(backend, endpoint, good);
    if let Some(timing) = timing {
        timing.end(good);
    }
    result
}

async fn exchange(
    connection: &Connection,
    backend: &Backend,
    endpoint: &Arc<Endpoint>,
    outgoing: Outgoing<'_>,
) -> Result<Box<Answered>, ProxyError> {
    let (progress, departs) = (outgoing.progress, outgoing.departs);
    let passage = outgoing.passage;
    let tell = passage.map(|it| move |interim| it.tell(connection, interim));
    let inform = tell.as_ref().map(|tell| tell as &dyn Fn(_));
    let (head, body) = (outgoing.head, outgoing.body);
    let (tunnel, authority) = (head.upgrade.is_some(), head.authority);
    let mut request = RequestMessage::new(head.parts, body);
    let empty = matches!(request.body, RequestBody::Empty);
    let repeatable = empty && is_idempotent(&request.head.method);
    let mut sent = 0;
    loop {
        let wanted = Wanted {
            client: Some(&connection.addresses),
            repeatable,
            new: sent > 0,
            tunnel,
        };
        let pools = connection.pools(backend);
        let mut lease = pools.lease(backend, endpoint, wanted).await?;
        encode(&lease.sender, backend, &mut request, &authority)?;
        let key = match &lease.sender {
            Sender::Http2(stream) if tunnel => Some(connect(stream, &mut request).await?),
            _ => None,
        };
        // A copy of the head is the price of sending a request again where its engine keeps it. Only a
        // kept connection can be stale, so only there it is paid. An extended CONNECT is for the rule to
        // repeat.
        let stale = lease.reused && sent == 0 && key.is_none();
        let copied = match &lease.sender {
            Sender::Http1(Http1::Own(..)) => false,
            Sender::Http1(Http1::Hyper(..)) => repeatable,
            Sender::Http2(_) => empty,
        };
        let copy = (stale && copied).then(|| head_copy(&request.head));
        sent += 1;
        let sent_on = match &departs {
            None => send(&mut lease, &mut request, inform).await,
            // Out of line, so that requests without a copy do not carry its state.
            Some(departs) => Box::pin(telling(&mut lease, &mut request, inform, departs)).await,
        };
        let failed = match sent_on {
            Ok(response) => {
                spare::give_head(request.head);
                if let Some(copy) = copy {
                    spare::give_head(copy);
                }
                return answered(lease, response, key.as_ref(), sent);
            }
            Err(failed) => failed,
        };
        if let Some(trouble) = progress.as_ref().and_then(|it| it.trouble()) {
            return Err(ProxyError::Body(trouble));
        }
        // RFC 9110, 9.2.2: again only if it was never sent, or may be sent twice; and only if a kept
        // connection is to blame. An answer that cannot be parsed is an answer.
        let Failed { error, unsent, .. } = failed;
        if stale && !is_unreadable(&error) {
            lease.stale();
        }
        let may_repeat = unsent || is_unprocessed(&error) || (repeatable && !is_unreadable(&error));
        let copy = copy.filter(|_| !failed.given_back);
        if !(stale && may_repeat && (failed.given_back || copy.is_some())) {
            return Err(match lease.fault() {
                Some(fault) => ConnectError::tls(endpoint.address(), fault).into(),
                None => ProxyError::Upstream(error),
            });
        }
        backend.metrics().retried(RetryReason::StaleConnection);
        if let Some(copy) = copy {
            request.head = copy;
        }
    }
}

/// The answer in HTTP/1.1's form. `key` is that of an extended CONNECT.
fn answered(
    mut lease: Lease,
    mut response: ResponseMessage<UpstreamBody>,
    key: Option<&HeaderValue>,
    sent: u32,
) -> Result<Box<Answered>, ProxyError> {
    let mut kinds = Kinds::of(&response.head.headers);
    if !matches!(&response.body, UpstreamBody::Own(_)) {
        framing::settle(&mut response.head.headers, kinds).map_err(ProxyError::Answer)?;
    }
    if let Some(key) = key {
        websocket::from_connected(&mut response.head, key);
        kinds = Kinds::of(&response.head.headers);
    }
    lease.answered(&response.head.headers, kinds);
    Ok(Box::new(Answered {
        response,
        kinds,
        first_byte: lease.since.elapsed(),
        lease,
        sent,
    }))
}

/// Makes an extended CONNECT of a handshake; its key.
async fn connect(
    stream: &Http2Stream,
    request: &mut RequestMessage<RequestBody>,
) -> Result<HeaderValue, ProxyError> {
    if !stream.takes_tunnels().await {
        return Err(ProxyError::NoTunnel);
    }
    websocket::to_connect(&mut request.head).ok_or(ProxyError::NoTunnel)
}

/// Sends a request and waits for the head of the final answer. Engines that want to have the request take it,
/// and may give it back.
///
/// `inform` is told of informational answers (1xx); see [`super::interim`]. Where hyper serves the client, it
/// sends the 100 by itself when the body of a request with `Expect` is first asked for, which is when the
/// endpoint's connection takes it.
pub(super) async fn send(
    lease: &mut Lease,
    request: &mut RequestMessage<RequestBody>,
    inform: Inform<'_>,
) -> Result<ResponseMessage<UpstreamBody>, Failed> {
    let result = match &mut lease.sender {
        Sender::Http1(Http1::Own(connection, _)) => {
            // Of a body that was given to it, nothing comes back.
            let empty = matches!(request.body, RequestBody::Empty);
            let sent = connection.exchange(request, inform).await;
            return match sent {
                Ok(response) => Ok(response.map(UpstreamBody::Own)),
                Err(failed) => Err(Failed {
                    error: failed.error.into(),
                    given_back: empty,
                    unsent: failed.unsent,
                }),
            };
        }
        Sender::Http1(Http1::Hyper(sender, bound)) => {
            bound.set();
            sender.try_send_request(request.take()).await
        }
        Sender::Http2(stream) => {
            let exchange = stream.connection().begin(request.take());
            let exchange = exchange.map_err(|failed| {
                let back = failed.request.map(|request| *request);
                Failed::unsent(failed.error.into(), back, request)
            })?;
            let answered = match inform {
                None => exchange.await,
                Some(inform) => exchange.informing(inform).await,
            };
            return match answered {
                Ok(response) => Ok(response.map(UpstreamBody::http2).into()),
                Err(error) => Err(Failed {
                    error: error.into(),
                    given_back: false,
                    unsent: false,
                }),
            };
        }
    };
    match result {
        Ok(response) => Ok(response.map(UpstreamBody::Hyper).into()),
        Err(mut failed) => {
            let back = failed.take_message();
            Err(Failed::unsent(failed.into_error().into(), back, request))
        }
    }
}

/// A request that got no answer.
#[derive(Debug)]
pub(super) struct Failed {
    error: ExchangeError,
    /// The request is where it was.
    given_back: bool,
    /// Nothing of it has reached the endpoint.
    unsent: bool,
}

impl Failed {
    /// Of an engine that gives the request back only where it was not sent.
    fn unsent(
        error: ExchangeError,
        back: Option<Request<RequestBody>>,
        request: &mut RequestMessage<RequestBody>,
    ) -> Self {
        let given_back = back.is_some();
        if let Some(back) = back {
            *request = back.into();
        }
        Self {
            error,
            given_back,
            unsent: given_back,
        }
    }
}

/// Tells when a request has been handed to its connection, whose task comes before those that are told.
async fn telling(
    lease: &mut Lease,
    request: &mut RequestMessage<RequestBody>,
    inform: Inform<'_>,
    departs: &CancellationToken,
) -> Result<ResponseMessage<UpstreamBody>, Failed> {
    let mut sending = pin!(send(lease, request, inform));
    let first = poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx))).await;
    departs.cancel();
    match first {
        Poll::Ready(sent) => sent,
        Poll::Pending => sending.await,
    }
}

fn head_copy(head: &request::Parts) -> Box<request::Parts> {
    let mut copy = spare::take_head(0);
    copy.method = head.method.clone();
    copy.uri = head.uri.clone();
    copy.version = head.version;
    copy.headers = head.headers.clone();
    copy
}

/// RFC 9110, 9.2.2.
pub(crate) fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE | Method::TRACE
    )
}

thread_local! {
    /// Of the last request. Clients ask for the same again and again.
    static LAST: RefCell<Option<Authority>> = const { RefCell::new(None) };
}

/// The authority as HTTP/2 sends it, where there is one.
fn parsed(authority: &HeaderValue) -> Option<Authority> {
    LAST.with_borrow_mut(|last| {
        let is_known = |it: &Authority| it.as_str().as_bytes() == authority.as_bytes();
        if !last.as_ref().is_some_and(is_known) {
            *last = Authority::try_from(authority.as_bytes()).ok();
        }
        last.clone()
    })
}

/// Puts authority, target and framing where the connection's HTTP version has them.
pub(super) fn encode(
    sender: &Sender,
    backend: &Backend,
    request: &mut RequestMessage<RequestBody>,
    authority: &HeaderValue,
) -> Result<(), ProxyError> {
    let RequestMessage { head, body } = request;
    match sender {
        Sender::Http1(..) => {
            head.version = Version::HTTP_11;
            // What was encoded for HTTP/2 before has an authority in its target.
            if head.uri.authority().is_some() {
                let target = head.uri.path_and_query().cloned();
                head.uri = target.map(Uri::from).unwrap_or_default();
            }
            let unknown_length = http_body::Body::size_hint(body).exact().is_none();
            let headers = &mut head.headers;
            headers.insert(HOST, authority.clone());
            if unknown_length && !headers.contains_key(CONTENT_LENGTH) {
                headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
        }
        Sender::Http2(_) => {
            head.version = Version::HTTP_2;
            let target = head.uri.path_and_query().cloned();
            let mut uri = http::uri::Parts::default();
            let secure = backend.tls().is_some();
            uri.scheme = Some(if secure { Scheme::HTTPS } else { Scheme::HTTP });
            uri.authority = parsed(authority);
            uri.path_and_query = target.or_else(|| Some(PathAndQuery::from_static("/")));
            if uri.authority.is_none() {
                // HTTP/1.0 without Host: HTTP/2 needs an authority, and a name of ours would be a lie.
                return Err(ProxyError::Rejected(
                    crate::http::authority::Reject::HostCount,
                ));
            }
            head.uri = Uri::from_parts(uri).unwrap_or_default();
        }
    }
    Ok(())
}
