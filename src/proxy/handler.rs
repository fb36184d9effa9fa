//! One request, from its head to the response that an engine sends. Read this first.
//!
//! Each stage is a line of [`forward`]; what can go wrong in it stands in its trailing comment and in
//! the table of [`super::error`].

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, request};

use super::answer::{AskedAt, finish_response, immediate, is_cut, last_words, recall, tunnel};
use super::compress::Compressing;
use super::context::Connection;
use super::deadline::Deadlines;
use super::desk::{Desk, Free, Handling};
use super::error::ProxyError;
use super::outcome::Outcome;
use super::respond;
use super::retry::{Call, Head};
use super::{fault, limits, mirror};
use crate::config::values::Identity;
use crate::http::authority::{self, Target};
use crate::http::body::{DownstreamBody, RequestBody, ResponseBody};
use crate::http::framing::decimal;
use crate::http::grpc_web::Dialect;
use crate::http::headers::{self, Hop, X_REQUEST_ID};
use crate::http::kinds::Kinds;
use crate::http::message::{RequestMessage, ResponseMessage};
use crate::http::shelf::Shelf;
use crate::http::upgrade::Asked;
use crate::http::{cors, grpc, spare, trace, upgrade, websocket};
use crate::rollout::Arm as Side;
use crate::route::{Found, MatchedPath, RequestView};
use crate::snapshot::port::{Listener, Port};
use crate::snapshot::rule::{Asking, Choice, NoChoice, Rule};

/// A request on its way through the layers of its listener.
#[derive(Debug)]
pub(crate) struct Exchange {
    request: RequestMessage<DownstreamBody>,
    /// Those of its fields.
    kinds: Kinds,
    outcome: Box<Outcome>,
    port: Option<Arc<Port>>,
}

impl Exchange {
    /// Takes one look at the configuration; everything after uses what was seen.
    pub(crate) fn begin(
        connection: &Rc<Connection>,
        mut request: RequestMessage<DownstreamBody>,
    ) -> Self {
        let seen = connection.look();
        let head = &mut request.head;
        let kinds = Kinds::of(&head.headers);
        let trace = if kinds.has(Kinds::TRACEPARENT) {
            trace::admit(&mut head.headers)
        } else {
            None
        };
        let outcome = Outcome::begin(
            Rc::clone(connection),
            head,
            trace,
            seen.access_log,
            seen.generation,
        );
        Self {
            request,
            kinds,
            outcome,
            port: seen.port,
        }
    }
}

/// The client gets no answer: its connection is to break.
#[derive(Debug, thiserror::Error)]
#[error("the connection breaks on purpose")]
pub(crate) struct Broken;

/// What the client gets.
type Answer = Result<ResponseMessage<ResponseBody>, Broken>;

thread_local! {
    static FREE: Free<Exchange, Answer> = const { RefCell::new(Shelf::new()) };
}

/// Handles one request. The answer is an error where the rule wants the connection to break.
pub(crate) fn handle(exchange: Exchange) -> Handling<Exchange, Answer> {
    Handling::begin(exchange, &FREE, handle_all)
}

/// Lets go of room for requests, and of their heads, that this thread has not needed lately.
pub(crate) fn sweep() {
    FREE.with_borrow_mut(Shelf::sweep);
    spare::sweep();
}

async fn handle_all(desk: Rc<Desk<Exchange, Answer>>) -> Infallible {
    loop {
        let Exchange {
            request,
            kinds,
            mut outcome,
            port,
        } = desk.next().await;
        let head = &request.head;
        outcome.is_grpc = kinds.has(Kinds::CONTENT_TYPE) && grpc::is_grpc(&head.headers);
        let method = head.method.clone();
        let forwarded = forward(port.as_deref(), request, kinds, &mut outcome).await;
        desk.put(finish(forwarded, &method, outcome));
    }
}

/// Makes an answer of everything that became of the request.
fn finish(
    forwarded: Result<ResponseMessage<ResponseBody>, ProxyError>,
    method: &Method,
    mut outcome: Box<Outcome>,
) -> Answer {
    let http1 = !outcome.is_http2();
    let connects = *method == Method::CONNECT;
    let mut response = match forwarded {
        // A success is the agreement to a CONNECT (RFC 9110, 9.3.6), so nothing else may be one.
        Ok(response)
            if !connects || outcome.upgrade.is_some() || !response.head.status.is_success() =>
        {
            response
        }
        other => {
            let error = other.err().unwrap_or(ProxyError::Upgrade);
            let (_, reason) = error.verdict();
            outcome.reason = Some(reason);
            if matches!(error, ProxyError::FaultReset) {
                return Err(Broken);
            }
            tracing::debug!(%reason, %error, "answered by the proxy");
            let mut response = respond::error(&error, outcome.is_grpc);
            if !http1 {
                response.head.headers.remove(CONNECTION);
            } else if error.closes() {
                outcome.connection.control.leaves_unread();
            }
            response
        }
    };
    if let Some(fields) = outcome.fields.take() {
        headers::add_fields(&mut response.head.headers, *fields);
    }
    if let Some(dialect) = outcome.web
        && dialect.answer(&mut response.head.headers)
    {
        response.body.set_web(dialect);
    }
    outcome.status = Some(response.head.status);
    if let Some(agreed) = outcome.upgrade.take() {
        return Ok(tunnel(response, agreed, outcome));
    }
    let last =
        outcome.connection.worker.last_requests.get() || outcome.connection.control.is_aged();
    if http1 && last {
        response
            .head
            .headers
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let bodiless = *method == Method::HEAD
        || matches!(
            response.head.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
    response.body.set_finish(outcome, bodiless);
    Ok(response)
}

async fn forward(
    port: Option<&Port>,
    request: RequestMessage<DownstreamBody>,
    mut kinds: Kinds,
    outcome: &mut Outcome,
) -> Result<ResponseMessage<ResponseBody>, ProxyError> {
    let port = port.ok_or(ProxyError::NoRoute)?; //                                             404
    let connection = Rc::clone(&outcome.connection);
    let (mut parts, body) = (request.head, request.body);
    let asked = asked_upgrade(&mut parts, kinds, &connection);
    let target = canonical(port, &mut parts, kinds, outcome)?; //       400, 414, 417, 431, 501
    let host = target.host();
    let listener = listener_of(port, host, outcome)?; //                                     404, 421
    translate(listener, &mut parts.headers, &mut kinds, outcome);
    if let Some(bound) = &port.overload {
        outcome.hold(bound.enter().ok_or(ProxyError::ProcessFull)?); //                          503
    }
    if let Some(bound) = &listener.in_flight {
        outcome.hold(bound.enter().ok_or(ProxyError::Overloaded)?); //                           503
    }
    let client = admit(listener, &mut parts, &mut kinds, outcome, &target)?; //       413, 508
    if parts.method == Method::OPTIONS && headers::is_last_hop(&mut parts.headers) {
        return Ok(respond::text(StatusCode::OK, Bytes::new()));
    }
    let seen = view(host, &parts, connection.identity());
    let (rule, matched) = find(listener, &seen)?; //                                        403, 404
    outcome.metrics = Some(rule.metrics.clone());
    let asked_at = AskedAt {
        scheme: connection.scheme(),
        target: &target,
        parts: &parts,
    };
    if let Some(answered) = share(rule, &parts, outcome) {
        return Ok(answered);
    }
    limits::admit(rule, &asking(&connection, &parts, client), outcome)?; //                  429, 503
    let deadlines = deadlines(rule, &parts, kinds, outcome);
    if let Some(faults) = fault::inject(&rule.filters, seen, deadlines.request(), outcome) {
        faults.await?; //                                                                        any
    }
    if let Some(answer) = &rule.filters.answer {
        return immediate(answer, listener, &asked_at, matched);
    }
    let choice = choose(rule, &connection, &parts, client, outcome)?; //                      500, 503
    let of_arm = &choice.arm.filters;
    if let Some(faults) = fault::inject(of_arm, seen, deadlines.request(), outcome) {
        faults.await?; //                                                                        any
    }
    if let Some(answer) = &choice.arm.filters.answer {
        return immediate(answer, listener, &asked_at, matched);
    }
    let compressing = Compressing::new(rule, choice.arm, listener, &parts);
    for_next_hop(&mut parts, kinds, &connection, listener, &target);
    let mut body = body_of(body, listener, (&mut parts.headers, kinds), outcome)?; //       400
    let head = Head {
        parts,
        authority: target.authority,
        matched,
        upgrade: asked.as_ref().map(|asked| asked.protocol.clone()),
    };
    let call = Call {
        rule,
        deadlines,
        client,
        key: choice.key.as_deref(),
    };
    mirror::copy(rule, choice.arm, &head, &mut body, outcome);
    let served = call.send(choice.arm, head, body, outcome).await?; //         400, 408, 413, 5xx
    let until = served.until;
    let recall = recall(rule, served.arm, outcome);
    let response = finish_response(served, rule, &choice, asked, outcome)?; //                   502
    let until = until.filter(|_| is_cut(&response, outcome));
    let mut response = match compressing {
        None => response.map(ResponseBody::upstream),
        // Out of line, so that other requests do not carry its state.
        Some(compressing) => Box::pin(compressing.encode(response)).await,
    };
    let body = &mut response.body;
    body.set_deadline(until.map(Into::into));
    body.set_idle(rule.timeouts.idle);
    if let Some(recall) = recall {
        body.set_recall(recall, outcome.began, || last_words(outcome));
    }
    Ok(response)
}

/// What scripts of other origins may do, for the answer to come; the answer where that was the
/// question.
fn share(
    rule: &Rule,
    parts: &request::Parts,
    outcome: &mut Outcome,
) -> Option<ResponseMessage<ResponseBody>> {
    let cors = rule.filters.cors.as_ref()?;
    let fields = outcome.fields.get_or_insert_default();
    cors.answer(&parts.headers, fields);
    if !cors::is_preflight(&parts.method, &parts.headers) {
        return None;
    }
    cors.preflight(&parts.headers, fields);
    Some(ResponseMessage::new(StatusCode::OK, ResponseBody::empty()))
}

/// Until when the request and its attempts may take.
fn deadlines(
    rule: &Rule,
    parts: &request::Parts,
    kinds: Kinds,
    outcome: &mut Outcome,
) -> Deadlines {
    let may_say = outcome.is_grpc && kinds.has(Kinds::GRPC_TIMEOUT);
    let called_for = may_say.then(|| grpc::timeout(&parts.headers)).flatten();
    outcome.called_for = called_for.is_some();
    Deadlines::of(&rule.timeouts, outcome.began, called_for)
}

/// The upgrade that the client asks for, taken before the fields that ask for it are stripped. An
/// extended CONNECT is one from here on.
fn asked_upgrade(
    parts: &mut request::Parts,
    kinds: Kinds,
    connection: &Connection,
) -> Option<Box<Asked>> {
    let (protocol, key) = if websocket::is_connect(parts) {
        let mut random = [0; 16];
        rand::Rng::fill_bytes(&mut *connection.worker.rng.borrow_mut(), &mut random);
        let key = websocket::from_connect(parts, random);
        (websocket::WEBSOCKET, Some(key))
    } else if !kinds.has(Kinds::UPGRADE) {
        return None;
    } else {
        let protocol = upgrade::requested(parts.version, &parts.method, &parts.headers)?;
        (protocol, None)
    };
    let client = upgrade::Half::of_client(&mut parts.extensions)?;
    Some(Box::new(Asked {
        protocol,
        client,
        key,
    }))
}

fn canonical(
    port: &Port,
    parts: &mut request::Parts,
    kinds: Kinds,
    outcome: &mut Outcome,
) -> Result<Target, ProxyError> {
    // Before the host is known there is no listener; the bounds are the port's first one's, whose
    // values `check` makes all listeners of an address share.
    let first = port.listeners.first().ok_or(ProxyError::NoRoute)?;
    let (bytes, count) = (first.target_bytes, first.header_count);
    let target = authority::canonical(parts, kinds, bytes, count);
    target.map_err(|reject| {
        outcome.reaches(first);
        reject.into()
    })
}

/// The listener for a host. Where there is none, the first one counts the request.
fn listener_of<'a>(
    port: &'a Port,
    host: &str,
    outcome: &mut Outcome,
) -> Result<&'a Listener, ProxyError> {
    let found = port.listener(host).ok_or(ProxyError::NoRoute);
    let found = found.and_then(|found| directed(&outcome.connection, found).map(|()| found));
    let counts = found.as_ref().ok().copied().or(port.listeners.first());
    if let Some(listener) = counts {
        outcome.reaches(listener);
    }
    found.map(|listener| &**listener)
}

/// A connection that was secured for one listener must not reach another, whose clients may have to
/// be somebody else (RFC 9110, 7.4).
fn directed(connection: &Connection, listener: &Listener) -> Result<(), ProxyError> {
    match &connection.session {
        Some(session) if *session.listener != *listener.name => Err(ProxyError::Misdirected),
        _ => Ok(()),
    }
}

/// Decides what of the head is believed, and who the client is.
fn admit(
    listener: &Listener,
    parts: &mut request::Parts,
    kinds: &mut Kinds,
    outcome: &mut Outcome,
    target: &Target,
) -> Result<std::net::IpAddr, ProxyError> {
    let client = believe(listener, parts, kinds, outcome.connection.peer().ip())?;
    if !kinds.has(Kinds::REQUEST_ID) {
        let id = request_id(&outcome.connection);
        parts.headers.append(X_REQUEST_ID, id);
    } else if let Some(id) = parts.headers.get_mut(X_REQUEST_ID) {
        id.set_sensitive(true);
    }
    outcome.identified(&target.authority, &parts.headers, client);
    Ok(client)
}

/// Removes what this peer may not say; the address of the client. `explain` asks it too, as it does
/// [`find`] and [`location`](super::answer::location).
///
/// # Errors
/// When the head alone says that the request is not served.
pub(crate) fn believe(
    listener: &Listener,
    parts: &mut request::Parts,
    kinds: &mut Kinds,
    peer: std::net::IpAddr,
) -> Result<std::net::IpAddr, ProxyError> {
    let headers = &mut parts.headers;
    if kinds.has(Kinds::CONTENT_LENGTH)
        && let Some(length) = headers.get(CONTENT_LENGTH).and_then(decimal)
        && length > listener.body_bytes
    {
        return Err(ProxyError::BodyTooLarge);
    }
    if kinds.has(Kinds::VIA) && headers::is_loop(headers) {
        return Err(ProxyError::Loop);
    }
    let client = headers::client_address(headers, peer, &listener.trusted);
    if !headers::is_trusted(peer, &listener.trusted) {
        headers::strip_forged(headers, kinds);
    }
    Ok(client)
}

/// The two digits of each byte.
const HEXADECIMAL: [[u8; 2]; 256] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut all = [[0; 2]; 256];
    let mut byte = 0;
    while byte < all.len() {
        all[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
        byte += 1;
    }
    all
};

/// No other request has it: a table of HTTP/2 would lose fields of use for it, so it is never indexed (RFC
/// 7541, 6.2.3).
fn request_id(connection: &Connection) -> HeaderValue {
    let mut random = [0; 16];
    rand::Rng::fill_bytes(&mut *connection.worker.rng.borrow_mut(), &mut random);
    let mut text = [0; 32];
    for (pair, byte) in text.as_chunks_mut().0.iter_mut().zip(random) {
        *pair = HEXADECIMAL[usize::from(byte)];
    }
    let mut id = HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("0"));
    id.set_sensitive(true);
    id
}

/// The rule for a request that may pass, and how its path matched.
///
/// # Errors
/// When there is none, or the client may not do this.
pub(crate) fn find<'a>(
    listener: &'a Listener,
    request: &RequestView<'_>,
) -> Result<(&'a Arc<Rule>, MatchedPath), ProxyError> {
    listener.authorization.admit(request)?;
    let mut found = listener.table.find(request);
    let shares = |found: &Option<Found<'_, Arc<Rule>>>| {
        found
            .as_ref()
            .is_some_and(|found| found.value.filters.cors.is_some())
    };
    // A rule for GET is not one for OPTIONS, but it knows what scripts may do with GET.
    if cors::is_preflight(request.method, request.headers)
        && !shares(&found)
        && let Some(method) = &cors::asked_method(request.headers)
    {
        let about = listener.table.find(&RequestView { method, ..*request });
        if shares(&about) {
            found = about;
        }
    }
    let found = found.ok_or(ProxyError::NoRoute)?;
    Ok((found.value, found.path))
}

/// What routing and authorization look at.
pub(crate) fn view<'a>(
    host: &'a str,
    parts: &'a request::Parts,
    identity: Option<&'a Identity>,
) -> RequestView<'a> {
    RequestView {
        host,
        path: parts.uri.path(),
        query: parts.uri.query(),
        method: &parts.method,
        headers: &parts.headers,
        identity,
    }
}

fn asking<'a>(
    connection: &Connection,
    parts: &'a request::Parts,
    client: std::net::IpAddr,
) -> Asking<'a> {
    Asking {
        headers: &parts.headers,
        query: parts.uri.query(),
        client,
        worker: connection.worker.index,
    }
}

fn choose<'a>(
    rule: &'a Rule,
    connection: &Connection,
    parts: &request::Parts,
    client: std::net::IpAddr,
    outcome: &mut Outcome,
) -> Result<Choice<'a>, ProxyError> {
    let asking = asking(connection, parts, client);
    let mut choice = rule
        .choose(&asking, &mut *connection.worker.rng.borrow_mut())
        .map_err(|why| {
            if let NoChoice::Unavailable(index) = why
                && let Some(arm) = rule.split.arm(index)
            {
                outcome.metrics = Some(arm.metrics.clone());
            }
            ProxyError::NoChoice(why)
        })?;
    outcome.metrics = Some(choice.arm.metrics.clone());
    outcome.why = Some(choice.why);
    outcome.assigned = choice.assigned.take();
    if let Some(assigned) = &mut outcome.assigned
        && assigned.arm() == Side::Candidate
    {
        assigned.id = parts.headers.get(X_REQUEST_ID).cloned();
    }
    if let Some(down) = choice.instead_of {
        down.metrics.shifted();
    }
    Ok(choice)
}

/// From here on, gRPC-Web is gRPC where the listener says so.
fn translate(
    listener: &Listener,
    headers: &mut HeaderMap,
    kinds: &mut Kinds,
    outcome: &mut Outcome,
) {
    if listener.grpc_web {
        outcome.web = Dialect::take(headers);
        *kinds = Kinds::of(headers);
        outcome.is_grpc |= outcome.web.is_some();
    }
}

/// The body as the endpoint gets it.
fn body_of(
    body: DownstreamBody,
    listener: &Listener,
    (headers, kinds): (&mut HeaderMap, Kinds),
    outcome: &mut Outcome,
) -> Result<RequestBody, ProxyError> {
    let (body, progress) = RequestBody::new(body, listener.body_bytes, listener.body_idle);
    outcome.progress = progress;
    let has_length = kinds.has(Kinds::CONTENT_LENGTH);
    if matches!(body, RequestBody::Empty) && has_length && promises_body(headers) {
        return Err(ProxyError::BodyLength);
    }
    if outcome.web.is_some_and(|dialect| dialect.text_request) {
        headers.remove(CONTENT_LENGTH);
        return Ok(body.decoded());
    }
    Ok(body)
}

/// HTTP/2 can end a stream whose head promised bytes; an HTTP/1 backend would wait for them.
fn promises_body(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_LENGTH)
        .is_some_and(|length| length.as_bytes().iter().any(|digit| *digit != b'0'))
}

/// Brings the head into the form that the next hop gets. Removal comes first, so that no `Connection`
/// line can strip what is set here.
pub(crate) fn for_next_hop(
    parts: &mut request::Parts,
    kinds: Kinds,
    connection: &Connection,
    listener: &Listener,
    target: &Target,
) {
    if !headers::is_trusted(connection.peer().ip(), &listener.trusted) {
        headers::strip_own(&mut parts.headers, kinds);
    }
    headers::strip_request(&mut parts.headers, kinds);
    if parts.version == Version::HTTP_2 && kinds.has(Kinds::COOKIE) {
        headers::join_cookies(&mut parts.headers);
    }
    headers::forward(
        &mut parts.headers,
        kinds,
        &Hop {
            peer: &connection.peer_value,
            scheme: connection.scheme(),
            authority: &target.authority,
            certificate: connection
                .session
                .as_ref()
                .and_then(|it| it.forwarded.as_ref()),
            version: parts.version,
        },
    );
}
