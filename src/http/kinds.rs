//! What a field is to a proxy, by its name; and which kinds of fields a head has.
//!
//! A proxy must look for two dozen fields that most requests have none of, and a look-up costs 60 to 150
//! instructions, found or not. So the names are read once, and whoever wants a field asks first whether it may
//! be there. Must not know what is done with a field.

use http::HeaderMap;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, DATE, EXPECT, FORWARDED, HOST, HeaderName,
    TE, TRANSFER_ENCODING, UPGRADE, VIA,
};

/// A set of kinds. Of a head: those of its fields, when it was read. What has been removed since is still said
/// to be there, which costs a look-up; whoever adds a field that others ask for reads the head again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kinds(u32);

impl Kinds {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const CONNECTION: Self = Self(1);
    pub(crate) const TE: Self = Self(1 << 1);
    pub(crate) const TRANSFER_ENCODING: Self = Self(1 << 2);
    pub(crate) const CONTENT_LENGTH: Self = Self(1 << 3);
    pub(crate) const CONTENT_TYPE: Self = Self(1 << 4);
    pub(crate) const UPGRADE: Self = Self(1 << 5);
    pub(crate) const EXPECT: Self = Self(1 << 6);
    pub(crate) const VIA: Self = Self(1 << 7);
    pub(crate) const COOKIE: Self = Self(1 << 8);
    pub(crate) const TRACEPARENT: Self = Self(1 << 9);
    pub(crate) const REQUEST_ID: Self = Self(1 << 10);
    pub(crate) const FORWARDED_FOR: Self = Self(1 << 11);
    pub(crate) const FORWARDED_PROTO: Self = Self(1 << 12);
    pub(crate) const FORWARDED_HOST: Self = Self(1 << 13);
    /// Of one hop, in either direction, but for `Connection`, `Transfer-Encoding` and `TE`.
    pub(crate) const HOP: Self = Self(1 << 14);
    /// The same of requests only.
    pub(crate) const REQUEST_HOP: Self = Self(1 << 15);
    /// What only a trusted peer may say: our own words and those that others believe.
    pub(crate) const FORGEABLE: Self = Self(1 << 16);
    /// The same written with underscores, which some applications read as the same name.
    pub(crate) const ALIAS: Self = Self(1 << 17);
    /// Our own: `x-weir-`, each hyphen maybe an underscore.
    pub(crate) const OWN: Self = Self(1 << 18);
    pub(crate) const DATE: Self = Self(1 << 19);
    pub(crate) const GRPC_TIMEOUT: Self = Self(1 << 20);
    /// Of an answer: a call of gRPC has ended with its head.
    pub(crate) const GRPC_STATUS: Self = Self(1 << 21);
    pub(crate) const HOST: Self = Self(1 << 22);

    /// Those of all fields of a head.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        headers
            .keys()
            .fold(Self::NONE, |all, name| all.or(Self::of_name(name)))
    }

    /// What a field of this name is.
    pub(crate) fn of_name(name: &HeaderName) -> Self {
        match *name {
            CONNECTION => Self::CONNECTION,
            TE => Self::TE,
            TRANSFER_ENCODING => Self::TRANSFER_ENCODING,
            CONTENT_LENGTH => Self::CONTENT_LENGTH,
            CONTENT_TYPE => Self::CONTENT_TYPE,
            UPGRADE => Self::UPGRADE.or(Self::HOP),
            EXPECT => Self::EXPECT,
            VIA => Self::VIA,
            COOKIE => Self::COOKIE,
            FORWARDED => Self::FORGEABLE,
            DATE => Self::DATE,
            HOST => Self::HOST,
            _ => Self::of_other(name.as_str()),
        }
    }

    /// The library has no short form of these names.
    fn of_other(name: &str) -> Self {
        match name.as_bytes().first() {
            Some(b'g') if name == "grpc-status" => Self::GRPC_STATUS,
            Some(b'g') if name == "grpc-timeout" => Self::GRPC_TIMEOUT,
            Some(b'h') if name == "http2-settings" => Self::REQUEST_HOP,
            Some(b'k') if name == "keep-alive" => Self::HOP,
            Some(b'p') if name == "proxy-connection" => Self::HOP,
            Some(b't') if name == "traceparent" => Self::TRACEPARENT,
            Some(b'x') => Self::of_extension(name),
            _ => Self::NONE,
        }
    }

    /// `x-`, each hyphen maybe an underscore.
    fn of_extension(name: &str) -> Self {
        match name {
            "x-request-id" => Self::REQUEST_ID.or(Self::FORGEABLE),
            "x-forwarded-for" => Self::FORWARDED_FOR.or(Self::FORGEABLE),
            "x-forwarded-proto" => Self::FORWARDED_PROTO.or(Self::FORGEABLE),
            "x-forwarded-host" => Self::FORWARDED_HOST.or(Self::FORGEABLE),
            "x-forwarded-port" | "x-forwarded-client-cert" | "x-real-ip" => Self::FORGEABLE,
            _ if is_own(name) => Self::OWN,
            _ if name.contains('_') => {
                let plain = Self::of_extension(&name.replace('_', "-"));
                if plain.has(Self::FORGEABLE) {
                    Self::ALIAS
                } else {
                    Self::NONE
                }
            }
            _ => Self::NONE,
        }
    }

    /// Both together.
    pub(crate) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether any of those is among these.
    pub(crate) const fn has(self, any: Self) -> bool {
        self.0 & any.0 != 0
    }

    /// These without those.
    #[must_use]
    pub(crate) const fn without(self, those: Self) -> Self {
        Self(self.0 & !those.0)
    }
}

fn is_own(name: &str) -> bool {
    matches!(
        name.as_bytes(),
        [b'x', b'-' | b'_', b'w', b'e', b'i', b'r', b'-' | b'_', ..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    const NAMES: &[(&str, Kinds)] = &[
        ("connection", Kinds::CONNECTION),
        ("te", Kinds::TE),
        ("transfer-encoding", Kinds::TRANSFER_ENCODING),
        ("content-length", Kinds::CONTENT_LENGTH),
        ("content-type", Kinds::CONTENT_TYPE),
        ("upgrade", Kinds::UPGRADE),
        ("expect", Kinds::EXPECT),
        ("via", Kinds::VIA),
        ("date", Kinds::DATE),
        ("host", Kinds::HOST),
        ("grpc-timeout", Kinds::GRPC_TIMEOUT),
        ("cookie", Kinds::COOKIE),
        ("traceparent", Kinds::TRACEPARENT),
        ("x-request-id", Kinds::REQUEST_ID),
        ("x-forwarded-for", Kinds::FORWARDED_FOR),
        ("x-forwarded-proto", Kinds::FORWARDED_PROTO),
        ("x-forwarded-host", Kinds::FORWARDED_HOST),
        ("grpc-status", Kinds::GRPC_STATUS),
    ];
    const HOP: &[&str] = &["keep-alive", "proxy-connection", "upgrade"];
    const FORGEABLE: &[&str] = &[
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-client-cert",
        "x-real-ip",
        "x-request-id",
        "forwarded",
    ];

    fn head(names: &[String]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for name in names {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_static("1"));
        }
        headers
    }

    /// A name that somebody asks for, with some hyphens as underscores, or any name.
    fn name() -> impl Strategy<Value = String> {
        let known = NAMES.iter().map(|(name, _)| *name);
        let known = known.chain(HOP.iter().chain(FORGEABLE).copied());
        let known: Vec<&str> = known
            .chain([
                "http2-settings",
                "x-weir-backend",
                "x-weir-",
                "x-weird",
                "host",
                "accept",
            ])
            .collect();
        let known = (prop::sample::select(known), any::<u32>());
        let written = known.prop_map(|(name, bits)| {
            let letters = name.chars().enumerate();
            let letters = letters.map(|(at, letter)| match letter {
                '-' if bits >> (at % 32) & 7 == 0 => '_',
                other => other,
            });
            letters.collect()
        });
        prop_oneof![3 => written, 1 => "[a-z_-]{1,24}"]
    }

    proptest! {
        /// As many look-ups would have it.
        #[test]
        fn what_is_there_is_seen_and_nothing_else(names in prop::collection::vec(name(), 0..12)) {
            let headers = head(&names);
            let kinds = Kinds::of(&headers);
            for (name, kind) in NAMES {
                prop_assert_eq!(kinds.has(*kind), headers.contains_key(*name), "{}", name);
            }
            let any = |unwanted: &dyn Fn(&str) -> bool| {
                headers.keys().any(|name| unwanted(name.as_str()))
            };
            let plain = |name: &str| name.replace('_', "-");
            let is_alias = |name: &str| name.contains('_') && FORGEABLE.contains(&&*plain(name));
            prop_assert_eq!(kinds.has(Kinds::HOP), any(&|name| HOP.contains(&name)));
            prop_assert_eq!(kinds.has(Kinds::REQUEST_HOP), headers.contains_key("http2-settings"));
            prop_assert_eq!(kinds.has(Kinds::FORGEABLE), any(&|name| FORGEABLE.contains(&name)));
            prop_assert_eq!(kinds.has(Kinds::ALIAS), any(&is_alias));
            prop_assert_eq!(kinds.has(Kinds::OWN), any(&|name| plain(name).starts_with("x-weir-")));
            prop_assert!(!kinds.without(Kinds::HOP).has(Kinds::HOP));
        }
    }
}
