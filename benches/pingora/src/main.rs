//! A proxy made of pingora, as `benches/compare` wants it: a 90/10 split, prefixes, and what origins are told.
//!
//! What its users would have to write themselves is kept to the cheapest there is, as that is not what is measured.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use clap::Parser;
use http::HeaderValue;
use pingora_core::apps::HttpServerOptions;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::prelude::HttpPeer;
use pingora_core::protocols::ALPN;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::{ProxyHttp, ProxyServiceBuilder, Session};
use pingora_rustls::{RootCertStore, WebPkiClientVerifier};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HEX: &[u8; 16] = b"0123456789abcdef";

#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    #[arg(long)]
    listen: SocketAddr,
    /// Two: the first one gets 90 % of the requests.
    #[arg(long, required = true, num_args = 2)]
    origins: Vec<SocketAddr>,
    /// What paths may begin with.
    #[arg(long, required = true)]
    prefix: Vec<String>,
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Clients speak HTTP/2 without TLS.
    #[arg(long)]
    http2: bool,
    /// Origins do.
    #[arg(long)]
    origin_http2: bool,
    #[arg(long, requires = "key")]
    certificate: Option<PathBuf>,
    #[arg(long)]
    key: Option<PathBuf>,
    /// Whose certificates clients must have.
    #[arg(long, requires = "certificate")]
    client_ca: Option<PathBuf>,
    /// Origins are told of clients' addresses, and of nothing else.
    #[arg(long)]
    less: bool,
    /// Look at these options, and go.
    #[arg(long)]
    check: bool,
}

struct Proxy {
    options: Options,
    peers: [HttpPeer; 2],
    via: HeaderValue,
    scheme: HeaderValue,
}

impl Proxy {
    fn new(options: Options) -> Self {
        let peers = [0, 1].map(|place| {
            let mut peer = HttpPeer::new(options.origins[place], false, String::new());
            if options.origin_http2 {
                peer.options.alpn = ALPN::H2;
                peer.options.max_h2_streams = 100;
            }
            peer
        });
        let text = HeaderValue::from_static;
        let via = text(if options.http2 {
            "2.0 pingora"
        } else {
            "1.1 pingora"
        });
        let scheme = text(if options.certificate.is_some() {
            "https"
        } else {
            "http"
        });
        Self {
            options,
            peers,
            via,
            scheme,
        }
    }
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, session: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        let path = session.req_header().uri.path();
        if !self
            .options
            .prefix
            .iter()
            .any(|prefix| path.starts_with(prefix))
        {
            return Error::e_explain(ErrorType::HTTPStatus(404), "no route");
        }
        let place = usize::from(rand::random_range(0..100_u8) >= 90);
        Ok(Box::new(self.peers[place].clone()))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        told: &mut RequestHeader,
        _: &mut (),
    ) -> Result<()> {
        let client = session.client_addr().and_then(|address| address.as_inet());
        if let Some(client) = client {
            told.append_header("x-forwarded-for", client.ip().to_string())?;
        }
        if self.options.less {
            return Ok(());
        }
        told.append_header("via", self.via.clone())?;
        // In HTTP/2 it is part of the target.
        let client_asked = session.req_header();
        let host = match client_asked.uri.authority() {
            Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
            None => client_asked.headers.get("host").cloned(),
        };
        if let Some(host) = host {
            told.insert_header("x-forwarded-host", host)?;
        }
        told.insert_header("x-forwarded-proto", self.scheme.clone())?;
        told.insert_header("x-request-id", uuid::Uuid::new_v4().to_string())?;
        if self.options.client_ca.is_some()
            && let Some(tls) = session
                .digest()
                .and_then(|digest| digest.ssl_digest.as_deref())
        {
            let mut who = String::with_capacity(128);
            who.push_str("Hash=");
            for byte in &tls.cert_digest {
                let digits = [byte >> 4, byte & 0xf].map(|digit| HEX[usize::from(digit)]);
                who.extend(digits.map(char::from));
            }
            who.push_str(";Subject=\"O=");
            who.push_str(tls.organization.as_deref().unwrap_or_default());
            who.push('"');
            told.insert_header("x-forwarded-client-cert", who)?;
        }
        Ok(())
    }
}

/// TLS by the options, if these want it.
fn tls(options: &Options) -> Result<Option<TlsSettings>, Box<dyn std::error::Error>> {
    let (Some(certificate), Some(key)) = (&options.certificate, &options.key) else {
        return Ok(None);
    };
    let text = |path: &PathBuf| {
        path.to_str()
            .map(str::to_owned)
            .ok_or("paths must be UTF-8")
    };
    let mut settings = TlsSettings::intermediate(&text(certificate)?, &text(key)?)?;
    if let Some(file) = &options.client_ca {
        pingora_rustls::install_default_crypto_provider();
        let mut roots = RootCertStore::empty();
        pingora_rustls::load_ca_file_into_store(file, &mut roots)
            .map_err(|error| format!("--client-ca {}: {error}", file.display()))?;
        settings.set_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build()?);
    }
    Ok(Some(settings))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let settings = tls(&options)?;
    if options.check {
        return Ok(());
    }
    let configuration = ServerConf {
        threads: options.workers,
        // Of both origins together, so that none is closed.
        upstream_keepalive_pool_size: 2048,
        // Or it takes five minutes to end.
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, configuration);
    server.bootstrap();
    let address = options.listen.to_string();
    let mut http = HttpServerOptions::default();
    http.h2c = options.http2;
    let mut service = ProxyServiceBuilder::new(&server.configuration, Proxy::new(options))
        .server_options(http)
        .build();
    match settings {
        Some(settings) => service.add_tls_with_settings(&address, None, settings),
        None => service.add_tcp(&address),
    }
    server.add_service(service);
    server.run_forever()
}
