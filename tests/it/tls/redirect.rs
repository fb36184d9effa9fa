//! The rows of the Gateway API's table of redirects that need a listener with TLS on port 443.

use std::sync::Arc;

use super::Pki;
use crate::support::proxy::{Proxy, config, with_listener};
use crate::support::tls;

#[test]
fn httproute_redirect_port_and_scheme() {
    let pki = Pki::new();
    let rule = |path: &str, fields: &str| {
        format!(
            "      - matches: [{{ path: {{ value: {path} }} }}]\n        filters: [{{ type: RequestRedirect, requestRedirect: {{ {fields} }} }}]\n"
        )
    };
    let rules = rule("/nil-nil", "statusCode: 302")
        + &rule("/nil-443", "port: 443")
        + &rule("/nil-8443", "port: 8443");
    let text = config(&format!("  - name: r\n    rules:\n{rules}"), &[]);
    let fields = format!("advertisedPort: 443, {}", pki.tls(""));
    let proxy = Proxy::start(&with_listener(&text, &fields));
    let believes = Arc::new(tls::client(&pki.ca.pem, None));
    let mut client = tls::connect(proxy.addr("web"), "web.example", &believes).unwrap();
    for (path, location) in [
        ("/nil-nil", "https://example.org/nil-nil"),
        ("/nil-443", "https://example.org/nil-443"),
        ("/nil-8443", "https://example.org:8443/nil-8443"),
    ] {
        let response = client.ask(&format!("GET {path} HTTP/1.1\r\nHost: example.org\r\n\r\n"));
        let said = (response.status, response.header("location"));
        assert_eq!(said, (302, Some(location)), "{path}");
    }
    proxy.stop();
}
