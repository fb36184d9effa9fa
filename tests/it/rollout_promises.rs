//! The tables of `rollout_tables`, small: each number within what its number of runs may show.

use crate::rollout_tables::{Scale, TABLES};

fn holds(name: &str) {
    let (_, table, part) = TABLES.iter().find(|(known, _, _)| *known == name).unwrap();
    let lines = table(Scale(*part));
    assert!(!lines.is_empty());
    let text: Vec<String> = lines.iter().map(ToString::to_string).collect();
    assert!(
        lines.iter().all(|line| line.holds()),
        "{name}\n{}",
        text.join("\n")
    );
}

#[test]
fn false_alarms() {
    holds("false alarms at 5 %");
    holds("false alarms at 0.1 %");
    holds("false alarms at exactly the tolerance");
}

#[test]
fn changing_load() {
    holds("an outage of both arms");
    holds("bursts of ten times the load");
    holds("a ramp with requests under way");
}

#[test]
fn draws() {
    holds("keyed and stratified draws");
}

#[test]
fn guards() {
    holds("clients that always fail");
    holds("a cold candidate");
}

#[test]
fn fleet() {
    holds("a fleet of twenty");
}

#[test]
fn delay() {
    holds("delay of detection");
    holds("misses");
    holds("a late change");
}

#[test]
fn promotions() {
    holds("false promotions");
}
