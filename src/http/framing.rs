//! One framing a message, in both directions (RFC 9112, 6).
//!
//! hyper has settled where a message ends; here the forms that the next parser might read differently
//! are refused or written the one way. Must not know whether it is a request or a response.
//!
//! A request with both lengths cannot be refused here: hyper drops the Content-Length while parsing. It
//! goes out chunked, and hyper reads nothing behind it (RFC 9112, 6.1). To refuse it would mean to parse
//! each head twice.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue};

use super::kinds::Kinds;

/// Two parsers could disagree on where the message ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Ambiguous {
    #[error("Transfer-Encoding must be exactly `chunked`")]
    TransferEncoding,
    #[error("Content-Length must be one decimal number")]
    ContentLength,
}

/// Leaves at most one Content-Length, without leading zeros, which some read as octal. `kinds` are those of
/// the fields.
///
/// # Errors
/// See [`Ambiguous`].
pub(crate) fn settle(headers: &mut HeaderMap, kinds: Kinds) -> Result<(), Ambiguous> {
    if kinds.has(Kinds::TRANSFER_ENCODING) {
        one_coding(headers)?;
    }
    if kinds.has(Kinds::CONTENT_LENGTH) {
        one_length(headers)?;
    }
    Ok(())
}

fn one_coding(headers: &HeaderMap) -> Result<(), Ambiguous> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next()
        && !(coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none())
    {
        return Err(Ambiguous::TransferEncoding);
    }
    Ok(())
}

fn one_length(headers: &mut HeaderMap) -> Result<(), Ambiguous> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else {
        return Ok(());
    };
    let number = decimal(first).ok_or(Ambiguous::ContentLength)?;
    let mut rewrite = first.len() > 1 && first.as_bytes()[0] == b'0';
    for other in lengths {
        rewrite = true;
        if decimal(other) != Some(number) {
            return Err(Ambiguous::ContentLength);
        }
    }
    if rewrite {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(number));
    }
    Ok(())
}

/// A number without a sign.
pub(crate) fn decimal(value: &HeaderValue) -> Option<u64> {
    let digits = value.as_bytes();
    let number = digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    });
    number.filter(|_| !digits.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(name: http::HeaderName, values: &[&str]) -> Result<String, Ambiguous> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, value.parse().unwrap());
        }
        let kinds = Kinds::of(&headers);
        settle(&mut headers, kinds)?;
        let left = headers.get_all(name).iter();
        Ok(left
            .map(|v| v.to_str().unwrap())
            .collect::<Vec<_>>()
            .join(";"))
    }

    #[test]
    fn framing_has_one_meaning() {
        for (values, one) in [
            (&["5"][..], "5"),
            (&["5", "5"], "5"),
            (&["005"], "5"),
            (&["05", "5"], "5"),
            (&["0"], "0"),
            (&["000"], "0"),
        ] {
            assert_eq!(
                settled(CONTENT_LENGTH, values),
                Ok(one.to_owned()),
                "{values:?}"
            );
        }
        for values in [
            &["5", "6"][..],
            &["+5"],
            &["0x5"],
            &["5,5"],
            &[""],
            &["99999999999999999999"],
            &["-1"],
            &["5", "x"],
        ] {
            let refused = Err(Ambiguous::ContentLength);
            assert_eq!(settled(CONTENT_LENGTH, values), refused, "{values:?}");
        }
        let chunked = settled(TRANSFER_ENCODING, &["Chunked"]);
        assert_eq!(chunked, Ok("Chunked".to_owned()));
        for values in [
            &["chunked", "chunked"][..],
            &["chunked, chunked"],
            &["identity, chunked"],
            &["gzip"],
            &[""],
        ] {
            let refused = Err(Ambiguous::TransferEncoding);
            assert_eq!(settled(TRANSFER_ENCODING, values), refused, "{values:?}");
        }
    }
}
