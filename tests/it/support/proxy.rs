//! The real binary, started on free ports and stopped with a check of its exit.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::client::{self, Response};
use super::eventually;

/// A running proxy. Killed when dropped.
pub(crate) struct Proxy {
    child: Child,
    log: Arc<Mutex<Vec<serde_json::Value>>>,
    admin: SocketAddr,
    file: PathBuf,
    /// Standard output, read all the time so that the pipe never fills.
    out: Option<JoinHandle<String>>,
    folder: Option<tempfile::TempDir>,
}

impl Proxy {
    /// Starts with a configuration; waits until it is ready.
    pub(crate) fn start(config: &str) -> Self {
        Self::start_with(config, &["--workers", "2"])
    }

    pub(crate) fn start_with(config: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weir.yaml");
        std::fs::write(&file, config).unwrap();
        let mut proxy = Self::start_path(&file, arguments);
        proxy.folder = Some(folder);
        proxy
    }

    /// Starts with a file or folder that the caller keeps.
    pub(crate) fn start_path(path: &Path, arguments: &[&str]) -> Self {
        let file = path.to_owned();
        let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["run", "--admin", "127.0.0.1:0", "--config"])
            .arg(&file)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, sink) = (
            BufReader::new(child.stderr.take().unwrap()),
            Arc::clone(&log),
        );
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or(serde_json::Value::String(line));
                sink.lock().unwrap().push(event);
            }
        });
        let mut stdout = child.stdout.take().unwrap();
        let out = std::thread::spawn(move || {
            let mut text = String::new();
            // An end is an end, whatever its reason.
            drop(stdout.read_to_string(&mut text));
            text
        });
        let find = |message: &str| {
            let log = log.lock().unwrap();
            let event = log.iter().find(|event| event["message"] == message)?;
            event["address"].as_str()?.parse::<SocketAddr>().ok()
        };
        let admin = eventually("the admin address", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("ended with {status}: {:?}", log.lock().unwrap());
            }
            find("admin listening")
        });
        let proxy = Self {
            child,
            log,
            admin,
            file,
            out: Some(out),
            folder: None,
        };
        eventually("readiness", || {
            (proxy.ask("/ready").status == 200).then_some(())
        });
        proxy
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The configuration file.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// A page of the admin listener.
    pub(crate) fn ask(&self, path: &str) -> Response {
        client::get(self.admin, "localhost", path, &[])
    }

    pub(crate) fn json(&self, path: &str) -> serde_json::Value {
        serde_json::from_str(&self.ask(path).body).unwrap()
    }

    /// Where a listener really is.
    pub(crate) fn addr(&self, listener: &str) -> SocketAddr {
        let listeners = self.json("/api/v1/listeners");
        let found = listeners
            .as_array()
            .unwrap()
            .iter()
            .find(|l| l["name"] == listener)
            .unwrap();
        found["bound"].as_str().unwrap().parse().unwrap()
    }

    /// The sum of all series of a metric whose labels contain every given text.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.ask("/metrics").body;
        let series = text.lines().filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        series
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Replaces the file by renaming, as editors do.
    pub(crate) fn write_config(&self, config: &str) {
        let next = self.file.with_extension("next");
        std::fs::write(&next, config).unwrap();
        std::fs::rename(&next, &self.file).unwrap();
    }

    pub(crate) fn wait_generation(&self, generation: u64) {
        eventually("the generation", || {
            (self.json("/api/v1/status")["generation"].as_u64()? >= generation).then_some(())
        });
    }

    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &self.child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Waits for the end after a signal; returns the access log.
    pub(crate) fn wait(mut self) -> String {
        let status = eventually("the end of the process", || self.child.try_wait().unwrap());
        let log = self.program_log();
        assert!(
            status.success() && !log.contains("panicked"),
            "{status}: {log}"
        );
        self.out.take().unwrap().join().unwrap()
    }

    /// Everything in the program log so far, as text.
    pub(crate) fn program_log(&self) -> String {
        let log = self.log.lock().unwrap();
        log.iter().map(|event| format!("{event}\n")).collect()
    }

    /// Drains and ends; nothing may have panicked.
    pub(crate) fn stop(self) -> String {
        assert!(
            self.metric("weir_panics_total", &[]) < 0.5,
            "{:?}",
            self.log.lock().unwrap()
        );
        self.signal("TERM");
        self.wait()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.program_log();
            let lines: Vec<_> = log.lines().collect();
            let newest = lines.len().saturating_sub(20);
            eprintln!("the program log's end:\n{}", lines[newest..].join("\n"));
        }
        // It has ended already when the test went well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Adds fields to the listener `web` of a [`config`].
pub(crate) fn with_listener(config: &str, fields: &str) -> String {
    let address = "address: \"127.0.0.1:0\"";
    config.replacen(address, &format!("{address}, {fields}"), 1)
}

/// A configuration whose only rule sends everything to the backend.
pub(crate) fn all_to(backend: SocketAddr) -> String {
    let routes = "  - { name: r, rules: [{ name: all, backendRefs: [{ name: v1 }] }] }\n";
    config(routes, &[("v1", backend)])
}

/// A configuration with one listener `web`, the given routes and backends by name.
pub(crate) fn config(routes: &str, backends: &[(&str, SocketAddr)]) -> String {
    let backends: String = backends
        .iter()
        .map(|(name, address)| {
            format!("  - {{ name: {name}, endpoints: [{{ address: \"{address}\" }}] }}\n")
        })
        .collect();
    format!(
        "version: 1\naccessLog: {{ format: json }}\ndrain: {{ delay: 0s, timeout: 5s }}\n\
         listeners:\n  - {{ name: web, address: \"127.0.0.1:0\" }}\nroutes:\n{routes}\nbackends:\n{backends}"
    )
}
