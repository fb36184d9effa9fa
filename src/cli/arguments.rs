//! Every verb and option, as clap reads them.
//!
//! Must not know what a verb does.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::client::AdminAddress;
use super::simulate::{at_least, percentage};
use crate::config::values::Duration;

/// Divide HTTP traffic between the versions of a service, and change the division without dropping a
/// request.
#[derive(Debug, Parser)]
#[command(
    name = "weir",
    version,
    about,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run the proxy with a configuration file or folder
    Run(RunOptions),
    /// Run the proxy without a file: one listener, a weight for each backend
    Quick(QuickOptions),
    /// Show a rollout, or a split, at work with built-in backends and traffic; needs nothing else
    Demo(DemoOptions),
    /// Measure what the proxy adds on this machine: built-in backends, asked directly and through it
    Bench(BenchOptions),
    /// Check a configuration and print every problem
    Check(CheckOptions),
    /// Say which rule and backend a request would get, and why
    Explain(ExplainOptions),
    /// Say how long a bad candidate would stay unseen, and what it would cost
    Simulate(SimulateOptions),
    /// Watch and steer the rollouts of a running proxy
    Rollout(RolloutOptions),
    /// Ask a running proxy how it is
    Status(ShowOptions),
    /// Ask a running proxy for its listeners
    Listeners(ShowOptions),
    /// Ask a running proxy for its routes and their observed split
    Routes(ShowOptions),
    /// Ask a running proxy for its backends
    Backends(ShowOptions),
    /// Ask a running proxy for its certificates
    Certificates(ShowOptions),
    /// Make throw-away certificates
    Cert(CertOptions),
    /// Exit with 0 when a running proxy is alive (or ready); for images without curl
    Healthcheck(HealthcheckOptions),
    /// Print the JSON Schema of the configuration file
    Schema,
    /// Print completions for a shell
    Completions(CompletionsOptions),
    /// Print the manual page
    Man,
    /// Print the version
    Version,
}

/// Options of everything that serves.
#[derive(Debug, Args)]
pub(crate) struct ServeOptions {
    /// Threads of the data path [default: what the machine or the cgroup allows]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), env = "WEIR_WORKERS")]
    pub(crate) workers: Option<u16>,
    /// Address of the admin listener, in place of the configured one
    #[arg(long, value_name = "ADDRESS", env = "WEIR_ADMIN")]
    pub(crate) admin: Option<SocketAddr>,
    /// Level of the program log: error, warn, info, debug, or directives such as `weir=debug`
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "WEIR_LOG")]
    pub(crate) log: String,
}

/// `weir run`
#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    /// File or folder [default: $WEIR_CONFIG, ./weir.yaml, /etc/weir/weir.yaml]
    #[arg(long, short, value_name = "PATH")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) serve: ServeOptions,
}

/// `weir quick`
#[derive(Debug, Args)]
pub(crate) struct QuickOptions {
    /// Address to accept connections on
    #[arg(long, short, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) listen: String,
    /// A backend and its weight: URL, or URL=WEIGHT; repeat for more
    #[arg(long, short, value_name = "URL[=WEIGHT]", required = true)]
    pub(crate) to: Vec<String>,
    /// Keep a client on one backend by a cookie of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) cookie: Option<String>,
    /// Speak TLS with the certificate in this file, and its chain
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate: Option<PathBuf>,
    /// Its private key [default: in the same file]
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(crate) key: Option<PathBuf>,
    /// Let in only clients with a certificate of these authorities
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(crate) client_ca: Option<PathBuf>,
    /// Believe only these authorities for backends with https:// [default: those of the system]
    #[arg(long, value_name = "FILE")]
    pub(crate) backend_ca: Option<PathBuf>,
    /// Print the configuration that this stands for, and exit
    #[arg(long)]
    pub(crate) print_config: bool,
    #[command(flatten)]
    pub(crate) serve: ServeOptions,
}

/// `weir demo`
#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    /// Break the candidate in the middle of its rollout, and see it rolled back
    #[arg(long, value_name = "WHO")]
    pub(crate) fail: Option<Breaks>,
    /// Write what was decided, and from what, to this file, as `weir rollout history -o json` prints it
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    /// Stop after this many requests; without --fail, with weights that stay as they are
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) requests: Option<u64>,
    /// Weights of the two built-in backends
    #[arg(long, value_name = "STABLE/CANDIDATE", default_value = "95/5")]
    pub(crate) weights: String,
    /// Requests a second [default: 400, with --requests 2000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rps: Option<u32>,
    /// Address of the proxy [default: a free port]
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// Address of the admin listener [default: a free port]
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) admin: SocketAddr,
    /// Threads of the data path
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) workers: Option<u16>,
}

/// `weir bench`
#[derive(Debug, Args)]
pub(crate) struct BenchOptions {
    /// File or folder to measure, built-in backends in the place of its own [default: a plain split]
    #[arg(long, short, value_name = "PATH")]
    pub(crate) config: Option<PathBuf>,
    /// What is asked for, by GET [default: what its first rule that takes any GET matches]
    #[arg(long, value_name = "URL", requires = "config")]
    pub(crate) url: Option<String>,
    /// How long it takes, beside a warm-up of half as long
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub(crate) duration: Duration,
    /// Connections of the load
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) connections: u16,
    /// Requests a second for the latencies [default: half of what the proxy has managed]
    #[arg(long, value_name = "N", value_parser = |text: &str| at_least(1.0, text))]
    pub(crate) rate: Option<f64>,
    /// Threads of the data path
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) workers: u16,
    /// How the answer is printed
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// Who breaks in the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Breaks {
    /// The new version
    Candidate,
}

/// `weir check`
#[derive(Debug, Args)]
pub(crate) struct CheckOptions {
    /// File or folder [default: $WEIR_CONFIG, ./weir.yaml, /etc/weir/weir.yaml]
    pub(crate) path: Option<PathBuf>,
    /// How problems are printed
    #[arg(long, value_enum, default_value_t = ProblemFormat::Human)]
    pub(crate) format: ProblemFormat,
}

/// How problems are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProblemFormat {
    /// For people, with the source line
    Human,
    /// For programs, on standard output
    Json,
}

/// `weir explain`
#[derive(Debug, Args)]
pub(crate) struct ExplainOptions {
    /// The method
    pub(crate) method: String,
    /// The URL, with scheme and host
    pub(crate) url: String,
    /// A header field of the request; repeat for more
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    /// File or folder [default: $WEIR_CONFIG, ./weir.yaml, /etc/weir/weir.yaml]
    #[arg(long, short, value_name = "PATH")]
    pub(crate) config: Option<PathBuf>,
    /// Address of the client
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) client: std::net::IpAddr,
    /// Who the client is by its certificate: a URI, a DNS name, or `subject:` and a subject
    #[arg(long, value_name = "NAME")]
    pub(crate) identity: Option<String>,
    /// Choose this many times and show how often each backend came
    #[arg(short = 'n', value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) repeat: u32,
    /// How the answer is printed
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// `weir simulate`
#[derive(Debug, Args)]
pub(crate) struct SimulateOptions {
    /// Requests a second, over both versions
    #[arg(long, value_name = "N", default_value = "400", value_parser = |text: &str| at_least(0.01, text))]
    pub(crate) rps: f64,
    /// The candidate's share of them
    #[arg(long, value_name = "PERCENT", default_value = "5%", value_parser = percentage)]
    pub(crate) weight: f64,
    /// How many of its requests stable fails
    #[arg(long, value_name = "PERCENT", default_value = "0.1%", value_parser = percentage)]
    pub(crate) stable_errors: f64,
    /// How many the candidate fails; repeat for more [default: 100%, 5%, 1%, 0.5%]
    #[arg(long, value_name = "PERCENT", value_parser = percentage)]
    pub(crate) candidate_errors: Vec<f64>,
    /// How many times as long the candidate takes; repeat for more [default: 2, 1.2]
    #[arg(long, value_name = "FACTOR", value_parser = |text: &str| at_least(0.01, text))]
    pub(crate) candidate_slower: Vec<f64>,
    /// How long a request takes until it is answered, or fails
    #[arg(long, value_name = "DURATION", default_value = "50ms")]
    pub(crate) latency: Duration,
    /// Different clients; 0 when every request is from another
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub(crate) keys: u32,
    /// How many of the candidate's requests may be retried on stable
    #[arg(long, value_name = "PERCENT", default_value = "20%", value_parser = percentage)]
    pub(crate) shield: f64,
    /// Greatest probability that a good candidate is rolled back
    #[arg(long, value_name = "PERCENT", default_value = "0.1%", value_parser = percentage)]
    pub(crate) false_alarm: f64,
    /// How many times as often the candidate may fail as stable
    #[arg(long, value_name = "FACTOR", default_value = "1.25", value_parser = |text: &str| at_least(1.0, text))]
    pub(crate) error_tolerance: f64,
    /// How many times as often it may be slow; 1.5 lets a candidate pass that is about a tenth slower
    #[arg(long, value_name = "FACTOR", default_value = "1.5", value_parser = |text: &str| at_least(1.0, text))]
    pub(crate) slow_tolerance: f64,
    /// How long a rollout lasts in which nothing is seen
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    pub(crate) horizon: Duration,
    /// How often each candidate is tried
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) runs: u32,
    /// Where chance begins; the same number gives the same answer
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// How the answer is printed
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// Options of the verbs that ask a running proxy.
#[derive(Debug, Args)]
pub(crate) struct ShowOptions {
    /// Address of its admin listener, or `unix:` and the path of its socket
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:14490",
        env = "WEIR_ADMIN"
    )]
    pub(crate) admin: AdminAddress,
    /// How the answer is printed
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// `weir rollout`
#[derive(Debug, Args)]
pub(crate) struct RolloutOptions {
    #[command(subcommand)]
    pub(crate) what: RolloutVerb,
}

/// What to do with rollouts.
#[derive(Debug, Subcommand)]
pub(crate) enum RolloutVerb {
    /// Every rollout, a line each
    List(ShowOptions),
    /// How a rollout stands, and why
    Status(RolloutStatusOptions),
    /// On to the next step, or to all of the traffic, without waiting for evidence
    Promote(RolloutPromoteOptions),
    /// Stay at this weight; the guard goes on
    Pause(RolloutCommandOptions),
    /// Go on; a weight that was set ends
    Resume(RolloutCommandOptions),
    /// All traffic to stable
    Abort(RolloutCommandOptions),
    /// Begin again after a rollback or an abort
    Retry(RolloutCommandOptions),
    /// Another weight than the plan's
    SetWeight(RolloutWeightOptions),
    /// What was decided, by whom and why
    History(RolloutNameOptions),
    /// Judge what a record was decided from again, with this program
    Replay(RolloutReplayOptions),
}

/// Which rollout of which proxy.
#[derive(Debug, Args)]
pub(crate) struct RolloutNameOptions {
    /// Its name; may be absent when there is one only
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) show: ShowOptions,
}

/// `weir rollout status`
#[derive(Debug, Args)]
pub(crate) struct RolloutStatusOptions {
    #[command(flatten)]
    pub(crate) of: RolloutNameOptions,
    /// Show it again and again until it is over; exit with 1 when the candidate did not make it
    #[arg(long, short)]
    pub(crate) watch: bool,
}

/// What every command says.
#[derive(Debug, Args)]
pub(crate) struct RolloutCommandOptions {
    #[command(flatten)]
    pub(crate) of: RolloutNameOptions,
    /// Why; for those who look at the history
    #[arg(long, short, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
    /// Who asks
    #[arg(
        long,
        value_name = "NAME",
        env = "USER",
        default_value = "weir rollout",
        hide_env_values = true
    )]
    pub(crate) owner: String,
    /// A file with the token of the admin listener
    #[arg(long, value_name = "FILE", env = "WEIR_ADMIN_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

/// `weir rollout promote`
#[derive(Debug, Args)]
pub(crate) struct RolloutPromoteOptions {
    #[command(flatten)]
    pub(crate) command: RolloutCommandOptions,
    /// On to all of the traffic
    #[arg(long)]
    pub(crate) full: bool,
}

/// `weir rollout set-weight`
#[derive(Debug, Args)]
pub(crate) struct RolloutWeightOptions {
    /// The candidate's part of what both get
    #[arg(long, short, value_name = "PERCENT", value_parser = percentage)]
    pub(crate) weight: f64,
    /// When it ends by itself [default: when somebody resumes]
    #[arg(long = "for", value_name = "DURATION")]
    pub(crate) lasts: Option<Duration>,
    #[command(flatten)]
    pub(crate) command: RolloutCommandOptions,
}

/// `weir rollout replay`
#[derive(Debug, Args)]
pub(crate) struct RolloutReplayOptions {
    /// A record, or what `weir rollout history -o json` prints; - for standard input
    pub(crate) file: PathBuf,
    /// How the answer is printed
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Table,
    /// For programs
    Json,
    /// For people who like it
    Yaml,
}

/// `weir cert`
#[derive(Debug, Args)]
pub(crate) struct CertOptions {
    #[command(subcommand)]
    pub(crate) what: CertVerb,
}

/// What to make.
#[derive(Debug, Subcommand)]
pub(crate) enum CertVerb {
    /// Make an authority, a server's and a client's certificate for trying things out
    Dev(CertDevOptions),
}

/// `weir cert dev`
#[derive(Debug, Args)]
pub(crate) struct CertDevOptions {
    /// Folder for the files
    #[arg(default_value = "certs")]
    pub(crate) folder: PathBuf,
    /// A name or address of the server; repeat for more
    #[arg(long = "name", value_name = "NAME", default_values = ["localhost", "127.0.0.1", "::1"])]
    pub(crate) names: Vec<String>,
    /// The client's identity
    #[arg(
        long,
        value_name = "URI",
        default_value = "spiffe://dev.example/ns/default/sa/client"
    )]
    pub(crate) identity: String,
    /// Days until they end
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=3650))]
    pub(crate) days: u16,
}

/// `weir healthcheck`
#[derive(Debug, Args)]
pub(crate) struct HealthcheckOptions {
    /// Ask whether it is ready for traffic, not just alive
    #[arg(long)]
    pub(crate) ready: bool,
    /// Address of its admin listener, or `unix:` and the path of its socket
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:14490",
        env = "WEIR_ADMIN"
    )]
    pub(crate) admin: AdminAddress,
}

/// `weir completions`
#[derive(Debug, Args)]
pub(crate) struct CompletionsOptions {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}
