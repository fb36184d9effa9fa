//! The time as messages tell it (RFC 9110, 6.6.1). It is formatted once a second.

use std::cell::RefCell;
use std::time::SystemTime;

use http::HeaderValue;

thread_local! {
    /// The second, and its text.
    static NOW: RefCell<(u64, HeaderValue)> = const { RefCell::new((0, HeaderValue::from_static(""))) };
}

/// The value of `Date`.
pub(crate) fn now() -> HeaderValue {
    let now = SystemTime::now();
    let second = now.duration_since(SystemTime::UNIX_EPOCH);
    let second = second.map_or(0, |it| it.as_secs());
    NOW.with_borrow_mut(|(known, text)| {
        if *known != second || text.is_empty() {
            // It is ASCII.
            if let Ok(formatted) = HeaderValue::try_from(httpdate::fmt_http_date(now)) {
                (*known, *text) = (second, formatted);
            }
        }
        text.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_time() {
        let before = SystemTime::now();
        let told = httpdate::parse_http_date(now().to_str().unwrap()).unwrap();
        let second = std::time::Duration::from_secs(1);
        assert!(told + second > before && told <= SystemTime::now());
        assert_eq!(now().len(), 29);
    }
}
