//! The tables of cases beside this file, and how they are written.
//!
//! A line is `STATUSES WORDS : BYTES`. `@ TEMPLATE` sets what the bytes of the lines below it stand in,
//! at `{}`; `@` alone ends that. In bytes, `¶` is CR LF, `{90000*x}` is 90,000 times x, and `\r`, `\n`,
//! `\t`, `\0`, `\\`, `\xHH` are what they are in Rust.
//!
//! `STATUSES` is what the client gets, in order, joined by `+`; `|` stands between alternatives, `0` is
//! a close without an answer. After a status of 400 and above the connection must end. `WORDS`:
//!
//! - `open`, `close`: how the connection is left, where that differs from the above;
//! - `target=`, `host=`, `body=`, `has=NAME:VALUE`, `no=NAME`: of the first request that the backend saw,
//!   or of the answer that the client got;
//! - the words of one table only stand at its top.

/// One line of a table.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// File and line.
    pub(crate) place: String,
    /// Alternatives for each answer.
    pub(crate) statuses: Vec<Vec<u16>>,
    pub(crate) words: Vec<(String, String)>,
    pub(crate) bytes: Vec<u8>,
}

impl Case {
    pub(crate) fn has(&self, word: &str) -> bool {
        self.words.iter().any(|(name, _)| name == word)
    }
}

/// The cases of a table.
pub(crate) fn read(file: &str, text: &str) -> Vec<Case> {
    let mut template = "{}".to_owned();
    let mut cases = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let place = format!("{file}:{}", number + 1);
        if let Some(rest) = line.strip_prefix('@') {
            rest.strip_prefix(' ')
                .unwrap_or("{}")
                .clone_into(&mut template);
            continue;
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (expected, bytes) = line
            .split_once(" :")
            .unwrap_or_else(|| panic!("{place}: no ` : `"));
        let bytes = bytes.strip_prefix(' ').unwrap_or(bytes);
        let mut expected = expected.split(' ');
        let statuses = expected.next().unwrap_or_default();
        let alternatives = |answer: &str| {
            let numbers = answer.split('|').map(str::parse);
            numbers
                .collect::<Result<_, _>>()
                .unwrap_or_else(|_| panic!("{place}: statuses"))
        };
        let words = expected.map(|word| {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let value = String::from_utf8(decode(value)).unwrap();
            (name.to_owned(), value)
        });
        cases.push(Case {
            statuses: statuses.split('+').map(alternatives).collect(),
            words: words.collect(),
            bytes: decode(&template.replace("{}", bytes)),
            place,
        });
    }
    cases
}

fn decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let mut used = character.len_utf8();
        match character {
            '¶' => bytes.extend_from_slice(b"\r\n"),
            '\\' => {
                let code = rest[1..].chars().next().unwrap_or('\\');
                used += code.len_utf8();
                bytes.push(match code {
                    'r' => b'\r',
                    'n' => b'\n',
                    't' => b'\t',
                    '0' => 0,
                    'x' => {
                        used += 2;
                        u8::from_str_radix(&rest[2..4], 16).unwrap()
                    }
                    _ => b'\\',
                });
            }
            '{' => {
                let end = closing(rest);
                used = end + 1;
                let (count, what) = rest[1..end].split_once('*').unwrap();
                bytes.extend(decode(what).repeat(count.parse().unwrap()));
            }
            _ => bytes.extend_from_slice(&rest.as_bytes()[..used]),
        }
        rest = &rest[used..];
    }
    bytes
}

/// Where the brace that the text begins with is closed.
fn closing(text: &str) -> usize {
    let mut depth = 0;
    let closes = |(_, character): &(usize, char)| {
        depth += i32::from(*character == '{') - i32::from(*character == '}');
        depth == 0
    };
    text.char_indices().find(closes).unwrap().0
}
