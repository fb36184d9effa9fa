//! Tunnels: WebSocket and other `Upgrade`s (RFC 9110, 7.8), in HTTP/1.1's form.
//!
//! Owns what counts as an upgrade and the copying of bytes. Must not know routes.

use http::header::{CONNECTION, UPGRADE};
use http::{Extensions, HeaderMap, HeaderValue, Method, Response, Version};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio_util::either::Either;

use super::body::UpstreamBody;
use super::http2::Tunnel;
use super::http2::server::Promised;
use super::message::ResponseMessage;
use super::serve::Control;
use super::websocket;

/// What a client asks for.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The protocol that it wants to switch to.
    pub(crate) protocol: HeaderValue,
    /// Its half of the tunnel.
    pub(crate) client: Half,
    /// Of an extended CONNECT: the key that stands for it (see [`super::websocket`]).
    pub(crate) key: Option<HeaderValue>,
}

/// One side's half of a tunnel.
#[derive(Debug)]
pub(crate) enum Half {
    /// A connection that hyper gives away.
    Http1(OnUpgrade),
    /// A stream.
    Http2(Box<Tunnel>),
    /// A stream, once its client has the agreement.
    Promised(Promised),
}

/// A half through which bytes flow.
type Flowing = Either<TokioIo<Upgraded>, Box<Tunnel>>;

impl Half {
    /// What comes with a request that may become a tunnel.
    pub(crate) fn of_client(extensions: &mut Extensions) -> Option<Self> {
        let upgraded = extensions.remove::<OnUpgrade>().map(Self::Http1);
        upgraded.or_else(|| extensions.remove::<Promised>().map(Self::Promised))
    }

    /// Waits until bytes can flow; `None` where that does not come to be.
    async fn flows(self) -> Option<Flowing> {
        match self {
            Self::Http1(upgraded) => Some(Either::Left(TokioIo::new(upgraded.await.ok()?))),
            Self::Http2(tunnel) => Some(Either::Right(tunnel)),
            Self::Promised(promised) => Some(Either::Right(Box::new(promised.kept().await?))),
        }
    }

    /// What has become of the connection or stream of an answer that agrees.
    pub(crate) fn of(answer: &mut ResponseMessage<UpstreamBody>) -> Self {
        match answer.body.take_tunnel() {
            Some(tunnel) => Self::Http2(tunnel),
            None => {
                // hyper looks for its own in the extensions of a response, and nowhere else.
                let mut switched = Response::new(());
                std::mem::swap(switched.extensions_mut(), &mut answer.head.extensions);
                let upgraded = hyper::upgrade::on(&mut switched);
                std::mem::swap(switched.extensions_mut(), &mut answer.head.extensions);
                Self::Http1(upgraded)
            }
        }
    }
}

/// The protocol that the request asks to switch to, if it is one that may be tunnelled: one token,
/// named by `Connection`, in HTTP/1.1. `h2c` is not: the upgraded connection would carry requests
/// past every rule.
pub(crate) fn requested(
    version: Version,
    method: &Method,
    headers: &HeaderMap,
) -> Option<HeaderValue> {
    let mut lines = headers.get_all(UPGRADE).iter();
    let (Some(wanted), None) = (lines.next(), lines.next()) else {
        return None;
    };
    let named = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .any(|option| option.trim().eq_ignore_ascii_case("upgrade"));
    let token = wanted.to_str().ok()?;
    let tunnelled = !token.is_empty()
        && !token.contains([',', ' '])
        && !["h2c", "h2", "tls", "http", "http/2.0"]
            .iter()
            .any(|no| token.eq_ignore_ascii_case(no))
        && !token.to_ascii_lowercase().starts_with("tls/");
    let safe_method = *method == Method::GET || !is_websocket(token);
    (version == Version::HTTP_11 && named && tunnelled && safe_method).then(|| wanted.clone())
}

fn is_websocket(token: &str) -> bool {
    token.eq_ignore_ascii_case("websocket")
}

/// Asks the next hop for the same switch.
pub(crate) fn ask(headers: &mut HeaderMap, protocol: &HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol.clone());
}

impl Asked {
    /// Whether the endpoint switched to what was asked for. Only then may bytes flow.
    pub(crate) fn is_agreed(&self, answer: &HeaderMap) -> bool {
        let keyed = |key| websocket::is_accepted(key, answer);
        agreed(&self.protocol, answer) && self.key.as_ref().is_none_or(keyed)
    }
}

fn agreed(asked: &HeaderValue, answer: &HeaderMap) -> bool {
    answer
        .get(UPGRADE)
        .is_some_and(|got| asked.as_bytes().eq_ignore_ascii_case(got.as_bytes()))
}

/// Copies both ways until both sides have ended; an error of either side ends the tunnel, as it would
/// end the connection that it stands for. `control` sees what goes by, and when the client does not take
/// what is written for it.
pub(crate) async fn tunnel(client: Half, endpoint: Half, control: &Control) {
    let client = async { client.flows().await.ok_or(()) };
    let endpoint = async { endpoint.flows().await.ok_or(()) };
    if let Ok((client, mut endpoint)) = tokio::try_join!(client, endpoint) {
        let mut client = control.watch(client);
        // How it ends is told by who ends it.
        drop(copy_bidirectional(&mut client, &mut endpoint).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_upgrades_are_tunnelled() {
        for (version, method, connection, upgrade, expected) in [
            (Version::HTTP_11, Method::GET, "Upgrade", "websocket", true),
            (
                Version::HTTP_11,
                Method::GET,
                "keep-alive, upgrade",
                "WebSocket",
                true,
            ),
            (Version::HTTP_11, Method::GET, "upgrade", "spdy/3.1", true),
            (Version::HTTP_11, Method::POST, "upgrade", "spdy/3.1", true),
            (
                Version::HTTP_11,
                Method::POST,
                "upgrade",
                "websocket",
                false,
            ),
            (Version::HTTP_10, Method::GET, "upgrade", "websocket", false),
            (Version::HTTP_11, Method::GET, "close", "websocket", false),
            (Version::HTTP_11, Method::GET, "upgrade", "h2c", false),
            (Version::HTTP_11, Method::GET, "upgrade", "TLS/1.0", false),
            (
                Version::HTTP_11,
                Method::GET,
                "upgrade",
                "websocket, h2c",
                false,
            ),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONNECTION, HeaderValue::from_static(connection));
            headers.insert(UPGRADE, HeaderValue::from_static(upgrade));
            let asked = requested(version, &method, &headers).is_some();
            assert_eq!(
                asked, expected,
                "{version:?} {method} {connection} {upgrade}"
            );
        }
    }

    #[test]
    fn the_answer_must_name_what_was_asked() {
        let asked = HeaderValue::from_static("websocket");
        let mut answer = HeaderMap::new();
        assert!(!agreed(&asked, &answer));
        answer.insert(UPGRADE, HeaderValue::from_static("WebSocket"));
        assert!(agreed(&asked, &answer));
        answer.insert(UPGRADE, HeaderValue::from_static("other"));
        assert!(!agreed(&asked, &answer));
    }
}
