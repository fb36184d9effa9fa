//! What an implementation of WebSocket has to bear, in the order of the Autobahn test suite: each case is
//! played to the endpoint itself and over every way through the proxy, and comes out the same.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::paths::{BOTH, Side, Tunnel, ask, endpoint, proxy};
use crate::support::http2::block_on;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The last of a message.
const FIN: u8 = 0x80;

/// A frame as clients send it, masked (RFC 6455, 5.2). `first`: its bits and kind.
fn sent(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | u8::try_from(length).unwrap()),
        length @ 126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
    bytes
}

/// A frame that came: bits and kind, payload.
type Came = (u8, Vec<u8>);

async fn receive(tunnel: &mut (impl AsyncRead + Unpin)) -> Option<Came> {
    let mut head = [0; 2];
    tunnel.read_exact(&mut head).await.ok()?;
    assert_eq!(head[1] & 0x80, 0, "servers do not mask");
    let length = match head[1] {
        126 => u64::from(tunnel.read_u16().await.ok()?),
        127 => tunnel.read_u64().await.ok()?,
        short => u64::from(short),
    };
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    tunnel.read_exact(&mut payload).await.ok()?;
    Some((head[0], payload))
}

struct Case {
    name: String,
    /// What the client sends, in one go or in pieces.
    sent: Vec<u8>,
    piece: usize,
    /// What comes back. After a close nothing does.
    expected: Vec<Came>,
}

fn case(name: impl Into<String>, sent: impl AsRef<[Vec<u8>]>, expected: &[Came]) -> Case {
    Case {
        name: name.into(),
        sent: sent.as_ref().concat(),
        piece: usize::MAX,
        expected: expected.to_vec(),
    }
}

/// Ends the connection; so every case shows that nothing came but what was expected.
fn goodbye() -> Vec<u8> {
    closing(1000, b"")
}

fn closing(code: u16, reason: &[u8]) -> Vec<u8> {
    sent(FIN | CLOSE, &[&code.to_be_bytes(), reason].concat())
}

fn closed(code: u16) -> Came {
    (FIN | CLOSE, code.to_be_bytes().to_vec())
}

fn echoed(name: impl Into<String>, kind: u8, payload: &[u8]) -> Case {
    let frames = [sent(FIN | kind, payload), goodbye()];
    case(
        name,
        frames,
        &[(FIN | kind, payload.to_vec()), closed(1000)],
    )
}

fn refused(name: impl Into<String>, frames: impl AsRef<[Vec<u8>]>, code: u16) -> Case {
    case(name, frames, &[closed(code)])
}

/// 1 and 2: messages of every length of the length, pings and pongs.
fn lengths_and_pings() -> Vec<Case> {
    let mut cases = Vec::new();
    for length in [0, 125, 126, 127, 128, 65_535, 65_536] {
        let payload = vec![b'*'; length];
        cases.push(echoed(format!("text of {length}"), TEXT, &payload));
        cases.push(echoed(
            format!("binary of {length}"),
            BINARY,
            &vec![0xfe; length],
        ));
        cases.push(Case {
            piece: 997,
            ..echoed(format!("text of {length} in pieces"), TEXT, &payload)
        });
    }
    for payload in [&b""[..], b"Hello", &[0, 255, 254, 253], &[0xfe; 125]] {
        let frames = [sent(FIN | PING, payload), goodbye()];
        let pong = (FIN | PONG, payload.to_vec());
        let name = format!("ping of {}", payload.len());
        cases.push(case(&name, frames, &[pong.clone(), closed(1000)]));
        let bytewise = case(
            name + ", byte by byte",
            [sent(FIN | PING, payload), goodbye()],
            &[pong, closed(1000)],
        );
        cases.push(Case {
            piece: 1,
            ..bytewise
        });
    }
    cases.push(refused("ping of 126", [sent(FIN | PING, &[0; 126])], 1002));
    for payload in [&b""[..], b"unasked"] {
        let frames = [sent(FIN | PONG, payload), goodbye()];
        cases.push(case("pong that nobody asked for", frames, &[closed(1000)]));
    }
    let pings: Vec<_> = (0..10).map(|n| sent(FIN | PING, &[n])).collect();
    let mut pongs: Vec<_> = (0..10).map(|n| (FIN | PONG, vec![n])).collect();
    pongs.push(closed(1000));
    cases.push(case("ten pings", [pings, vec![goodbye()]].concat(), &pongs));
    cases
}

/// 3 and 4: bits and kinds that have no meaning.
fn reserved() -> Vec<Case> {
    let mut cases = Vec::new();
    for bits in [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70] {
        for kind in [TEXT, BINARY, PING, CLOSE] {
            let frames = [sent(FIN | bits | kind, b"small")];
            cases.push(refused(
                format!("bits {bits:#x} of kind {kind}"),
                frames,
                1002,
            ));
        }
    }
    for kind in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        cases.push(refused(
            format!("kind {kind}"),
            [sent(FIN | kind, b"")],
            1002,
        ));
        let behind = [sent(FIN | TEXT, b"first"), sent(FIN | kind, b"x")];
        let text = (FIN | TEXT, b"first".to_vec());
        cases.push(case(
            format!("kind {kind} behind text"),
            behind,
            &[text, closed(1002)],
        ));
    }
    cases
}

/// 5: messages in several frames.
fn fragments() -> Vec<Case> {
    let whole = (FIN | TEXT, b"fragment1fragment2".to_vec());
    let (one, two) = (
        sent(TEXT, b"fragment1"),
        sent(FIN | CONTINUATION, b"fragment2"),
    );
    let ping = sent(FIN | PING, b"ping");
    let pong = (FIN | PONG, b"ping".to_vec());
    let both = [one.clone(), two.clone(), goodbye()];
    vec![
        case("two fragments", &both, &[whole.clone(), closed(1000)]),
        Case {
            piece: 1,
            ..case(
                "two fragments, byte by byte",
                &both,
                &[whole.clone(), closed(1000)],
            )
        },
        case(
            "a ping between fragments",
            [one.clone(), ping, two.clone(), goodbye()],
            &[pong, whole, closed(1000)],
        ),
        case(
            "empty fragments",
            [
                sent(TEXT, b""),
                sent(CONTINUATION, b""),
                sent(FIN | CONTINUATION, b""),
                goodbye(),
            ],
            &[(FIN | TEXT, vec![]), closed(1000)],
        ),
        refused(
            "a ping in fragments",
            [sent(PING, b"x"), sent(FIN | CONTINUATION, b"y")],
            1002,
        ),
        refused(
            "a continuation of nothing",
            [sent(FIN | CONTINUATION, b"x")],
            1002,
        ),
        refused(
            "a first fragment in a message",
            [one.clone(), sent(FIN | TEXT, b"x")],
            1002,
        ),
        refused(
            "a continuation behind the end",
            [sent(CONTINUATION, b"x"), one, two],
            1002,
        ),
    ]
}

/// 6: UTF-8.
fn texts() -> Vec<Case> {
    let text = "Hello-µ@ßöäüàá-UTF-8!! κόσμε 😈".as_bytes();
    let split: Vec<_> = text
        .iter()
        .map(|byte| sent(CONTINUATION, &[*byte]))
        .collect();
    let frames = [
        vec![sent(TEXT, b"")],
        split,
        vec![sent(FIN | CONTINUATION, b""), goodbye()],
    ];
    let mut cases = vec![
        echoed("text", TEXT, text),
        case(
            "text cut within its characters",
            frames.concat(),
            &[(FIN | TEXT, text.to_vec()), closed(1000)],
        ),
    ];
    for (name, bytes) in [
        ("a stray byte", &b"\x80"[..]),
        ("half a character", b"\xce\xba\xe1"),
        ("an overlong slash", b"\xc0\xaf"),
        ("a surrogate", b"\xed\xa0\x80"),
        ("above the last character", b"\xf4\x90\x80\x80"),
        ("five bytes", b"\xf8\x88\x80\x80\x80"),
        ("0xff", b"edited\xff"),
    ] {
        cases.push(refused(
            format!("UTF-8: {name}"),
            [sent(FIN | TEXT, bytes)],
            1007,
        ));
    }
    cases
}

/// 7: the end.
fn closes() -> Vec<Case> {
    let mut cases = vec![
        case(
            "a close without a code",
            [sent(FIN | CLOSE, b"")],
            &[(FIN | CLOSE, vec![])],
        ),
        case(
            "text behind a close",
            [goodbye(), sent(FIN | TEXT, b"late")],
            &[closed(1000)],
        ),
        case(
            "a ping behind a close",
            [goodbye(), sent(FIN | PING, b"late")],
            &[closed(1000)],
        ),
        case(
            "half a message, then a close",
            [sent(TEXT, b"half"), goodbye()],
            &[closed(1000)],
        ),
        refused("a close of one byte", [sent(FIN | CLOSE, b"\x03")], 1002),
        refused("a close of 126 bytes", [closing(1000, &[b'*'; 124])], 1002),
    ];
    for code in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999,
    ] {
        cases.push(refused(format!("close {code}"), [closing(code, b"")], code));
    }
    for length in [1, 123] {
        let reason = vec![b'r'; length];
        let back = (FIN | CLOSE, [&1000_u16.to_be_bytes()[..], &reason].concat());
        cases.push(case(
            format!("a reason of {length}"),
            [closing(1000, &reason)],
            &[back],
        ));
    }
    cases
}

/// 9: large ones, whole and in fragments.
fn large() -> Vec<Case> {
    const MIB: usize = 1 << 20;
    let mut cases = Vec::new();
    for size in [MIB, 10 * MIB] {
        let payload: Vec<u8> = (0..size).map(|n| b'a' + (n % 23) as u8).collect();
        cases.push(echoed(format!("text of {size}"), TEXT, &payload));
        let mut frames: Vec<_> = payload
            .chunks(64 * 1024)
            .map(|part| sent(CONTINUATION, part))
            .collect();
        frames[0][0] = BINARY;
        frames.extend([sent(FIN | CONTINUATION, b""), goodbye()]);
        let expected = [(FIN | BINARY, payload), closed(1000)];
        cases.push(case(
            format!("binary of {size} in fragments"),
            frames,
            &expected,
        ));
    }
    cases
}

/// Plays a case to the end; what came.
async fn play(tunnel: Tunnel, case: &Case) -> Vec<Came> {
    let (mut reading, mut writing) = tokio::io::split(tunnel);
    let pieces = async {
        for piece in case.sent.chunks(case.piece.min(case.sent.len())) {
            // The endpoint may have had enough.
            if writing.write_all(piece).await.is_err() || writing.flush().await.is_err() {
                break;
            }
            if case.piece < case.sent.len() {
                tokio::task::yield_now().await;
            }
        }
    };
    let frames = async {
        let mut came = Vec::new();
        while let Some(frame) = receive(&mut reading).await {
            let last = frame.0 & 0xf == CLOSE;
            came.push(frame);
            if last {
                break;
            }
        }
        came
    };
    tokio::join!(pieces, frames).1
}

/// Every case over one way; what was wrong.
fn play_all(cases: &[Case], side: Side, address: std::net::SocketAddr, way: &str) -> Vec<String> {
    block_on(async {
        let mut faults = Vec::new();
        for case in cases {
            let answer = ask(side, address, "/echo", &[]).await;
            let tunnel = answer.tunnel.unwrap();
            let came = tokio::time::timeout(Duration::from_secs(10), play(tunnel, case)).await;
            let shown = |frames: &[Came]| -> Vec<_> {
                let short = |bytes: &[u8]| bytes[..bytes.len().min(8)].to_vec();
                frames
                    .iter()
                    .map(|(first, bytes)| (*first, bytes.len(), short(bytes)))
                    .collect()
            };
            match came {
                Ok(came) if came == case.expected => {}
                Ok(came) => faults.push(format!(
                    "{way}: {}: {:?} instead of {:?}",
                    case.name,
                    shown(&came),
                    shown(&case.expected)
                )),
                Err(_) => faults.push(format!("{way}: {}: it hangs", case.name)),
            }
        }
        faults
    })
}

fn over_every_way<const N: usize>(cases: [Vec<Case>; N]) {
    let cases: &Vec<Case> = &cases.into_iter().flatten().collect();
    let mut faults = Vec::new();
    for upstream in BOTH {
        let endpoint = endpoint(upstream, true);
        let direct = format!("{upstream:?} without a proxy");
        faults.extend(play_all(cases, upstream, endpoint.address, &direct));
        let proxy = proxy(upstream, &endpoint);
        for downstream in BOTH {
            let way = format!("{downstream:?} to {upstream:?}");
            faults.extend(play_all(cases, downstream, proxy.addr("web"), &way));
        }
        proxy.stop();
    }
    println!("WebSocket: {} cases over 4 ways", cases.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn lengths_pings_and_what_is_reserved() {
    over_every_way([lengths_and_pings(), reserved()]);
}

#[test]
fn fragments_texts_and_closes() {
    over_every_way([fragments(), texts(), closes()]);
}

#[test]
fn messages_of_ten_mebibytes() {
    over_every_way([large()]);
}
