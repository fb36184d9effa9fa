//! Every value: what is accepted and how it is printed, and what is refused.

use std::fmt::{Debug, Display};

use proptest::prelude::*;

use super::*;

/// Accepted texts with their printed form, and refused ones.
fn check<T>(accepted: &[(&str, &str)], refused: &[&str])
where
    T: FromStr<Err = ValueError>
        + Display
        + Debug
        + PartialEq
        + Serialize
        + for<'de> Deserialize<'de>,
{
    for (text, printed) in accepted {
        let value: T = text
            .parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(value.to_string(), *printed, "{text}");
        assert_eq!(
            printed.parse::<T>().unwrap(),
            value,
            "{text}: printed and read again"
        );
        let json = serde_json::to_string(&value).unwrap();
        assert_eq!(
            serde_json::from_str::<T>(&json).unwrap(),
            value,
            "{text}: through JSON"
        );
    }
    for text in refused {
        let error = text.parse::<T>().expect_err(text).to_string();
        assert!(error.len() < 300, "{error}");
    }
}

#[test]
fn names() {
    let long = "x".repeat(253);
    check::<Name>(
        &[
            ("a", "a"),
            ("checkout-v2.1_b", "checkout-v2.1_b"),
            ("0", "0"),
            (&long, &long),
        ],
        &[
            "",
            "-a",
            ".a",
            "a b",
            "a/b",
            "ü",
            "a\n",
            &"x".repeat(254),
            "{a}",
        ],
    );
}

#[test]
fn host_patterns() {
    check::<HostPattern>(
        &[
            ("Shop.Example.com", "shop.example.com"),
            ("*.Example.com", "*.example.com"),
            ("localhost", "localhost"),
            ("a_b.example", "a_b.example"),
            ("10.0.0.1", "10.0.0.1"),
            ("::1", "[::1]"),
            ("[FD00:0::1]", "[fd00::1]"),
        ],
        &[
            "",
            "*",
            "*.",
            "*.*.a",
            "a.*.b",
            "*a.b",
            ".a",
            "a..b",
            "a.",
            "-a.b",
            "a-.b",
            "a b",
            "ü.example",
            "a.example:80",
            "http://a.example",
            "10.0.0",
            "10.0.0.256",
            "*.10.0.0.1",
            "[::1]:80",
            "a/b",
            "[a]",
        ],
    );
}

#[test]
fn durations() {
    check::<Duration>(
        &[
            ("0s", "0s"),
            ("0h0m", "0s"),
            ("10s", "10s"),
            ("90s", "1m30s"),
            ("1500ms", "1s500ms"),
            ("1h2m3s4ms", "1h2m3s4ms"),
            ("1s1s", "2s"),
            ("99999h", "99999h"),
        ],
        &[
            "",
            "1",
            "1.5s",
            "-1s",
            "1 s",
            "s",
            "1d",
            "1S",
            "100000s",
            "1h1h1h1h1h",
            "99999h60m",
            "1s ",
            "١s",
        ],
    );
    assert_eq!(
        "1m30s".parse::<Duration>().unwrap().get(),
        std::time::Duration::from_secs(90)
    );
}

#[test]
fn sizes() {
    check::<ByteSize>(
        &[
            ("0", "0"),
            ("1", "1"),
            ("65536", "64KiB"),
            ("64 KiB", "64KiB"),
            ("1MiB", "1MiB"),
            ("10GB", "10GB"),
            ("10kB", "10KB"),
            ("1500B", "1500"),
            ("18446744073709551615", "18446744073709551615"),
        ],
        &[
            "",
            "KiB",
            "-1",
            "1.5MiB",
            "64k",
            "64K",
            "1mib",
            "18446744073709551616",
            "99999999TiB",
            "1  B",
        ],
    );
    assert_eq!(
        serde_json::from_str::<ByteSize>("4096").unwrap(),
        ByteSize(4096)
    );
}

#[test]
fn addresses() {
    check::<Address>(
        &[
            ("0.0.0.0:8080", "0.0.0.0:8080"),
            (":8080", "0.0.0.0:8080"),
            ("[::]:8080", "[::]:8080"),
            ("localhost:0", "127.0.0.1:0"),
        ],
        &[
            "",
            ":",
            "8080",
            ":65536",
            "10.0.0.1",
            "::1:80",
            "a.example:80",
            "http://0.0.0.0:80",
            ":-1",
        ],
    );
    check::<EndpointAddress>(
        &[
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("[FD00::1]:80", "[fd00::1]:80"),
            ("Shop.Internal:80", "shop.internal:80"),
            ("localhost:1", "localhost:1"),
        ],
        &[
            "",
            "a",
            ":80",
            "a:0",
            "a:65536",
            "::1:80",
            "http://a:80",
            "*.a:80",
            "a b:80",
            "10.0.0.256:80",
            "a:80/x",
        ],
    );
    check::<Cidr>(
        &[
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("fd00::1", "fd00::1/128"),
        ],
        &[
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "localhost",
            "10.0.0.0/",
            "10.0.0.0:80",
        ],
    );
}

#[test]
fn fields_and_methods() {
    check::<FieldName>(
        &[("X-Version", "x-version")],
        &["", "a b", "a:", ":path", "ü"],
    );
    check::<FieldValue>(
        &[("a b", "a b"), ("", ""), ("a\tb", "a\tb")],
        &[" a", "a ", "a\nb", "a\r", "ü", "a\0"],
    );
    check::<MethodName>(
        &[("GET", "GET"), ("M-SEARCH", "M-SEARCH")],
        &["", "get", "Get", "GE T"],
    );
}

#[test]
fn numbers_have_a_range() {
    let weight = |text| serde_json::from_str::<Weight>(text).ok().map(Weight::get);
    assert_eq!((weight("0"), weight("1000000")), (Some(0), Some(1_000_000)));
    assert_eq!(
        (
            weight("1000001"),
            weight("-1"),
            weight("1.5"),
            weight("\"1\"")
        ),
        (None, None, None, None)
    );
    assert_eq!(Weight::default().get(), 1);
    let status = |text| {
        serde_json::from_str::<StatusCode>(text)
            .ok()
            .map(StatusCode::get)
    };
    assert_eq!((status("200"), status("599")), (Some(200), Some(599)));
    assert_eq!(
        (status("199"), status("600"), status("65736")),
        (None, None, None)
    );
}

#[test]
fn a_refused_text_is_shown_short_and_on_one_line() {
    let error = "\u{1b}[31m\n"
        .repeat(1000)
        .parse::<Name>()
        .unwrap_err()
        .to_string();
    assert!(
        error.len() < 1000 && !error.contains(['\u{1b}', '\n']),
        "{error}"
    );
}

proptest! {
    #[test]
    fn printed_durations_and_sizes_are_read_again(number in any::<u64>(), shift in 0..64u32) {
        let number = number >> shift;
        prop_assert_eq!(ByteSize(number).to_string().parse(), Ok(ByteSize(number)));
        let duration = Duration::from_millis(number % 359_996_400_000);
        prop_assert_eq!(duration.to_string().parse(), Ok(duration));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,40}|[-a-z0-9.:/*\\[\\]]{0,20}") {
        let again = |printed: Option<String>, read: &dyn Fn(&str) -> bool| printed.is_none_or(|printed| read(&printed));
        prop_assert!(again(text.parse::<HostPattern>().ok().map(|it| it.to_string()), &|it| it.parse::<HostPattern>().is_ok()));
        prop_assert!(again(text.parse::<Address>().ok().map(|it| it.to_string()), &|it| it.parse::<Address>().is_ok()));
        prop_assert!(again(text.parse::<EndpointAddress>().ok().map(|it| it.to_string()), &|it| it.parse::<EndpointAddress>().is_ok()));
        prop_assert!(again(text.parse::<Duration>().ok().map(|it| it.to_string()), &|it| it.parse::<Duration>().is_ok()));
    }
}
