//! Weir divides HTTP traffic between the versions of a service, and changes the division without
//! dropping a request.
//!
//! # The life of a request
//!
//! 1. [`listener`] accepts a connection on one of its workers, shakes hands where it has TLS
//!    ([`tls`]) and hands it to [`http`], which finds out which HTTP it speaks and reads a
//!    head, by itself or with hyper or `h2`.
//! 2. [`proxy::handler`](proxy) takes one look at the [`snapshot`] and everything after uses that:
//!    canonical authority and path ([`http`]), the rule ([`route`]), the backend ([`split`]), the
//!    endpoint and a connection to it ([`upstream`]).
//! 3. The response's body runs through; when it ends or breaks, the request is recorded once
//!    ([`telemetry`]).
//!
//! # The life of a change
//!
//! [`config`] reads what was written, [`snapshot`] compiles it, [`app`] publishes it with one swap
//! and tells [`listener`] what came and went. Whatever fails on the way leaves everything as it was.
//! A rollout changes a rule's division without any of this: [`proxy`] counts what fails, [`steering`] lets
//! [`rollout`] judge it and replaces one value of the rule.
//! [`admin`] shows it all; [`cli`] is the way in; [`drain`] is the way out.
//!
//! # Who may use whom
//!
//! From low to high; a module uses lower ones only, and `tests/architecture.rs` keeps it so:
//! `aside` | `config`, `telemetry`, `drain`, `proxy_protocol` | `tls` | `route`, `split`, `rollout`, `http` |
//! `upstream` | `snapshot` | `proxy`, `steering` | `listener`, `admin` | `app` | `cli` | `fuzz`, `measured`.
//!
//! # Invariants
//!
//! - A worker is one thread with one runtime; nothing on the request path is written by two of them
//!   but padded atomics.
//! - A request sees exactly one generation of the configuration.
//! - Nothing that comes from the network or a file can panic.
//!
//! The library target exists so that tests and benches can link; it has no other users.

#![allow(
    rustdoc::private_intra_doc_links,
    reason = "this is read by those who work on it"
)]

// mimalloc 3 against jemalloc 5.3 (decay of a second, background threads) and glibc 2.36: instructions of a
// request over HTTP/1 49.4k, 49.8k, 51.3k and over HTTP/2 70.1k, 71.2k, 75.1k; resident after start 13.8, 14.0,
// 12.6 MiB, an idle connection of 10,000 3.9, 4.1, 9.8 KiB, after load over 256 connections 15, 20, 29 MiB.
// jemalloc is also half a megabyte more of program, and wants `make`. Without huge pages (`no_thp`): with them
// the first 10 MiB were empty. `app::memory` reminds it of what is free.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod cli;

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod measured;

mod app;

mod http;
mod listener;
mod proxy;
pub mod rollout;
pub mod route;
mod snapshot;
pub mod split;
mod steering;
mod tls;
mod upstream;

mod admin;
mod aside;
pub mod config;
mod drain;
pub mod proxy_protocol;
mod telemetry;
