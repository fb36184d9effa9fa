//! The corpus as a test, and that no target is forgotten.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::TARGETS;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz")
        .join(name)
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect()
}

/// Every file through every target: what one of them finds is a hard input for the others too.
#[test]
fn the_corpus_breaks_no_promise() {
    let mut files = 0;
    for (name, _) in TARGETS {
        let seeds = folder("corpus").join(name);
        for seed in fs::read_dir(&seeds).unwrap() {
            let path = seed.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            for (_, target) in TARGETS {
                // Names the file when a target panics.
                println!("{}", path.display());
                target(&bytes);
            }
            files += 1;
        }
    }
    assert!(files > 40, "the corpus has {files} files");
}

/// A target that is not in all three places is not run somewhere.
#[test]
fn every_target_has_a_program_and_seeds() {
    let own: BTreeSet<String> = TARGETS.map(|(name, _)| name.to_owned()).into();
    assert_eq!(names(&folder("fuzz_targets")), own);
    assert_eq!(names(&folder("corpus")), own);
    let manifest = fs::read_to_string(folder("Cargo.toml")).unwrap();
    for name in &own {
        let bin = format!("[[bin]]\nname = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"\n");
        assert!(manifest.contains(&bin), "{name}");
    }
}
