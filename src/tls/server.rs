//! TLS towards clients: which certificate is shown, and the handshake within its bounds.
//!
//! Owns the configuration of a listener's TLS and its renewal. Must not know what is served.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{
    Acceptor, ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert,
};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::{LazyConfigAcceptor, TlsStream};

use super::files::{Owner, Part, PartStatus};
use super::identity::PeerIdentity;
use super::material::{Authorities, MaterialError, Pair, PairFiles, Revocations};
use super::verify::{self, ClientPolicy};
use super::{Oldest, provider, versions};
use crate::config::values::IdentityPattern;
use crate::telemetry::recorder::Registry;
use crate::telemetry::tls::{HandshakeMetrics, HandshakeResult};

/// What decides how a listener speaks TLS. Equal settings have equal behaviour but for the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerSettings {
    pub(crate) listener: Box<str>,
    pub(crate) certificates: Vec<PairFiles>,
    pub(crate) oldest: Oldest,
    /// In the order of preference.
    pub(crate) alpn: Vec<&'static [u8]>,
    pub(crate) clients: Option<ClientSettings>,
    pub(crate) handshake_timeout: Duration,
    pub(crate) max_handshakes: u32,
}

/// Which clients' certificates are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientSettings {
    pub(crate) required: bool,
    pub(crate) authorities: PathBuf,
    pub(crate) revocations: Vec<PathBuf>,
    pub(crate) allowed: Vec<IdentityPattern>,
}

/// The TLS of one listener; its files may be replaced while it serves.
#[derive(Debug)]
pub(crate) struct Terminator {
    settings: ServerSettings,
    loaded: ArcSwap<Loaded>,
    /// One renewal at a time, so that none puts back what another has replaced.
    renewal: Mutex<()>,
    handshakes: Semaphore,
    metrics: Arc<HandshakeMetrics>,
}

#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    /// The same without sessions that are taken up again, which asks no list of revoked certificates.
    forgetful: Arc<ServerConfig>,
    pairs: Vec<Part<Pair>>,
    authorities: Option<Part<Authorities>>,
    revocations: Option<Part<Revocations>>,
}

impl Terminator {
    /// Reads every file.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub(crate) fn load(
        settings: ServerSettings,
        registry: &Registry,
    ) -> Result<Arc<Self>, MaterialError> {
        let name = owner_name(&settings);
        let owner = Owner {
            registry,
            name: &name,
        };
        let pairs = settings
            .certificates
            .iter()
            .map(|files| Part::pair(owner, "server", files));
        let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
        let clients = settings.clients.as_ref();
        let authorities = clients
            .map(|clients| Part::authorities(owner, "client_ca", &clients.authorities))
            .transpose()?;
        let revocations = clients
            .filter(|clients| !clients.revocations.is_empty())
            .map(|clients| Part::revocations(owner, &clients.revocations))
            .transpose()?;
        let config = config(
            &settings,
            &pairs,
            authorities.as_ref(),
            revocations.as_ref(),
        )?;
        Ok(Arc::new(Self {
            loaded: ArcSwap::from_pointee(Loaded::new(
                Arc::new(config),
                pairs,
                authorities,
                revocations,
            )),
            handshakes: Semaphore::new(settings.max_handshakes as usize),
            metrics: HandshakeMetrics::new(registry, &settings.listener),
            renewal: Mutex::default(),
            settings,
        }))
    }

    pub(crate) fn settings(&self) -> &ServerSettings {
        &self.settings
    }

    /// Every file that it was made of.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.status()
            .into_iter()
            .flat_map(|part| part.files)
            .collect()
    }

    /// What is in use, for people.
    pub(crate) fn status(&self) -> Vec<PartStatus> {
        let loaded = self.loaded.load();
        let pairs = loaded.pairs.iter().map(Part::status);
        let authorities = loaded.authorities.iter().map(Part::status);
        pairs
            .chain(authorities)
            .chain(loaded.revocations.iter().map(Part::status))
            .collect()
    }

    /// Reads the files again; new handshakes use what can be used. Sessions are taken up again only
    /// while the authorities and the lists of revoked certificates stay what they are: taking one
    /// up again verifies nothing.
    pub(crate) fn refresh(&self) {
        let _alone = self.renewal.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.loaded.load_full();
        let owner = owner_name(&self.settings);
        let pairs: Vec<_> = before
            .pairs
            .iter()
            .map(|part| part.refreshed(&owner))
            .collect();
        let authorities = before
            .authorities
            .as_ref()
            .map(|part| part.refreshed(&owner));
        let revocations = before
            .revocations
            .as_ref()
            .map(|part| part.refreshed(&owner));
        let same_trust = authorities.as_ref().map(Part::hash)
            == before.authorities.as_ref().map(Part::hash)
            && revocations.as_ref().map(Part::hash) == before.revocations.as_ref().map(Part::hash);
        let same_pairs = pairs
            .iter()
            .map(Part::hash)
            .eq(before.pairs.iter().map(Part::hash));
        let config = if same_trust && same_pairs {
            Arc::clone(&before.config)
        } else if same_trust {
            let mut config = ServerConfig::clone(&before.config);
            config.cert_resolver = Arc::new(Shown::of(&pairs));
            Arc::new(config)
        } else {
            match config(
                &self.settings,
                &pairs,
                authorities.as_ref(),
                revocations.as_ref(),
            ) {
                Ok(config) => Arc::new(config),
                Err(error) => {
                    tracing::error!(owner, "{error}; what was there before stays in use");
                    return;
                }
            }
        };
        self.loaded.store(Arc::new(Loaded::new(
            config,
            pairs,
            authorities,
            revocations,
        )));
    }

    fn config(&self) -> Arc<ServerConfig> {
        let loaded = self.loaded.load();
        let lists = loaded.revocations.as_ref().map(|part| part.value());
        let ended = lists.is_some_and(|lists| lists.next_update.is_some_and(|end| end < now()));
        Arc::clone(if ended {
            &loaded.forgetful
        } else {
            &loaded.config
        })
    }
}

impl Loaded {
    fn new(
        config: Arc<ServerConfig>,
        pairs: Vec<Part<Pair>>,
        authorities: Option<Part<Authorities>>,
        revocations: Option<Part<Revocations>>,
    ) -> Self {
        let mut forgetful = ServerConfig::clone(&config);
        forgetful.session_storage = Arc::new(NoServerSessionStorage {});
        forgetful.ticketer = Arc::new(NoTickets);
        Self {
            config,
            forgetful: Arc::new(forgetful),
            pairs,
            authorities,
            revocations,
        }
    }
}

/// Gives none out and takes none.
#[derive(Debug)]
struct NoTickets;

impl ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

fn owner_name(settings: &ServerSettings) -> String {
    format!("listener/{}", settings.listener)
}

fn config(
    settings: &ServerSettings,
    pairs: &[Part<Pair>],
    authorities: Option<&Part<Authorities>>,
    revocations: Option<&Part<Revocations>>,
) -> Result<ServerConfig, MaterialError> {
    let unusable = |why: String| MaterialError {
        file: settings
            .clients
            .as_ref()
            .map(|clients| clients.authorities.clone())
            .unwrap_or_default(),
        why,
    };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(settings.oldest))
        .map_err(|error| unusable(error.to_string()))?;
    let builder = match (&settings.clients, authorities) {
        (Some(clients), Some(authorities)) => {
            let policy = ClientPolicy {
                required: clients.required,
                allowed: clients.allowed.clone(),
            };
            let revocations = revocations.map(|part| &**part.value());
            let verifier = verify::clients(&authorities.value().roots, revocations, policy)
                .map_err(unusable)?;
            builder.with_client_cert_verifier(verifier)
        }
        _ => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(Shown::of(pairs)));
    config.alpn_protocols = settings.alpn.iter().map(|name| name.to_vec()).collect();
    config.ticketer = Ticketer::new().map_err(|error| unusable(error.to_string()))?;
    Ok(config)
}

/// The certificates that can be shown, by name. One label of a name may be a wildcard (RFC 9525, 6.3).
#[derive(Debug)]
struct Shown {
    by_name: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
    all: Vec<Arc<CertifiedKey>>,
}

impl Shown {
    fn of(pairs: &[Part<Pair>]) -> Self {
        let mut by_name: HashMap<Box<str>, Vec<_>> = HashMap::new();
        for pair in pairs {
            for name in &pair.value().leaf.identity.dns {
                let keys = by_name.entry(name.as_str().into()).or_default();
                keys.push(Arc::clone(&pair.value().key));
            }
        }
        let all = pairs
            .iter()
            .map(|pair| Arc::clone(&pair.value().key))
            .collect();
        Self { by_name, all }
    }

    fn named(&self, name: &str) -> &[Arc<CertifiedKey>] {
        let name = name.to_ascii_lowercase();
        let exact = self.by_name.get(name.as_str());
        let wildcard = || {
            self.by_name
                .get(format!("*.{}", name.split_once('.')?.1).as_str())
        };
        exact.or_else(wildcard).map_or(&[], Vec::as_slice)
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let suits =
            |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let named = hello.server_name().map_or(&[][..], |name| self.named(name));
        named
            .iter()
            .find(suits)
            .or_else(|| self.all.iter().find(suits))
            // Then there is no signature in common, and rustls says so to both sides.
            .or_else(|| self.all.first())
            .cloned()
    }
}

/// A client that has shaken hands.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) stream: Box<TlsStream<TcpStream>>,
    /// The listener that the name of the handshake belongs to.
    pub(crate) listener: Box<str>,
    pub(crate) identity: Option<PeerIdentity>,
}

/// Why there was no handshake.
#[derive(Debug, thiserror::Error)]
#[error("{}: {detail}", result.as_str())]
pub(crate) struct Refused {
    pub(crate) result: HandshakeResult,
    detail: String,
}

impl Refused {
    /// Nobody listens at the address any more.
    pub(crate) fn gone() -> Self {
        Self::new(HandshakeResult::Closed, "the listener was removed")
    }

    fn new(result: HandshakeResult, detail: impl ToString) -> Self {
        Self {
            result,
            detail: detail.to_string(),
        }
    }
}

/// Shakes hands with a client. `first` is the listener whose bounds count before the client has
/// said which it wants; `choose` knows which that is.
///
/// # Errors
/// See [`HandshakeResult`]; it is counted already.
pub(crate) async fn accept(
    stream: TcpStream,
    first: &Terminator,
    choose: impl FnOnce(Option<&str>) -> Option<Arc<Terminator>>,
) -> Result<Accepted, Refused> {
    let mut counted = Arc::clone(&first.metrics);
    let handshake = async {
        let _turn = first.handshakes.acquire().await;
        shake(stream, choose, &mut counted).await
    };
    let result = match tokio::time::timeout(first.settings.handshake_timeout, handshake).await {
        Ok(result) => result,
        Err(_) => Err(Refused::new(
            HandshakeResult::Timeout,
            format_args!("not done after {:?}", first.settings.handshake_timeout),
        )),
    };
    counted.ended(match &result {
        Ok((_, resumed)) if *resumed => HandshakeResult::Resumed,
        Ok(_) => HandshakeResult::Ok,
        Err(refused) => refused.result,
    });
    result.map(|(accepted, _)| accepted)
}

async fn shake(
    mut stream: TcpStream,
    choose: impl FnOnce(Option<&str>) -> Option<Arc<Terminator>>,
    counted: &mut Arc<HandshakeMetrics>,
) -> Result<(Accepted, bool), Refused> {
    if !begins_tls(&stream).await.map_err(io_failed)? {
        // The client may be gone already; then there is nobody to tell.
        drop(stream.write_all(PLAIN).await);
        linger(stream).await;
        return Err(Refused::new(
            HandshakeResult::NotTls,
            "the client does not speak TLS",
        ));
    }
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream)
        .await
        .map_err(failed)?;
    let chosen = choose(start.client_hello().server_name());
    let name = start.client_hello().server_name().map(str::to_owned);
    let Some(terminator) = chosen else {
        let mut stream = start.io;
        // The client may be gone already; then there is nobody to tell.
        drop(stream.write_all(UNRECOGNIZED_NAME).await);
        linger(stream).await;
        let detail = format!(
            "no listener for {}",
            name.as_deref().unwrap_or("a client that names none")
        );
        return Err(Refused::new(HandshakeResult::UnknownName, detail));
    };
    *counted = Arc::clone(&terminator.metrics);
    let shaking = start.into_stream(terminator.config()).into_fallible();
    let stream = match shaking.await {
        Ok(stream) => stream,
        Err((error, stream)) => {
            linger(stream).await;
            return Err(failed(error));
        }
    };
    let session = stream.get_ref().1;
    let resumed = session.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
    let leaf = session.peer_certificates().and_then(<[_]>::first);
    let identity = leaf
        .map(PeerIdentity::of)
        .transpose()
        .map_err(|error| Refused::new(HandshakeResult::BadCertificate, error))?;
    // Taking up a session again does not look at the certificate's time.
    if identity
        .as_ref()
        .is_some_and(|identity| identity.not_after() < now())
    {
        return Err(Refused::new(
            HandshakeResult::Expired,
            "the certificate of the earlier session has ended",
        ));
    }
    let accepted = Accepted {
        stream: Box::new(stream.into()),
        listener: terminator.settings.listener.clone(),
        identity,
    };
    Ok((accepted, resumed))
}

/// How long, and for how many bytes, a client that was told no may go on talking. Closing over unread
/// bytes makes the kernel send a reset, which can destroy what it was told.
const LINGER: (Duration, usize) = (Duration::from_millis(500), 64 * 1024);

async fn linger(mut stream: TcpStream) {
    let rest = async {
        stream.shutdown().await?;
        let (mut unread, mut buffer) = (LINGER.1, [0; 1024]);
        while unread > 0 {
            match stream.read(&mut buffer).await? {
                0 => break,
                n => unread = unread.saturating_sub(n),
            }
        }
        io::Result::Ok(())
    };
    // Whatever happens now, the connection is over.
    drop(tokio::time::timeout(LINGER.0, rest).await);
}

fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// What a client of plain HTTP gets.
const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
content-type: text/plain; charset=utf-8\r\n\
content-length: 59\r\n\
connection: close\r\n\r\n\
This port speaks TLS. Use https:// instead of http:// here.";

/// The fatal alert of RFC 6066, section 3, as a record of its own: nothing is encrypted yet.
const UNRECOGNIZED_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];

/// Whether the first byte is that of a handshake record (RFC 8446, 5.1).
async fn begins_tls(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0; 1];
    match stream.peek(&mut first).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(!(first[0].is_ascii_uppercase() || first[0].is_ascii_whitespace())),
    }
}

fn failed(error: io::Error) -> Refused {
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        Some(inner) => Refused::new(verify::result(inner), inner),
        None => io_failed(error),
    }
}

fn io_failed(error: io::Error) -> Refused {
    Refused::new(HandshakeResult::Closed, error)
}
