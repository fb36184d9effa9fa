//! Reading of files and folders from a disk.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use super::*;

const LISTENER: &str = "version: 1\nlisteners: [{ name: web, address: \":8080\" }]\n";
const ROUTE: &str = "version: 1\nroutes: [{ name: r, rules: [{ backendRefs: [{ name: b }] }] }]\n";
const BACKEND: &str =
    r#"{"version": 1, "backends": [{"name": "b", "endpoints": [{"address": "10.0.0.1:80"}]}]}"#;

fn codes(path: &Path) -> Vec<Code> {
    load(path)
        .unwrap_err()
        .into_iter()
        .map(|problem| problem.code)
        .collect()
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

#[test]
fn a_folder_is_joined_in_the_order_of_names() {
    let folder = folder(&[
        ("b.yml", ROUTE),
        ("a.yaml", LISTENER),
        ("c.json", BACKEND),
        (".hidden.yaml", "{"),
        ("notes.txt", "{"),
        ("weir.schema.json", "{"),
        ("z.yaml~", "{"),
    ]);
    fs::create_dir(folder.path().join("sub.yaml")).unwrap();
    let loaded = load(folder.path()).unwrap();
    assert_eq!(loaded.warnings, []);
    let names: Vec<_> = loaded
        .files
        .iter()
        .map(|file| file.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(names, ["a.yaml", "b.yml", "c.json"]);
    let document = &loaded.document;
    assert_eq!(
        (
            document.listeners.len(),
            document.routes.len(),
            document.backends.len()
        ),
        (1, 1, 1)
    );
    assert_eq!(loaded.hash, load(folder.path()).unwrap().hash);
}

#[test]
fn links_are_followed_as_in_a_config_map() {
    let folder = folder(&[]);
    fs::create_dir(folder.path().join("..1")).unwrap();
    fs::write(folder.path().join("..1/a.yaml"), LISTENER).unwrap();
    symlink("..1", folder.path().join("..data")).unwrap();
    symlink("..data/a.yaml", folder.path().join("a.yaml")).unwrap();
    assert_eq!(load(folder.path()).unwrap().document.listeners.len(), 1);
}

#[test]
fn names_are_checked_over_all_files() {
    let folder = folder(&[
        ("a.yaml", LISTENER),
        ("b.yaml", LISTENER),
        ("c.yaml", ROUTE),
    ]);
    let problems = load(folder.path()).unwrap_err();
    let duplicate = problems
        .iter()
        .find(|problem| problem.code == Code::DuplicateName)
        .unwrap();
    assert!(duplicate.source.name.ends_with("b.yaml"));
    assert!(
        duplicate
            .related
            .as_ref()
            .unwrap()
            .0
            .name
            .ends_with("a.yaml")
    );
    assert!(
        problems
            .iter()
            .any(|problem| problem.code == Code::UnknownBackend)
    );
}

#[test]
fn one_object_stands_in_one_file_and_a_version_in_each() {
    let drain = "drain: { delay: 1s }\n";
    let folder = folder(&[("a.yaml", &format!("{LISTENER}{drain}")), ("b.yaml", drain)]);
    let found = codes(folder.path());
    assert!(
        found.contains(&Code::SecondObject) && found.contains(&Code::Version),
        "{found:?}"
    );
}

#[test]
fn a_broken_file_does_not_make_the_others_seem_wrong() {
    let folder = folder(&[("a.yaml", "listeners: [{"), ("b.yaml", ROUTE)]);
    assert_eq!(codes(folder.path()), [Code::Syntax]);
}

#[test]
fn what_cannot_be_read_is_told() {
    let empty = folder(&[]);
    assert_eq!(codes(empty.path()), [Code::NoFile]);
    assert_eq!(codes(&empty.path().join("none.yaml")), [Code::Unreadable]);
    assert_eq!(codes(Path::new("/dev/zero")), [Code::Unreadable]);
    for text in ["", "\n\n", "# only this\n", "---\n", "~"] {
        let folder = folder(&[("a.yaml", text)]);
        assert_eq!(codes(folder.path()), [Code::Empty], "{text:?}");
    }
}

#[test]
fn a_file_that_is_not_utf8_is_refused_with_the_place() {
    let folder = folder(&[]);
    let file = folder.path().join("a.yaml");
    fs::write(&file, b"version: 1\n# caf\xe9\n").unwrap();
    let problems = load(&file).unwrap_err();
    assert_eq!(problems[0].code, Code::NotUtf8);
    assert_eq!(
        problems[0].message,
        "the file is not UTF-8 text: byte 16 is 0xe9"
    );
    assert_eq!(problems[0].position(), Some((2, 6)));
    fs::write(
        &file,
        "\u{feff}version: 1\nlisteners: [{ name: web, address: \":80\" }]\r\n",
    )
    .unwrap();
    assert!(load(&file).is_ok(), "a byte-order mark and CRLF are fine");
}

#[test]
fn too_much_is_refused_before_it_is_read() {
    let folder = folder(&[]);
    // A hole of 20 MiB takes no room on the disk.
    for name in ["a.yaml", "b.yaml"] {
        File::create(folder.path().join(name))
            .unwrap()
            .set_len(20 << 20)
            .unwrap();
    }
    assert_eq!(codes(folder.path()), [Code::TooLarge]);
    let file = folder.path().join("c.yaml");
    File::create(&file).unwrap().set_len(50 << 20).unwrap();
    assert_eq!(codes(&file), [Code::TooLarge]);
    assert_eq!(fingerprint(&file), fingerprint(&file));
}

#[test]
fn the_first_place_that_exists_is_taken() {
    let folder = folder(&[("here.yaml", LISTENER)]);
    let (here, gone) = (
        folder.path().join("here.yaml"),
        folder.path().join("gone.yaml"),
    );
    let places = [&*gone, &*here];
    let explicit = Path::new("given.yaml");
    let variable = || Some(OsString::from("named.yaml"));
    assert_eq!(
        search_in(Some(explicit), variable(), &places).unwrap(),
        explicit
    );
    assert_eq!(
        search_in(None, variable(), &places).unwrap(),
        Path::new("named.yaml")
    );
    assert_eq!(
        search_in(None, Some(OsString::new()), &places).unwrap(),
        here
    );
    assert_eq!(search_in(None, None, &places).unwrap(), here);
    let problems = search_in(None, None, &places[..1]).unwrap_err();
    assert_eq!(problems[0].code, Code::NoFile);
}

#[test]
fn what_is_read_without_a_tree_is_the_same() {
    let nothing = |_: &str| None;
    let anchors = "version: 1\nlisteners: [{ name: web, address: \":80\" }]\n\
        routes: &all\n  - { name: a, hostnames: [a.example], rules: &rules [{ backendRefs: [{ name: v1 }] }] }\n\
        backends:\n  - &one { name: v1, endpoints: [{ address: \"127.0.0.1:81\" }] }\n  - { <<: *one, name: v2 }\n";
    for text in [
        LISTENER,
        anchors,
        include_str!("../../../config/full-reference.yaml"),
        include_str!("../../../config/ingress.yaml"),
    ] {
        let texts = [Arc::new(Source {
            name: "t.yaml".to_owned(),
            text: text.to_owned(),
        })];
        let (whole, warnings) = with_problems(&texts, &nothing).unwrap();
        let expected = warnings.is_empty().then_some(whole);
        assert_eq!(sound(&texts, &nothing), expected, "{warnings:?}");
    }
}
