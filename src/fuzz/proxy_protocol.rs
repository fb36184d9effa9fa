//! Headers of the PROXY protocol.

use std::net::SocketAddr;

use crate::proxy_protocol::{Header, V2_BYTES, Version, decode, encode};

/// Any bytes begin with a header, are the beginning of one, or are neither. However few of them have come,
/// what is said then stays true; and what a header says can be written and read again.
pub fn proxy_protocol(data: &[u8]) {
    let whole = decode(data);
    for cut in 0..data.len().min(300) {
        match decode(&data[..cut]) {
            Ok(None) => {}
            Ok(Some(header)) => assert_eq!(whole, Ok(Some(header))),
            Err(_) => assert!(whole.is_err(), "refused too early, after {cut} bytes"),
        }
    }
    match whole {
        Ok(Some(header)) => {
            assert!((1..=data.len().min(V2_BYTES)).contains(&header.length));
            assert_eq!(decode(&data[..header.length]), whole, "it reads on");
            written(&header);
        }
        Ok(None) => assert!(data.len() < V2_BYTES, "it waits for ever"),
        Err(_) => {}
    }
}

fn written(header: &Header) {
    let ends = |header: &Header| {
        let canonical = |it: SocketAddr| (it.ip().to_canonical(), it.port());
        header
            .addresses
            .map(|of| (canonical(of.source), canonical(of.destination)))
    };
    for version in [Version::V1, Version::V2] {
        let bytes = encode(version, header.addresses.as_ref());
        let Ok(Some(again)) = decode(&bytes) else {
            panic!("unreadable: {bytes:?}");
        };
        assert_eq!((again.version, again.length), (version, bytes.len()));
        assert_eq!(ends(&again), ends(header));
    }
}
