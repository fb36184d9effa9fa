//! Headers as the specification has them, headers as it does not, and any bytes at all.

use proptest::prelude::*;

use super::*;

fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [V2_BEGIN, &[command, family], &length, block].concat()
}

/// A field of version 2.
fn field(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind], &length[..], value].concat()
}

fn addresses(source: &str, destination: &str) -> Addresses {
    Addresses {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    }
}

/// 192.0.2.1:4660 to 198.51.100.2:443.
const IPV4: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x34, 1, 0xbb];

#[test]
fn headers_are_read() {
    let ipv6 = [
        &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..],
        &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
        &[0x12, 0x34, 1, 0xbb],
    ]
    .concat();
    let ipv4_told = Some(addresses("192.0.2.1:4660", "198.51.100.2:443"));
    let ipv6_told = Some(addresses("[2001:db8::1]:4660", "[2001:db8::2]:443"));
    let with_fields = [IPV4, &field(0x02, b"a.example"), &field(0x04, &[0; 9])].concat();
    for (bytes, told) in [
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 4660 443\r\n".to_vec(), ipv4_told),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 4660 443\r\n".to_vec(), ipv6_told),
        (b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n".to_vec(),
         Some(addresses("0.0.0.0:0", "255.255.255.255:65535"))),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        // The longest line that there is (2.1).
        (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n".to_vec(), None),
        (b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n".to_vec(),
         Some(addresses("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"))),
        (v2(0x21, 0x11, IPV4), ipv4_told),
        (v2(0x21, 0x21, &ipv6), ipv6_told),
        (v2(0x21, 0x11, &with_fields), ipv4_told),
        // Nothing that is known.
        (v2(0x21, 0x00, &[]), None),
        (v2(0x21, 0x00, &field(0x04, b"x")), None),
        // A datagram's addresses are not this connection's.
        (v2(0x21, 0x12, IPV4), None),
        (v2(0x21, 0x22, &ipv6), None),
        (v2(0x21, 0x31, &[7; 216]), None),
        (v2(0x21, 0x32, &[7; 216]), None),
        // LOCAL: whatever it says of addresses does not count.
        (v2(0x20, 0x00, &[]), None),
        (v2(0x20, 0x11, IPV4), None),
        (v2(0x20, 0x11, &[]), None),
        (v2(0x20, 0xff, b"anything"), None),
    ] {
        let header = decode(&bytes).unwrap().unwrap();
        assert_eq!(header.addresses, told, "{bytes:?}");
        assert_eq!(header.length, bytes.len(), "{bytes:?}");
    }
}

#[test]
fn what_is_no_header_is_refused() {
    use Malformed::{Missing, Syntax, TooLong};
    let long = field(0x04, &[0; V2_BYTES]);
    let twice = [IPV4, &field(0x03, &[0; 4]), &field(0x03, &[0; 4])].concat();
    for (bytes, why) in [
        (b"GET / HTTP/1.1\r\n".to_vec(), Missing),
        (b"P R".to_vec(), Missing),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), Missing),
        (b"proxy TCP4".to_vec(), Missing),
        (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), Missing),
        (b"\x16\x03\x01".to_vec(), Missing),
        (b"PROXY\tTCP4 1.1.1.1 1.1.1.1 1 1\r\n".to_vec(), Missing),
        (b"PROXY \n".to_vec(), Syntax),
        (b"PROXY \r\n".to_vec(), Syntax),
        (b"PROXY TCP4\r\n".to_vec(), Syntax),
        (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n".to_vec(), Syntax),
        (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n".to_vec(), Syntax),
        (b"PROXY TCP4 1.1.1.1  1.1.1.1 1 1\r\n".to_vec(), Syntax),
        (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 65536\r\n".to_vec(), Syntax),
        (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 +1\r\n".to_vec(), Syntax),
        (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 -1\r\n".to_vec(), Syntax),
        (b"PROXY TCP4 1.1.1.1 1.1.1 1 1\r\n".to_vec(), Syntax),
        (b"PROXY TCP4 01.1.1.1 1.1.1.1 1 1\r\n".to_vec(), Syntax),
        (b"PROXY TCP4 ::1 ::1 1 1\r\n".to_vec(), Syntax),
        (b"PROXY TCP6 1.1.1.1 1.1.1.1 1 1\r\n".to_vec(), Syntax),
        (b"PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n".to_vec(), Syntax),
        (b"PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n".to_vec(), Syntax),
        (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\rX\r\n".to_vec(), Syntax),
        (b"PROXY TCP4 \xff\xfe 1.1.1.1 1 1\r\n".to_vec(), Syntax),
        (b"PROXY UNKNOWN\n".to_vec(), Syntax),
        (b"PROXY UNKNOWNX\r\n".to_vec(), Syntax),
        (b"PROXY GET / HTTP/1.1\r\nhost: a\r\n".to_vec(), Syntax),
        (
            [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat(),
            TooLong,
        ),
        // A version, a command, a family and a protocol that do not exist.
        (v2(0x11, 0x11, IPV4), Syntax),
        (v2(0x22, 0x11, IPV4), Syntax),
        (v2(0x21, 0x41, IPV4), Syntax),
        (v2(0x21, 0x13, IPV4), Syntax),
        // No room for the addresses.
        (v2(0x21, 0x11, &[]), Syntax),
        (v2(0x21, 0x11, &IPV4[..11]), Syntax),
        (v2(0x21, 0x21, IPV4), Syntax),
        (v2(0x21, 0x31, &[0; 215]), Syntax),
        // Fields that do not end where the header does.
        (v2(0x21, 0x11, &[IPV4, &[4, 0]].concat()), Syntax),
        (v2(0x21, 0x11, &[IPV4, &[4, 0, 2, 0]].concat()), Syntax),
        (v2(0x21, 0x00, &[4, 0xff, 0xff, 0]), Syntax),
        // A checksum of another size, and two.
        (
            v2(0x21, 0x11, &[IPV4, &field(0x03, &[0; 3])].concat()),
            Syntax,
        ),
        (v2(0x21, 0x11, &twice), Syntax),
        (v2(0x21, 0x11, &[IPV4, &long].concat()), TooLong),
        (v2(0x20, 0x00, &long), TooLong),
    ] {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert_eq!(decode(&bytes), Err(why), "{text:?}");
    }
    // The bound is told by the length alone, before the rest is there.
    let begin = &v2(0x20, 0x00, &long)[..V2_FIXED];
    assert_eq!(decode(begin), Err(TooLong));
    let most = v2(0x20, 0x00, &[0; V2_BYTES - V2_FIXED]);
    assert_eq!(decode(&most).unwrap().unwrap().length, V2_BYTES);
}

#[test]
fn checksums_are_compared() {
    // "123456789" is the check value of every catalogue of checksums.
    assert_eq!(CRC32C.checksum(b"123456789"), 0xe306_9283);
    let of = |sum: u32| {
        let fields = [
            IPV4,
            &field(0x05, b"connection 7"),
            &field(0x03, &sum.to_be_bytes()),
            &field(0x04, b""),
        ];
        v2(0x21, 0x11, &fields.concat())
    };
    let sum = CRC32C.checksum(&of(0));
    assert!(decode(&of(sum)).unwrap().unwrap().addresses.is_some());
    assert_eq!(decode(&of(sum ^ 1)), Err(Malformed::Checksum));
    let mut other = of(sum);
    other[V2_FIXED] ^= 1;
    assert_eq!(decode(&other), Err(Malformed::Checksum));
}

#[test]
fn headers_are_written() {
    let of = |version, source, destination| {
        let bytes = encode(version, Some(&addresses(source, destination)));
        String::from_utf8_lossy(&bytes).into_owned()
    };
    for (source, destination, line) in [
        (
            "192.0.2.1:4660",
            "198.51.100.2:443",
            "PROXY TCP4 192.0.2.1 198.51.100.2 4660 443\r\n",
        ),
        (
            "[2001:db8::1]:1",
            "[::1]:2",
            "PROXY TCP6 2001:db8::1 ::1 1 2\r\n",
        ),
        (
            "[::ffff:192.0.2.1]:1",
            "192.0.2.2:2",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        ),
        (
            "192.0.2.1:1",
            "[::1]:2",
            "PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n",
        ),
    ] {
        assert_eq!(of(Version::V1, source, destination), line);
    }
    assert_eq!(encode(Version::V1, None), b"PROXY UNKNOWN\r\n");
    assert_eq!(encode(Version::V2, None), v2(0x20, 0x00, &[]));
    let told = addresses("192.0.2.1:4660", "198.51.100.2:443");
    assert_eq!(encode(Version::V2, Some(&told)), v2(0x21, 0x11, IPV4));
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

prop_compose! {
    fn any_header()(
        version in prop_oneof![Just(Version::V1), Just(Version::V2)],
        told in proptest::option::of((any_address(), any_address())),
    ) -> (Version, Option<Addresses>, Vec<u8>) {
        let told = told.map(|(source, destination)| Addresses { source, destination });
        (version, told, encode(version, told.as_ref()))
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again((version, told, bytes) in any_header(), after: Vec<u8>) {
        let header = decode(&[&bytes[..], &after].concat()).unwrap().unwrap();
        prop_assert_eq!(header.version, version);
        prop_assert_eq!(header.length, bytes.len());
        let ends = |of: &Addresses| (canonical(of.source), canonical(of.destination));
        prop_assert_eq!(header.addresses.as_ref().map(ends), told.as_ref().map(ends));
    }

    #[test]
    fn every_beginning_of_a_header_waits_for_more((_, _, bytes) in any_header()) {
        for length in 0..bytes.len() {
            prop_assert_eq!(decode(&bytes[..length]), Ok(None));
        }
    }

    /// Whether bytes come at once or one by one must not matter.
    #[test]
    fn any_bytes_have_one_meaning(
        begin in prop_oneof![
            Just(Vec::new()), Just(V1_BEGIN.to_vec()), Just(b"PROXY TCP4 ".to_vec()), Just(V2_BEGIN.to_vec()),
            any::<(u8, u8, u8)>().prop_map(|(a, b, c)| [V2_BEGIN, &[0x20 | (a & 1), b & 0x33, 0, c]].concat()),
        ],
        rest in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = [begin, rest].concat();
        let first = (0..=bytes.len()).map(|end| decode(&bytes[..end])).find(|it| *it != Ok(None));
        prop_assert_eq!(decode(&bytes), first.unwrap_or(Ok(None)));
        if let Ok(Some(header)) = decode(&bytes) {
            prop_assert!(header.length <= bytes.len());
        }
    }
}
