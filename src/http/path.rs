//! One normal form of a path, which matching, authorization, rewriting and the backend all see.
//!
//! Pure. Refuses what two parsers could read differently; leaves everything else as it came.

use std::borrow::Cow;

/// Why a path has no normal form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    /// Not `%` and two hexadecimal digits (RFC 3986, 2.1).
    #[error("a percent sign in the path is not followed by two hexadecimal digits")]
    BadEscape,
    /// NUL, CR, LF or a backslash, plain or escaped; dot segments behind an encoded slash.
    #[error("the path has a control character, a backslash or encoded dot segments")]
    Forbidden,
    /// `..` beyond the first segment.
    #[error("the path leads above its root")]
    AboveRoot,
}

/// The normal form of an absolute path (RFC 3986, 6.2.2): unreserved characters unescaped,
/// all that no URI may have escaped, hexadecimal digits in capitals, dot segments resolved. Borrowed when
/// nothing changes, which is the usual case and costs one pass.
///
/// # Errors
/// See [`PathError`].
pub(crate) fn normalize(path: &str) -> Result<Cow<'_, str>, PathError> {
    let bytes = path.as_bytes();
    let mut before = 0;
    let is_normal = bytes.iter().all(|byte| {
        // A segment that begins with a dot may be nothing but dots.
        let may_be_dots = before == b'/' && *byte == b'.';
        before = *byte;
        PLAIN[usize::from(*byte)] && !may_be_dots
    });
    if is_normal {
        return Ok(Cow::Borrowed(path));
    }
    let unescaped = unescape(bytes)?;
    let resolved = resolve_dots(&unescaped)?;
    if resolved == path {
        return Ok(Cow::Borrowed(path));
    }
    Ok(Cow::Owned(resolved))
}

/// `pchar` and `/` (RFC 3986, 3.3) without the percent sign: the bytes that stand for themselves.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let all = b"-._~!$&'()*+,;=:@/";
    let mut at = 0;
    while at < all.len() {
        plain[all[at] as usize] = true;
        at += 1;
    }
    let mut byte = 0_u8;
    while byte < 0x80 {
        plain[byte as usize] |= byte.is_ascii_alphanumeric();
        byte += 1;
    }
    plain
};

fn unescape(bytes: &[u8]) -> Result<String, PathError> {
    let mut out = String::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(&byte) = rest.next() {
        match byte {
            b'\\' => return Err(PathError::Forbidden),
            b'%' => {
                let (Some(high), Some(low)) = (rest.next(), rest.next()) else {
                    return Err(PathError::BadEscape);
                };
                let (Some(high), Some(low)) = (hex(*high), hex(*low)) else {
                    return Err(PathError::BadEscape);
                };
                let value = high << 4 | low;
                match value {
                    0 | b'\r' | b'\n' | b'\\' => return Err(PathError::Forbidden),
                    b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                        out.push(char::from(value));
                    }
                    _ => escape(value, &mut out),
                }
            }
            _ if PLAIN[usize::from(byte)] => out.push(char::from(byte)),
            // `http::Uri` admits bytes that no URI has, braces and UTF-8 among them. Were they left as they
            // came, a rule for the escaped form would not see them.
            _ => escape(byte, &mut out),
        }
    }
    Ok(out)
}

fn escape(byte: u8, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// RFC 3986, 5.2.4, except that climbing above the root is refused instead of ignored.
fn resolve_dots(path: &str) -> Result<String, PathError> {
    let mut out: Vec<&str> = Vec::new();
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." if last => out.push(""),
            "." => {}
            ".." => {
                if out.pop().is_none() {
                    return Err(PathError::AboveRoot);
                }
                if last {
                    out.push("");
                }
            }
            // A backend that decodes `%2F` would see dot segments here that nobody matched.
            other if other.split("%2F").any(|part| matches!(part, "." | "..")) => {
                return Err(PathError::Forbidden);
            }
            other => out.push(other),
        }
    }
    let mut joined = String::with_capacity(path.len());
    for segment in &out {
        joined.push('/');
        joined.push_str(segment);
    }
    if joined.is_empty() {
        joined.push('/');
    }
    Ok(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_their_normal_form() {
        for (path, normal) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("//x", "//x"),
            ("/a//b/", "/a//b/"),
            ("/a;v=1/b", "/a;v=1/b"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/.", "/"),
            ("/a/%2e%2e/b", "/b"),
            ("/a/%2E/b", "/a/b"),
            ("/%61%7e", "/a~"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%20b", "/a%20b"),
            ("/...", "/..."),
            ("/a{b}|\"^`", "/a%7Bb%7D%7C%22%5E%60"),
            ("/a%7bb%7d", "/a%7Bb%7D"),
            ("/\u{e9}\u{7f}", "/%C3%A9%7F"),
            ("/\u{e9}%20", "/%C3%A9%20"),
            ("/!$&'()*+,;=:@", "/!$&'()*+,;=:@"),
        ] {
            assert_eq!(normalize(path).as_deref(), Ok(normal), "{path}");
        }
    }

    #[test]
    fn paths_without_one_meaning_are_refused() {
        for (path, error) in [
            ("/%", PathError::BadEscape),
            ("/%2", PathError::BadEscape),
            ("/%zz", PathError::BadEscape),
            ("/%00", PathError::Forbidden),
            ("/a%0d%0ab", PathError::Forbidden),
            ("/a\\b", PathError::Forbidden),
            ("/a%5cb", PathError::Forbidden),
            ("/..%2f../../x", PathError::Forbidden),
            ("/a%2f..%2fb", PathError::Forbidden),
            ("/..", PathError::AboveRoot),
            ("/a/../../b", PathError::AboveRoot),
            ("/%2e%2e/b", PathError::AboveRoot),
        ] {
            assert_eq!(normalize(path), Err(error), "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn normal_form_is_a_fixed_point(path in "/[a-c/.%0-9A-F{\u{e9}\\\\]{0,24}") {
            if let Ok(normal) = normalize(&path) {
                let again = normalize(&normal);
                proptest::prop_assert_eq!(again.as_deref(), Ok(&*normal));
                proptest::prop_assert!(!normal.split('/').any(|s| s == "." || s == ".."));
            }
        }
    }
}
