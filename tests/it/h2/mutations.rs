//! Every case of the tables, changed by chance but always in the same way.

use std::time::Duration;

use super::cases::proxy;
use super::recorder::Recorder;
use super::wire::Wire;
use super::{bodies, fields, frames};
use crate::support::client::get;

/// Changed copies of each case.
const COPIES: usize = 4;

/// Xorshift, so that a finding can be found again.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound.max(1) as u64).unwrap()
    }
}

fn change(bytes: &mut Vec<u8>, chance: &mut Chance) {
    for _ in 0..=chance.below(3) {
        let at = chance.below(bytes.len());
        let length = 1 + chance.below(20);
        let end = (at + length).min(bytes.len());
        match chance.below(6) {
            0 => bytes[at] ^= 1 << chance.below(8),
            1 => bytes[at] = u8::try_from(chance.below(256)).unwrap(),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            4 => bytes.truncate(at.max(24)),
            _ => {
                let other = chance.below(bytes.len());
                bytes.swap(at, other);
            }
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
}

#[test]
fn changed_sequences_neither_hang_nor_reach_the_backend_uncanonical() {
    let recorder = Recorder::start();
    let proxy = proxy(&recorder);
    let web = proxy.addr("web");
    let mut chance = Chance(0x5eed_0f00_0001);
    let cases: Vec<_> = [fields::all(), bodies::all(), frames::all()]
        .into_iter()
        .flatten()
        .collect();
    let mut sent = 0;
    for (number, case) in cases.iter().enumerate() {
        for _ in 0..COPIES {
            let mut bytes = case.all(number);
            // The preface stays, mostly: behind a wrong one nothing is read.
            let kept = bytes.len().min(24);
            let mut rest = bytes.split_off(kept);
            if rest.is_empty() {
                rest.push(0);
            }
            change(&mut rest, &mut chance);
            bytes.extend(rest);
            let mut wire = Wire::silent(web);
            wire.send(&bytes);
            wire.finish();
            let end = wire.drain(Duration::from_secs(5));
            assert!(
                end.is_some(),
                "{} hangs: {}",
                case.name,
                bytes.escape_ascii()
            );
            sent += 1;
        }
    }
    println!("changed: {sent} sequences of frames");
    assert_eq!(recorder.faults(), Vec::<String>::new());
    assert_eq!(get(web, "a", "/", &[]).status, 200);
    proxy.stop();
}
