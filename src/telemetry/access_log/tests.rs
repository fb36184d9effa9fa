//! Lines are compared with texts written by hand and read back with `serde_json`; the queue is tried
//! with outputs that block, fill up and tear.

use std::fs;
use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use proptest::prelude::{any, proptest};
use serde_json::{Value, json};

use super::*;

const FORMATS: [Format; 3] = [Format::Json, Format::Ecs, Format::Combined];

/// The line of the Apache manual, except that the client has no name and the time is in UTC.
fn apache() -> Record<'static> {
    Record {
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(971_211_336_007),
        listener: "web",
        route: Some("pages"),
        rule: Some("all"),
        backend: Some("pages-v1"),
        endpoint: Some(([10, 0, 0, 11], 8080).into()),
        choice: "weight",
        attempts: 1,
        reason: None,
        generation: 7,
        request_id: "01JD",
        trace_id: None,
        span_id: None,
        client: [127, 0, 0, 1].into(),
        client_port: Some(50_000),
        identity: None,
        method: "GET",
        scheme: "http",
        host: "www.example.com",
        path: "/apache_pb.gif",
        query: None,
        protocol: "HTTP/1.0",
        status: 200,
        request_bytes: 0,
        response_bytes: 2326,
        duration: Duration::from_micros(1_002_003),
        first_byte: Some(Duration::from_micros(900)),
        user_agent: Some(b"Mozilla/4.08 [en] (Win98; I ;Nav)"),
        referer: Some(b"http://www.example.com/start.html"),
    }
}

fn bare() -> Record<'static> {
    Record {
        route: None,
        rule: None,
        backend: None,
        endpoint: None,
        choice: "none",
        attempts: 0,
        reason: Some("no_route"),
        trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736"),
        span_id: Some("00f067aa0ba902b7"),
        client: "::ffff:192.0.2.1".parse().unwrap(),
        client_port: None,
        identity: Some("spiffe://shop.example/ns/a/sa/b"),
        scheme: "https",
        host: "[2001:db8::1]:8443",
        path: "/",
        query: Some("a=1&b=%20"),
        protocol: "HTTP/2",
        status: 404,
        first_byte: None,
        user_agent: None,
        referer: None,
        ..apache()
    }
}

fn line(format: Format, record: &Record<'_>) -> String {
    let mut out = Vec::new();
    format.write(record, &mut out);
    String::from_utf8(out).expect("lines are UTF-8")
}

fn parsed(format: Format, record: &Record<'_>) -> Value {
    serde_json::from_str(&line(format, record)).expect("lines are JSON")
}

// === formats ===

#[test]
fn combined_lines() {
    assert_eq!(
        line(Format::Combined, &apache()),
        "127.0.0.1 - - [10/Oct/2000:20:55:36 +0000] \"GET /apache_pb.gif HTTP/1.0\" 200 2326 \
         \"http://www.example.com/start.html\" \"Mozilla/4.08 [en] (Win98; I ;Nav)\"\n"
    );
    assert_eq!(
        line(Format::Combined, &bare()),
        "192.0.2.1 - - [10/Oct/2000:20:55:36 +0000] \"GET /?a=1&b=%20 HTTP/2\" 404 2326 \"-\" \"-\"\n"
    );
}

#[test]
fn json_lines() {
    assert_eq!(
        line(Format::Json, &apache()),
        concat!(
            r#"{"time":"2000-10-10T20:55:36.007Z","request_id":"01JD","client_ip":"127.0.0.1","#,
            r#""client_port":50000,"method":"GET","scheme":"http","host":"www.example.com","#,
            r#""path":"/apache_pb.gif","protocol":"HTTP/1.0","status":200,"request_bytes":0,"#,
            r#""response_bytes":2326,"duration_seconds":1.002003,"first_byte_seconds":0.000900,"#,
            r#""listener":"web","route":"pages","rule":"all","backend":"pages-v1","#,
            r#""endpoint":"10.0.0.11:8080","choice":"weight","attempts":1,"generation":7,"#,
            r#""referer":"http://www.example.com/start.html","#,
            r#""user_agent":"Mozilla/4.08 [en] (Win98; I ;Nav)"}"#,
            "\n"
        )
    );
    let bare = parsed(Format::Json, &bare());
    assert_eq!(bare["client_ip"], "192.0.2.1");
    assert_eq!(bare["query"], "a=1&b=%20");
    assert_eq!(bare["reason"], "no_route");
    assert_eq!(bare["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(bare["span_id"], "00f067aa0ba902b7");
    for absent in [
        "client_port",
        "route",
        "rule",
        "backend",
        "endpoint",
        "first_byte_seconds",
    ] {
        assert!(bare.get(absent).is_none(), "{absent}");
    }
}

#[test]
fn ecs_lines() {
    let peer = json!({ "address": "127.0.0.1", "ip": "127.0.0.1", "port": 50000 });
    assert_eq!(
        parsed(Format::Ecs, &apache()),
        json!({
            "@timestamp": "2000-10-10T20:55:36.007Z",
            "ecs": { "version": "9.4.0" },
            "event": {
                "kind": "event", "category": ["web"], "type": ["access"], "module": "weir",
                "dataset": "weir.access", "outcome": "success", "duration": 1_002_003_000,
            },
            "service": { "name": "weir", "type": "weir", "version": env!("CARGO_PKG_VERSION") },
            "client": peer,
            "source": peer,
            "http": {
                "version": "1.0",
                "request": {
                    "id": "01JD", "method": "GET", "body": { "bytes": 0 },
                    "referrer": "http://www.example.com/start.html",
                },
                "response": { "status_code": 200, "body": { "bytes": 2326 } },
            },
            "url": { "scheme": "http", "domain": "www.example.com", "path": "/apache_pb.gif" },
            "user_agent": { "original": "Mozilla/4.08 [en] (Win98; I ;Nav)" },
            "weir": {
                "listener": "web", "route": "pages", "rule": "all", "backend": "pages-v1",
                "endpoint": "10.0.0.11:8080", "choice": "weight", "attempts": 1, "generation": 7,
                "first_byte": { "duration": 900_000 },
            },
        })
    );
    let bare = parsed(Format::Ecs, &bare());
    assert_eq!(bare["url"]["domain"], "[2001:db8::1]");
    assert_eq!(bare["url"]["port"], 8443);
    assert_eq!(bare["event"]["outcome"], "failure");
    assert_eq!(bare["event"]["reason"], "no_route");
    assert_eq!(bare["trace"]["id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(bare["span"]["id"], "00f067aa0ba902b7");
    assert_eq!(bare["http"]["version"], "2");
}

#[test]
fn ecs_splits_the_port_off_the_host() {
    let cases = [
        ("shop.example.com", "shop.example.com", None),
        ("shop.example.com:80", "shop.example.com", Some(80)),
        ("[::1]", "[::1]", None),
        ("[::1]:80", "[::1]", Some(80)),
        ("::1", "::1", None),
        ("a:99999", "a:99999", None),
        ("", "", None),
    ];
    for (host, domain, port) in cases {
        let url = parsed(Format::Ecs, &Record { host, ..apache() })["url"].take();
        assert_eq!(url["domain"], domain, "{host}");
        assert_eq!(url["port"].as_u64(), port, "{host}");
    }
}

#[test]
fn times() {
    let cases = [
        (0, "1970-01-01T00:00:00.000Z", "01/Jan/1970:00:00:00 +0000"),
        (
            951_782_400_000,
            "2000-02-29T00:00:00.000Z",
            "29/Feb/2000:00:00:00 +0000",
        ),
        (
            1_798_761_599_999,
            "2026-12-31T23:59:59.999Z",
            "31/Dec/2026:23:59:59 +0000",
        ),
        (
            u64::MAX,
            "1970-01-01T00:00:00.000Z",
            "01/Jan/1970:00:00:00 +0000",
        ),
    ];
    for (milliseconds, json, combined) in cases {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds);
        let record = Record { time, ..apache() };
        assert_eq!(parsed(Format::Json, &record)["time"], json);
        assert!(
            line(Format::Combined, &record).contains(combined),
            "{combined}"
        );
    }
}

#[test]
fn hostile_bytes() {
    let cases: [(&[u8], &str, &str); 8] = [
        (b"a\nb\r\tc", r"a\nb\r\tc", r"a\x0ab\x0d\x09c"),
        (
            b"\"} {\"status\":200",
            r#"\"} {\"status\":200"#,
            r"\x22} {\x22status\x22:200",
        ),
        (b"\\", r"\\", r"\x5c"),
        (
            b"\x1b[2J\0\x7f",
            r"\u001b[2J\u0000\u007f",
            r"\x1b[2J\x00\x7f",
        ),
        (b"a\xffb\xc3", "a\u{fffd}b\u{fffd}", r"a\xffb\xc3"),
        (
            "\u{85}\u{9b}".as_bytes(),
            r"\u0085\u009b",
            r"\xc2\x85\xc2\x9b",
        ),
        (
            "\u{2028}\u{202e}".as_bytes(),
            r"\u2028\u202e",
            r"\xe2\x80\xa8\xe2\x80\xae",
        ),
        ("gr\u{fc}n".as_bytes(), "gr\u{fc}n", r"gr\xc3\xbcn"),
    ];
    for (bytes, json, combined) in cases {
        let record = Record {
            user_agent: Some(bytes),
            ..apache()
        };
        assert!(
            line(Format::Json, &record).ends_with(&format!("\"{json}\"}}\n")),
            "{json}"
        );
        assert!(
            line(Format::Ecs, &record).contains(&format!("\"original\":\"{json}\"")),
            "{json}"
        );
        let expected = format!(" \"{combined}\"\n");
        assert!(
            line(Format::Combined, &record).ends_with(&expected),
            "{combined}"
        );
    }
}

proptest! {
    /// Addresses are written by hand, and are what their `Display` says.
    #[test]
    fn any_address_is_written_as_it_is_shown(client in any::<IpAddr>(), endpoint in any::<SocketAddr>()) {
        let record = Record { client, endpoint: Some(endpoint), ..apache() };
        let (client, endpoint) = (client.to_canonical().to_string(), endpoint.to_string());
        let json = parsed(Format::Json, &record);
        assert_eq!((json["client_ip"].as_str(), json["endpoint"].as_str()), (Some(&*client), Some(&*endpoint)));
        assert!(line(Format::Combined, &record).starts_with(&format!("{client} - - [")));
    }

    #[test]
    fn any_bytes_make_one_line(raw in any::<Vec<u8>>(), text in any::<String>()) {
        let record = Record {
            host: &text, path: &text, query: Some(&text), method: &text, request_id: &text,
            user_agent: Some(&raw), referer: Some(&raw), ..apache()
        };
        for format in FORMATS {
            let line = line(format, &record);
            let body = line.strip_suffix('\n').expect("ends in a line feed");
            assert!(!body.contains(char::is_control), "{body:?}");
        }
        let json = parsed(Format::Json, &record);
        assert_eq!(json["path"], text.as_str());
        assert_eq!(json["user_agent"], String::from_utf8_lossy(&raw).as_ref());
        assert_eq!(parsed(Format::Ecs, &record)["url"]["query"], text.as_str());
    }
}

// === which requests, and what they may show ===

fn settings(format: Format) -> Settings {
    Settings {
        format,
        path: None,
        sample_percent: 100,
        slower_than: None,
        redact_query: false,
    }
}

#[test]
fn errors_and_slow_requests_escape_the_sample() {
    let sample = |sample_percent| {
        let slower_than = Some(Duration::from_secs(1));
        let settings = Settings {
            sample_percent,
            slower_than,
            ..settings(Format::Json)
        };
        AccessLog::start_with(settings, Box::new(io::sink()), 1 << 20)
    };
    let (none, _guard) = sample(0);
    let (ten, _guard) = sample(10);
    let (all, _guard) = sample(100);
    let (fast, slow) = (Duration::from_millis(999), Duration::from_secs(1));
    let cases = [
        (&none, 200, false, fast, 0, false),
        (&none, 499, false, fast, 0, false),
        (&none, 500, false, fast, 99, true),
        (&none, 200, true, fast, 99, true),
        (&none, 200, false, slow, 99, true),
        (&ten, 200, false, fast, 9, true),
        (&ten, 200, false, fast, 10, false),
        (&all, 200, false, fast, 99, true),
        (&AccessLog::off(), 500, true, slow, 0, false),
    ];
    for (at, (log, status, failed, duration, random, wanted)) in cases.into_iter().enumerate() {
        assert_eq!(
            log.wants(status, failed, duration, random),
            wanted,
            "case {at}"
        );
    }
}

#[test]
fn queries_are_redacted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let settings = Settings {
        path: Some(path.clone()),
        redact_query: true,
        ..settings(Format::Json)
    };
    let (log, guard) = AccessLog::start(settings).unwrap();
    let referer = Some(b"https://shop.example.com/pay?token=secret#secret".as_slice());
    log.write(&Record {
        query: Some("token=secret"),
        referer,
        ..apache()
    });
    log.write(&apache());
    drop(guard);
    let text = fs::read_to_string(path).unwrap();
    assert!(!text.contains("secret"), "{text}");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["query"], "redacted");
    assert_eq!(lines[0]["referer"], "https://shop.example.com/pay");
    assert!(lines[1].get("query").is_none());
}

#[test]
fn the_file_is_appended_to_and_reopened() {
    let folder = tempfile::tempdir().unwrap();
    let (path, rotated) = (
        folder.path().join("access.log"),
        folder.path().join("access.log.1"),
    );
    fs::write(&path, "kept\n").unwrap();
    let settings = Settings {
        path: Some(path.clone()),
        ..settings(Format::Combined)
    };
    let (log, guard) = AccessLog::start(settings).unwrap();
    log.write(&apache());
    wait_until(|| fs::read_to_string(&path).unwrap().lines().count() == 2);
    fs::rename(&path, &rotated).unwrap();
    log.reopen().unwrap();
    log.write(&apache());
    drop(guard);
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        line(Format::Combined, &apache())
    );
    assert!(
        fs::read_to_string(&rotated)
            .unwrap()
            .starts_with("kept\n127.0.0.1")
    );
    assert_eq!(log.dropped(), 0);

    log.write(&apache());
    assert_eq!(log.dropped(), 1, "nobody writes any more");
    fs::remove_dir_all(folder.path()).unwrap();
    assert!(log.reopen().is_err());
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error() {
    let path = Some(PathBuf::from("/nonexistent/folder/access.log"));
    assert!(
        AccessLog::start(Settings {
            path,
            ..settings(Format::Json)
        })
        .is_err()
    );
    AccessLog::off().write(&apache());
    assert_eq!(AccessLog::off().dropped(), 0);
    assert!(AccessLog::off().reopen().is_ok());
}

// === outputs that misbehave ===

/// Says when it is asked to write, waits until told how much it may take, and keeps that.
struct Slow {
    asked: Sender<usize>,
    told: Receiver<io::Result<usize>>,
    kept: Arc<Mutex<Vec<u8>>>,
}

struct Control {
    asked: Receiver<usize>,
    tell: Sender<io::Result<usize>>,
    kept: Arc<Mutex<Vec<u8>>>,
}

fn slow() -> (Control, queue::Output) {
    let ((asks, asked), (tell, told)) = (channel(), channel());
    let kept = Arc::new(Mutex::new(Vec::new()));
    let output = Slow {
        asked: asks,
        told,
        kept: Arc::clone(&kept),
    };
    (Control { asked, tell, kept }, Box::new(output))
}

impl Write for Slow {
    /// Once the test holds no control any more, everything is taken.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.asked.send(bytes.len()).ok();
        let taken = self.told.recv().unwrap_or(Ok(usize::MAX))?.min(bytes.len());
        self.kept.lock().unwrap().extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Control {
    fn kept(&self) -> MutexGuard<'_, Vec<u8>> {
        self.kept.lock().unwrap()
    }
}

fn wait_until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "waited in vain");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_blocked_output_drops_and_counts_but_never_blocks() {
    let (control, output) = slow();
    let (log, guard) = AccessLog::start_with(settings(Format::Json), output, 64 << 10);
    log.write(&apache());
    let size = control.asked.recv().unwrap();
    let start = Instant::now();
    for _ in 0..10_000 {
        log.write(&apache());
    }
    let huge = "\u{1}".repeat(64 << 10);
    log.write(&Record {
        path: &huge,
        ..apache()
    });
    assert!(start.elapsed() < Duration::from_secs(5), "a write waited");
    let fit = (64 << 10) / size.max(512);
    assert_eq!(log.dropped(), 10_001 - fit as u64);

    let kept = Arc::clone(&control.kept);
    drop(control);
    drop(guard);
    let kept = kept.lock().unwrap();
    assert_eq!(kept.iter().filter(|&&byte| byte == b'\n').count(), 1 + fit);
    assert_eq!(log.dropped(), 10_001 - fit as u64);
}

#[test]
fn a_stuck_output_does_not_hold_up_the_end() {
    let (control, output) = slow();
    let (log, guard) = AccessLog::start_with(settings(Format::Json), output, 4 << 10);
    for _ in 0..100 {
        log.write(&apache());
    }
    control.asked.recv().unwrap();
    let start = Instant::now();
    drop(guard);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_full_disk_loses_whole_lines_and_is_survived() {
    let full = || Err(io::ErrorKind::StorageFull.into());
    let (control, output) = slow();
    let (queue, guard) = Queue::start("test", output, 1 << 20, GATHERED_FOR);

    queue.push(b"first\n");
    control.asked.recv().unwrap();
    queue.push(b"second\n");
    queue.push(b"third\n");
    control.tell.send(Ok(usize::MAX)).unwrap();
    // "second" fits, of "third" only a part.
    control.asked.recv().unwrap();
    control.tell.send(Ok(9)).unwrap();
    control.asked.recv().unwrap();
    control.tell.send(full()).unwrap();
    wait_until(|| queue.dropped() == 1);

    queue.push(b"fourth\n");
    assert_eq!(
        control.asked.recv().unwrap(),
        8,
        "the torn line is ended first"
    );
    control.tell.send(full()).unwrap();
    wait_until(|| queue.dropped() == 2);

    queue.push(b"fifth\n");
    control.asked.recv().unwrap();
    control.tell.send(Ok(usize::MAX)).unwrap();
    wait_until(|| control.kept().ends_with(b"fifth\n"));
    assert_eq!(*control.kept(), b"first\nsecond\nth\nfifth\n");
    assert_eq!(queue.dropped(), 2);
    drop(control);
    drop(guard);
}

#[test]
fn a_new_output_does_not_inherit_a_torn_line() {
    let (control, output) = slow();
    let (queue, guard) = Queue::start("test", output, 1 << 20, GATHERED_FOR);
    queue.push(b"first\n");
    control.asked.recv().unwrap();
    control.tell.send(Ok(3)).unwrap();
    control.asked.recv().unwrap();
    control
        .tell
        .send(Err(io::ErrorKind::BrokenPipe.into()))
        .unwrap();
    wait_until(|| queue.dropped() == 1);

    let (next, output) = slow();
    queue.replace(output);
    next.tell
        .send(Err(io::ErrorKind::WouldBlock.into()))
        .unwrap();
    next.tell
        .send(Err(io::ErrorKind::Interrupted.into()))
        .unwrap();
    next.tell.send(Ok(usize::MAX)).unwrap();
    queue.push(b"second\n");
    wait_until(|| *next.kept() == b"second\n");
    assert_eq!(queue.dropped(), 1);
    drop((control, next));
    drop(guard);
}
