//! The ways in which a file is changed in practice, each seen without waiting for the poll.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::{IMPATIENT, Watch, folders};
use crate::config::file::fingerprint;

/// Shorter than the poll, so that only an event can be in time; long for a busy machine.
const SOON: Duration = Duration::from_secs(8);

fn watch(path: &Path) -> (Watch, Receiver<()>) {
    let (changed, changes) = channel();
    let watch = Watch::start(path, Box::new(move || changed.send(()).unwrap_or_default())).unwrap();
    (watch, changes)
}

/// A change may come as several; after the last one, what is on disk has been told.
fn expect_change(changes: &Receiver<()>) {
    changes.recv_timeout(SOON).expect("the change was not seen");
}

#[test]
fn a_file_that_is_renamed_over_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.yaml");
    fs::write(&file, "version: 1\n").unwrap();
    let (_watch, changes) = watch(&file);
    for round in 0..3 {
        let copy = folder.path().join(".weir.yaml.swp");
        fs::write(&copy, format!("version: 1 # {round}\n")).unwrap();
        fs::rename(&copy, &file).unwrap();
        expect_change(&changes);
    }
}

#[test]
fn a_file_that_is_truncated_and_written_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.yaml");
    fs::write(&file, "version: 1\n").unwrap();
    let (_watch, changes) = watch(&file);
    fs::write(&file, "version: 1 # other\n").unwrap();
    expect_change(&changes);
}

/// What is still being written is no change yet, and neither is a log beside it.
#[test]
fn a_file_is_read_when_its_writer_has_closed_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.yaml");
    fs::write(&file, "version: 1\n").unwrap();
    let (_watch, changes) = watch(&file);
    let mut writer = fs::OpenOptions::new().append(true).open(&file).unwrap();
    writer.write_all(b"# half of a ").unwrap();
    assert!(changes.recv_timeout(4 * IMPATIENT).is_err());
    writer.write_all(b"line\n").unwrap();
    drop(writer);
    expect_change(&changes);
}

#[test]
fn a_file_that_is_deleted_and_comes_back_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.yaml");
    fs::write(&file, "version: 1\n").unwrap();
    let (_watch, changes) = watch(&file);
    fs::remove_file(&file).unwrap();
    expect_change(&changes);
    fs::write(&file, "version: 1 # back\n").unwrap();
    expect_change(&changes);
}

/// As the kubelet updates a ConfigMap: a new folder, a new link beside `..data`, renamed over it.
#[test]
fn a_swapped_link_is_seen_every_time() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let publish = |version: usize| {
        let data = format!("..{version}");
        fs::create_dir(root.join(&data)).unwrap();
        fs::write(
            root.join(&data).join("weir.yaml"),
            format!("version: 1 # {version}\n"),
        )
        .unwrap();
        symlink(&data, root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
        if let Some(old) = version.checked_sub(1) {
            fs::remove_dir_all(root.join(format!("..{old}"))).unwrap();
        }
    };
    publish(0);
    symlink("..data/weir.yaml", root.join("weir.yaml")).unwrap();
    let (_file_watch, file_changes) = watch(&root.join("weir.yaml"));
    let (_folder_watch, folder_changes) = watch(root);
    for version in 1..4 {
        publish(version);
        expect_change(&file_changes);
        expect_change(&folder_changes);
    }
}

/// A file in a folder that is itself reached by a link, which is then pointed elsewhere.
#[test]
fn a_link_to_a_folder_elsewhere_is_followed() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for name in ["a", "b"] {
        fs::create_dir(there.path().join(name)).unwrap();
        fs::write(
            there.path().join(name).join("weir.yaml"),
            format!("version: 1 # {name}\n"),
        )
        .unwrap();
    }
    let link = here.path().join("current");
    symlink(there.path().join("a"), &link).unwrap();
    let (_watch, changes) = watch(&link.join("weir.yaml"));
    symlink(there.path().join("b"), here.path().join("next")).unwrap();
    fs::rename(here.path().join("next"), &link).unwrap();
    expect_change(&changes);
    fs::write(
        there.path().join("b/weir.yaml"),
        "version: 1 # in the new folder\n",
    )
    .unwrap();
    expect_change(&changes);
}

#[test]
fn files_of_a_folder_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), "version: 1\n").unwrap();
    let (_watch, changes) = watch(folder.path());
    fs::write(folder.path().join("b.yaml"), "version: 1\n").unwrap();
    expect_change(&changes);
    fs::remove_file(folder.path().join("b.yaml")).unwrap();
    expect_change(&changes);
}

#[test]
fn links_in_a_circle_are_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a.yaml"), folder.path().join("b.yaml"));
    symlink(&a, &b).unwrap();
    symlink(&b, &a).unwrap();
    assert!(folders(&a).contains(folder.path()));
    let (watch, _changes) = watch(&a);
    drop(watch);
}

#[test]
fn only_contents_count() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.yaml");
    fs::write(&file, "version: 1\n").unwrap();
    let before = fingerprint(&file);
    fs::write(&file, "version: 1\n").unwrap();
    assert_eq!(fingerprint(&file), before);
    fs::write(&file, "").unwrap();
    assert_ne!(fingerprint(&file), before);
}

/// A content that comes back while somebody reads another must be told again.
#[test]
fn a_content_that_comes_back_behind_a_readers_back_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.yaml");
    let put = |text: &str| {
        let copy = folder.path().join(".weir.yaml.swp");
        fs::write(&copy, text).unwrap();
        fs::rename(&copy, &file).unwrap();
    };
    put("version: 1 # a\n");
    let (watch, changes) = watch(&file);
    put("version: 1 # b\n");
    expect_change(&changes);
    // Somebody reads `a` for another reason while the watch waits for quiet, and `b` is back at once.
    let seen = watch.seen();
    put("version: 1 # a\n");
    seen.note();
    put("version: 1 # b\n");
    expect_change(&changes);
}
