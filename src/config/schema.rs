//! The JSON Schema of a configuration file, for editors and for the reference.
//!
//! Owns its title. Everything in it comes from the document's structs and their comments.

use super::document::Document;

/// The schema (draft 2020-12).
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Document);
    schema.insert("title".to_owned(), "Weir configuration".into());
    schema.to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(text: &str) -> bool {
        let instance: serde_json::Value = serde_json::from_str(text).unwrap();
        jsonschema::validator_for(&schema())
            .unwrap()
            .is_valid(&instance)
    }

    #[test]
    fn it_says_what_the_reader_says() {
        let split = |cookie: &str| {
            format!(
                r#"{{"version": 1, "routes": [{{"name": "r", "rules": [{{"split": {{"key": {{"cookie": {cookie}}}}}}}]}}]}}"#
            )
        };
        for (text, accepted) in [
            (r#"{"version": 1}"#.to_owned(), true),
            ("{}".to_owned(), false),
            (r#"{"version": 2}"#.to_owned(), false),
            (r#"{"version": 1, "listener": []}"#.to_owned(), false),
            (
                r#"{"version": 1, "listeners": [{"name": "web"}]}"#.to_owned(),
                false,
            ),
            (
                r#"{"version": 1, "listeners": [{"name": "web", "address": ":8080"}]}"#.to_owned(),
                true,
            ),
            (
                r#"{"version": 1, "drain": {"delay": "1.5s"}}"#.to_owned(),
                false,
            ),
            (split(r#""user""#), true),
            (split(r#"{"name": "user", "maxAge": "1h"}"#), true),
            (split(r#"{"maxAge": "1h"}"#), false),
            (split("7"), false),
        ] {
            assert_eq!(accepts(&text), accepted, "{text}");
        }
    }

    #[test]
    fn every_key_is_described() {
        fn walk(value: &serde_json::Value, at: &str) {
            if let Some(properties) = value.get("properties").and_then(|it| it.as_object()) {
                for (key, property) in properties {
                    assert!(property.get("description").is_some(), "{at}.{key}");
                }
            }
            if let Some(object) = value.as_object() {
                object
                    .iter()
                    .for_each(|(key, child)| walk(child, &format!("{at}.{key}")));
            }
            if let Some(list) = value.as_array() {
                list.iter().for_each(|child| walk(child, at));
            }
        }
        let schema = schema();
        assert!(schema.get("$id").is_none());
        walk(&schema, "");
    }
}
