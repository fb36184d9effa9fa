//! "Did you mean": the candidate that a mistyped word is nearest to.

/// The nearest candidate, if it is near enough to be what was meant.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let bare = |text: &str| text.replace(['-', '_', '.'], "").to_ascii_lowercase();
    let wanted = bare(word);
    // `v3` is not `v1` mistyped, and `http2` not `http1`: another number is another thing.
    let numbers = |text: &str| {
        text.chars()
            .filter(char::is_ascii_digit)
            .collect::<String>()
    };
    let meant = numbers(word);
    let (distance, candidate) = candidates
        .into_iter()
        .filter(|candidate| numbers(candidate) == meant)
        .map(|candidate| (strsim::osa_distance(&wanted, &bare(candidate)), candidate))
        .min_by_key(|(distance, _)| *distance)?;
    // A third of the letters wrong is a typing error, more is another word.
    (distance * 3 <= wanted.chars().count()).then_some(candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let candidates = ["weight", "backendRefs", "name", "checkout-v1"];
        for (word, meant) in [
            ("wieght", Some("weight")),
            ("backend_refs", Some("backendRefs")),
            ("BackendRef", Some("backendRefs")),
            ("nmae", Some("name")),
            ("chekout-v1", Some("checkout-v1")),
            ("checkout-v2", None),
            ("tls", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, candidates), meant, "{word}");
        }
    }
}
