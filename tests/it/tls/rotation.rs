//! Files that are replaced while they are in use, by every way that files are replaced.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind};

use super::{Pki, curl, handshakes, logged, pair, refused};
use crate::support::backend::echo;
use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::pki::{Authority, DAY, Files, Leaf, Pair};
use crate::support::proxy::{Proxy, all_to, with_listener};
use crate::support::tls::{self, Secure, backend, server};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: web.example\r\n\r\n";
const CLIENT: &str = "spiffe://shop.example/ns/blue/sa/frontend";

/// Well below the ten seconds after which files are looked at without an event.
const SOON: Duration = Duration::from_secs(5);

/// Handshakes by new connections show another certificate soon.
fn shows(proxy: &Proxy, ca: &str, wanted: &Pair) {
    let began = Instant::now();
    let config = Arc::new(tls::client(ca, None));
    eventually("the new certificate", || {
        let client = tls::connect(proxy.addr("web"), "web.example", &config).ok()?;
        (fingerprint(&client) == wanted.fingerprint()).then_some(())
    });
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

fn fingerprint(client: &Client<Secure>) -> String {
    let shown = &client.stream().conn.peer_certificates().unwrap()[0];
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, shown);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// Whether what the file of a role says is in use.
fn successful(proxy: &Proxy, role: &str) -> bool {
    let role = format!("role=\"{role}\"");
    let labels = ["name=\"listener/web\"", &role];
    proxy.metric("weir_certificate_last_reload_successful", &labels) > 0.5
}

/// What `weir certificates` shows of a role.
fn shown(proxy: &Proxy, role: &str) -> serde_json::Value {
    let all = proxy.json("/api/v1/certificates");
    let parts = all.as_array().unwrap();
    parts.iter().find(|it| it["role"] == role).unwrap().clone()
}

#[test]
fn a_certificate_is_replaced_by_renaming_and_live_connections_stay() {
    let (pki, backend) = (Pki::new(), echo("b"));
    let proxy = pki.proxy("", backend.address);
    let config = Arc::new(tls::client(&pki.ca.pem, None));
    let mut live = tls::connect(proxy.addr("web"), "web.example", &config).unwrap();
    assert_eq!(live.ask(REQUEST).status, 200);
    for _ in 0..3 {
        let next = pki.issue("server", &Leaf::server(&["web.example"]));
        shows(&proxy, &pki.ca.pem, &next);
        assert_eq!(
            shown(&proxy, "server")["certificates"][0]["fingerprint"],
            next.fingerprint()
        );
    }
    assert_eq!(live.ask(REQUEST).status, 200);
    // The session was made under an earlier certificate; nobody has to be verified for it anew.
    let again = tls::connect(proxy.addr("web"), "web.example", &config).unwrap();
    assert_eq!(
        again.stream().conn.handshake_kind(),
        Some(HandshakeKind::Resumed)
    );
    let reloads = |result: &str| {
        let labels = ["role=\"server\"", &format!("result=\"{result}\"")];
        proxy.metric("weir_certificate_reloads_total", &labels)
    };
    assert!((reloads("success") - 3.0).abs() < 0.1);
    proxy.stop();
}

#[test]
fn a_folder_of_kubernetes_is_replaced_as_a_whole() {
    let (backend, files) = (echo("b"), Files::new());
    let (mut ca, mut client) = (Authority::new("first"), None);
    // As the kubelet does it: files are links through `..data`, which is replaced by a rename.
    let write = |version: &str, ca: &Authority| {
        let folder = files.at(version);
        fs::create_dir(&folder).unwrap();
        let server = ca.issue(&Leaf::server(&["web.example"]));
        let texts = [
            ("tls.crt", &server.chain),
            ("tls.key", &server.key),
            ("ca.crt", &ca.pem),
            ("crl.pem", &ca.revoke(&[])),
        ];
        for (name, text) in texts {
            fs::write(folder.join(name), text).unwrap();
        }
        symlink(version, files.at("..data_tmp")).unwrap();
        fs::rename(files.at("..data_tmp"), files.at("..data")).unwrap();
        server
    };
    let first = write("..1", &ca);
    for name in ["tls.crt", "tls.key", "ca.crt", "crl.pem"] {
        symlink(format!("..data/{name}"), files.at(name)).unwrap();
    }
    let at = |name: &str| files.at(name).display().to_string();
    let tls = format!(
        "tls: {{ certificates: [{}], clientValidation: {{ mode: optional, ca: \"{}\", crls: [\"{}\"] }} }}",
        pair(files.folder(), "tls"),
        at("ca.crt"),
        at("crl.pem"),
    );
    let proxy = Proxy::start(&with_listener(&all_to(backend.address), &tls));
    shows(&proxy, &ca.pem, &first);
    for version in ["..2", "..3", "..4"] {
        let before = ca.issue(&Leaf::client(&[CLIENT]));
        ca = Authority::new(version);
        let server = write(version, &ca);
        shows(&proxy, &ca.pem, &server);
        // All of the folder at once, so never a client of the authority of before.
        let config = Arc::new(tls::client(&ca.pem, Some(&before)));
        let told = tls::connect(proxy.addr("web"), "web.example", &config)
            .and_then(|mut client| {
                client.send(REQUEST);
                client.try_receive(false)
            })
            .map(|response| response.unwrap().status);
        assert!(told.is_err(), "{told:?}");
        client = Some(ca.issue(&Leaf::client(&[CLIENT])));
        let config = Arc::new(tls::client(&ca.pem, client.as_ref()));
        let mut known = tls::connect(proxy.addr("web"), "web.example", &config).unwrap();
        assert_eq!(known.ask(REQUEST).status, 200);
    }
    assert!(client.is_some());
    for role in ["server", "client_ca", "crl"] {
        assert!(successful(&proxy, role), "{role}");
    }
    proxy.stop();
}

#[test]
fn a_file_that_is_written_bit_by_bit_is_used_when_it_is_whole() {
    let (pki, backend) = (Pki::new(), echo("b"));
    let proxy = pki.proxy("", backend.address);
    let config = Arc::new(tls::client(&pki.ca.pem, None));
    let before = tls::connect(proxy.addr("web"), "web.example", &config).unwrap();
    let before = fingerprint(&before);
    let next = pki.ca.issue(&Leaf::server(&["web.example"]));
    // In place, as a shell does it: emptied, half, then all of it; the key last.
    fs::write(pki.files.at("server.crt"), "").unwrap();
    eventually("the empty file refused", || {
        (!successful(&proxy, "server")).then_some(())
    });
    fs::write(
        pki.files.at("server.crt"),
        &next.chain[..next.chain.len() / 2],
    )
    .unwrap();
    logged(&proxy, "server.crt: is not PEM: it breaks off");
    fs::write(pki.files.at("server.crt"), &next.chain).unwrap();
    logged(&proxy, "does not belong to the certificate in");
    let config = Arc::new(tls::client(&pki.ca.pem, None));
    let still = tls::connect(proxy.addr("web"), "web.example", &config).unwrap();
    assert_eq!(fingerprint(&still), before);
    fs::write(pki.files.at("server.key"), &next.key).unwrap();
    shows(&proxy, &pki.ca.pem, &next);
    assert!(successful(&proxy, "server"));
    proxy.stop();
}

/// Content that cannot be used: of which role, in which file, and what is said of it.
fn broken(pki: &Pki, other: &Pair) -> Vec<(&'static str, &'static str, String, &'static str)> {
    let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let no_list = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let half = other.chain[..other.chain.len() / 2].to_owned();
    let of = |role, file, texts: Vec<(String, &'static str)>| {
        let texts = texts.into_iter();
        texts.map(move |(text, why)| (role, file, text, why))
    };
    let certificates = vec![
        (half, "it breaks off before an END line"),
        ("junk".to_owned(), "has no certificate in PEM form"),
        (no_certificate.to_owned(), "cannot be read"),
    ];
    let keys = vec![
        ("junk".to_owned(), "has no private key in PEM form"),
        (other.key.clone(), "does not belong to the certificate"),
        (encrypted.to_owned(), "is encrypted"),
    ];
    let authorities = vec![
        (String::new(), "has no certificate in PEM form"),
        (pki.ca.pem.clone() + no_certificate, "cannot be read"),
    ];
    let lists = vec![
        (String::new(), "has no list of revoked certificates"),
        (no_list.to_owned(), "cannot be read"),
        (list_of_version_1(pki), "version 1"),
    ];
    of("server", "server.crt", certificates)
        .chain(of("server", "server.key", keys))
        .chain(of("client_ca", "ca.crt", authorities))
        .chain(of("crl", "crl.pem", lists))
        .collect()
}

/// The content is not in use, and the API, the metrics and the log say why.
fn is_told(proxy: &Proxy, role: &str, file: &str, why: &str) {
    let said = eventually(&format!("{file} refused with {why}"), || {
        let error = shown(proxy, role)["error"].as_str()?.to_owned();
        error.contains(why).then_some(error)
    });
    assert!(said.contains(file), "{said}");
    assert!(!successful(proxy, role), "{file} {why}");
    let line = eventually(&format!("{file} in the log with {why}"), || {
        let log = proxy.program_log();
        let mut lines = log.lines();
        let said =
            |line: &&str| line.contains(file) && line.contains(why) && line.contains("\"ERROR\"");
        lines.find(said).map(str::to_owned)
    });
    assert!(line.contains("stays in use"), "{line}");
}

#[test]
fn what_cannot_be_used_changes_nothing_and_is_told_three_ways() {
    let (pki, backend) = (Pki::new(), echo("b"));
    pki.files.put("crl.pem", &pki.ca.revoke(&[]));
    let fields = format!(
        ", clientValidation: {{ ca: \"{}\", crls: [\"{}\"] }}",
        pki.path("ca.crt"),
        pki.path("crl.pem")
    );
    let proxy = pki.proxy(&fields, backend.address);
    let client = pki.ca.issue(&Leaf::client(&[CLIENT]));
    let other = pki.ca.issue(&Leaf::server(&["web.example"]));
    for (role, file, text, why) in broken(&pki, &other) {
        let before = fs::read_to_string(pki.files.at(file)).unwrap();
        let ends = shown(&proxy, role)["ends"].clone();
        pki.files.put(file, &text);
        is_told(&proxy, role, file, why);
        assert_eq!(shown(&proxy, role)["ends"], ends);
        // What was there before serves, and refuses.
        let config = Arc::new(tls::client(&pki.ca.pem, Some(&client)));
        assert_eq!(visit(&proxy, &config), Ok((HandshakeKind::Full, 200)));
        let nobody = Arc::new(tls::client(&pki.ca.pem, None));
        assert!(visit(&proxy, &nobody).is_err(), "{file} {why}");
        pki.files.put(file, &before);
        // The metric and what the API shows are not of one moment.
        eventually("the good file again", || {
            let told = &shown(&proxy, role)["error"];
            (successful(&proxy, role) && told.is_null()).then_some(())
        });
    }
    // Gone is not empty either.
    let key = fs::read_to_string(pki.files.at("server.key")).unwrap();
    fs::remove_file(pki.files.at("ca.crt")).unwrap();
    is_told(
        &proxy,
        "client_ca",
        "ca.crt",
        "cannot be read: No such file",
    );
    secrets_stay_secret(&proxy, &[&key, &other.key]);
    proxy.stop();
}

/// No line of a key in anything that people are shown.
fn secrets_stay_secret(proxy: &Proxy, keys: &[&str]) {
    let mut texts = vec![proxy.program_log()];
    for page in [
        "/config",
        "/api/v1/certificates",
        "/api/v1/listeners",
        "/metrics",
    ] {
        texts.push(proxy.ask(page).body);
    }
    for line in keys.iter().flat_map(|key| key.lines()) {
        if line.starts_with("-----") || line.len() < 16 {
            continue;
        }
        assert!(
            texts.iter().all(|text| !text.contains(line)),
            "a line of a key is shown"
        );
    }
}

/// What `openssl ca` makes unless it is told otherwise. It is a list that no verifier takes
/// (RFC 5280, 5.1.2.1), but one that can be read.
fn list_of_version_1(pki: &Pki) -> String {
    let folder = Files::new();
    folder.put("index.txt", "");
    folder.put("ca.crt", &pki.ca.pem);
    folder.put("ca.key", &pki.ca.key());
    let at = |name: &str| folder.at(name).display().to_string();
    let settings = format!(
        "[ca]\ndefault_ca = it\n[it]\ndatabase = {}\ndefault_md = sha256\ndefault_crl_days = 1\n",
        at("index.txt")
    );
    folder.put("openssl.cnf", &settings);
    let made = Command::new("openssl")
        .args(["ca", "-gencrl", "-config", &at("openssl.cnf")])
        .args(["-cert", &at("ca.crt"), "-keyfile", &at("ca.key")])
        .output()
        .expect("install the Debian package openssl");
    assert!(made.status.success(), "{made:?}");
    String::from_utf8(made.stdout).unwrap()
}

/// Connects with a configuration that remembers sessions; how, and the status of a request.
fn visit(proxy: &Proxy, config: &Arc<ClientConfig>) -> Result<(HandshakeKind, u16), String> {
    let mut client = tls::connect(proxy.addr("web"), "web.example", config)
        .map_err(|error| error.to_string())?;
    client.send(REQUEST);
    let response = client.try_receive(false).map_err(|it| it.to_string())?;
    let response = response.ok_or("closed")?;
    let kind = client.stream().conn.handshake_kind().unwrap();
    Ok((kind, response.status))
}

/// A session of before does not get a client in that would not get in now.
fn shut_out(what: &str, change: impl Fn(&Pki, &Pair), result: &str) {
    let (pki, backend) = (Pki::new(), echo("b"));
    pki.files.put("crl.pem", &pki.ca.revoke(&[]));
    let fields = format!(
        ", clientValidation: {{ ca: \"{}\", crls: [\"{}\"] }}",
        pki.path("ca.crt"),
        pki.path("crl.pem")
    );
    let proxy = pki.proxy(&fields, backend.address);
    let client = pki.ca.issue(&Leaf::client(&[CLIENT]));
    let remembering = [&TLS12, &TLS13].map(|version| {
        let config = tls::client_with(&pki.ca.pem, Some(&client), tls::provider(), &[version]);
        Arc::new(config)
    });
    let mut live: Vec<_> = remembering
        .iter()
        .map(|config| tls::connect(proxy.addr("web"), "web.example", config).unwrap())
        .collect();
    for (config, live) in remembering.iter().zip(&mut live) {
        assert_eq!(live.ask(REQUEST).status, 200);
        assert_eq!(visit(&proxy, config), Ok((HandshakeKind::Resumed, 200)));
    }
    change(&pki, &client);
    for config in &remembering {
        eventually(&format!("{what}: the client shut out"), || {
            visit(&proxy, config).is_err().then_some(())
        });
    }
    eventually(&format!("{what}: counted as {result}"), || {
        (handshakes(&proxy, result) > 1.5).then_some(())
    });
    // Who is in stays in.
    for live in &mut live {
        assert_eq!(live.ask(REQUEST).status, 200, "{what}");
    }
    proxy.stop();
}

#[test]
fn sessions_of_before_a_change_of_trust_are_not_taken_up() {
    shut_out(
        "another authority",
        |pki, _| {
            let next = Authority::new("next");
            pki.files.put("ca.crt", &next.pem);
            pki.files.put("crl.pem", &next.revoke(&[]));
        },
        "unknown_authority",
    );
    shut_out(
        "revoked",
        |pki, client| {
            pki.files.put("crl.pem", &pki.ca.revoke(&[client]));
        },
        "revoked",
    );
}

#[test]
fn sessions_are_not_taken_up_when_the_list_of_revoked_certificates_has_ended() {
    shut_out(
        "a list that ends",
        |pki, _| {
            let now = SystemTime::now();
            let list = pki
                .ca
                .revoke_until(&[], now - DAY, now + Duration::from_secs(2));
            pki.files.put("crl.pem", &list);
        },
        "revocation_unknown",
    );
}

#[test]
fn old_and_new_authorities_overlap_in_one_bundle() {
    let (pki, backend) = (Pki::new(), echo("b"));
    let fields = format!(", clientValidation: {{ ca: \"{}\" }}", pki.path("ca.crt"));
    let proxy = pki.proxy(&fields, backend.address);
    let next = Authority::new("next");
    let [old, new] = [&pki.ca, &next].map(|ca| {
        let pair = ca.issue(&Leaf::client(&[CLIENT]));
        Arc::new(tls::client(&pki.ca.pem, Some(&pair)))
    });
    assert!(visit(&proxy, &old).is_ok() && visit(&proxy, &new).is_err());
    pki.files.put("ca.crt", &(pki.ca.pem.clone() + &next.pem));
    eventually("both let in", || visit(&proxy, &new).ok());
    assert!(visit(&proxy, &old).is_ok());
    assert_eq!(
        shown(&proxy, "client_ca")["certificates"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    pki.files.put("ca.crt", &next.pem);
    eventually("the old shut out", || visit(&proxy, &old).err());
    assert!(visit(&proxy, &new).is_ok());
    proxy.stop();
}

#[test]
fn a_change_of_who_is_allowed_ends_the_sessions_of_before() {
    let (pki, backend) = (Pki::new(), echo("b"));
    let config = |allowed: &str| {
        let fields = format!(
            ", clientValidation: {{ ca: \"{}\", allowedIdentities: [\"{allowed}\"] }}",
            pki.path("ca.crt")
        );
        with_listener(&all_to(backend.address), &pki.tls(&fields))
    };
    let proxy = Proxy::start(&config(CLIENT));
    let pair = pki.ca.issue(&Leaf::client(&[CLIENT]));
    let client = Arc::new(tls::client(&pki.ca.pem, Some(&pair)));
    assert_eq!(visit(&proxy, &client), Ok((HandshakeKind::Full, 200)));
    assert_eq!(visit(&proxy, &client), Ok((HandshakeKind::Resumed, 200)));
    proxy.write_config(&config("spiffe://shop.example/ns/blue/sa/other"));
    proxy.wait_generation(2);
    assert!(visit(&proxy, &client).is_err());
    refused(&proxy, "identity_refused", 1, "");
    proxy.stop();
}

#[test]
fn every_role_is_shown_with_its_end() {
    let pki = Pki::new();
    let endpoint = pki.ca.issue(&Leaf::server(&["api.example"]));
    let backend = backend("b", server(&endpoint, Some(&pki.ca.pem), &[]));
    pki.issue("us", &Leaf::client(&[CLIENT]));
    pki.files.put("crl.pem", &pki.ca.revoke(&[]));
    let crls = format!("crls: [\"{}\"]", pki.path("crl.pem"));
    let fields = format!(
        ", clientValidation: {{ mode: optional, ca: \"{}\", {crls} }}",
        pki.path("ca.crt")
    );
    let endpoint_of = format!("endpoints: [{{ address: \"{}\" }}]", backend.address);
    let config = with_listener(&all_to(backend.address), &pki.tls(&fields)).replace(
        &endpoint_of,
        &format!(
            "{endpoint_of}, tls: {{ ca: \"{}\", serverName: api.example, clientCertificate: {}, {crls} }}",
            pki.path("ca.crt"),
            pki.pair("us")
        ),
    );
    let proxy = Proxy::start_with(&config, &["--workers", "1"]);
    let (fine, said) = curl(&pki, &proxy, "web.example", &[]);
    assert!(fine && said.contains("200"), "{said}");
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs_f64();
    let printed = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["certificates", "--admin", &proxy.admin().to_string()])
        .output()
        .unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    for (owner, role, days) in [
        ("listener/web", "server", 1.0),
        ("listener/web", "client_ca", 28.0),
        ("listener/web", "crl", 1.0),
        ("backend/v1", "client", 1.0),
        ("backend/v1", "ca", 28.0),
        ("backend/v1", "crl", 1.0),
    ] {
        let labels = [&*format!("name=\"{owner}\""), &*format!("role=\"{role}\"")];
        let ends = proxy.metric("weir_certificate_expiry_timestamp_seconds", &labels);
        assert!(
            (ends - now - days * 86_400.0).abs() < 120.0,
            "{owner} {role}: {ends}"
        );
        assert!(
            printed
                .lines()
                .any(|line| line.contains(owner) && line.contains(role) && line.contains("in use")),
            "{owner} {role}: {printed}"
        );
    }

    // Our own certificate towards backends is replaced as well; kept connections stay.
    let next = pki.issue("us", &Leaf::client(&["spiffe://shop.example/next"]));
    eventually("the new certificate of ours", || {
        let all = proxy.json("/api/v1/certificates");
        let mut parts = all.as_array()?.iter();
        let part = parts.find(|part| part["role"] == "client")?;
        (part["certificates"][0]["fingerprint"] == next.fingerprint()).then_some(())
    });
    let before = backend.handshakes().len();
    let (fine, said) = curl(&pki, &proxy, "web.example", &[]);
    assert!(fine && said.contains("200"), "{said}");
    assert_eq!(backend.handshakes().len(), before);
    crate::support::promtool(&get(proxy.admin(), "localhost", "/metrics", &[]).body);
    proxy.stop();
}

#[test]
fn what_is_believed_of_endpoints_is_replaced_and_their_sessions_forgotten() {
    let pki = Pki::new();
    let endpoint = pki.ca.issue(&Leaf::server(&["api.example"]));
    let backend = backend("b", server(&endpoint, None, &[]));
    pki.files.put("crl.pem", &pki.ca.revoke(&[]));
    let at = format!("endpoints: [{{ address: \"{}\" }}]", backend.address);
    // No connection is kept, so each request shakes hands or takes up a session.
    let fields = format!(
        "{at}, pool: {{ maxAge: 1ms }}, tls: {{ ca: \"{}\", crls: [\"{}\"], serverName: api.example }}",
        pki.path("ca.crt"),
        pki.path("crl.pem")
    );
    let config = all_to(backend.address).replace(&at, &fields);
    let proxy = Proxy::start_with(&config, &["--workers", "1"]);
    let ask = || get(proxy.addr("web"), "a", "/", &[]);
    let served = || (ask().status == 200).then_some(());
    let refused = || {
        let response = ask();
        let status = response.header("proxy-status")?;
        status.contains("tls_failed").then_some(())
    };
    eventually("a session that is taken up", || {
        served().filter(|()| backend.handshakes().last().is_some_and(|it| it.resumed))
    });
    pki.files.put("crl.pem", &pki.ca.revoke(&[&endpoint]));
    eventually("the revoked endpoint refused", refused);
    logged(&proxy, "Revoked");
    pki.files.put("crl.pem", &pki.ca.revoke(&[]));
    eventually("served again", served);
    pki.files.put("ca.crt", &Authority::new("next").pem);
    eventually("the endpoint of another authority refused", refused);
    pki.files.put("ca.crt", "junk");
    logged(&proxy, "ca.crt: has no certificate in PEM form");
    assert!(refused().is_some(), "still refused");
    pki.files.put("ca.crt", &pki.ca.pem);
    eventually("served at last", served);
    proxy.stop();
}
