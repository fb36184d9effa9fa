//! The real binary over real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may fail anywhere"
)]

mod support;

mod access;
mod access_log;
mod admin;
mod age;
mod balancing;
mod chaos;
mod clients;
mod command_line;
mod compression;
mod connection_limits;
mod cors;
mod discovery;
mod drain;
mod fault_injection;
mod faults;
mod grpc;
mod h2;
mod health;
mod hedge;
mod http2;
mod identity;
mod interim;
mod keys;
mod lifecycle;
mod limits;
mod matching;
mod mirror;
mod modifiers;
mod outlier;
mod parked;
mod preconnect;
mod protocol;
mod proxy_protocol;
mod rates;
mod raw;
mod redirect;
mod reload;
mod retry;
mod reuse;
mod rollout;
mod rollout_promises;
mod rollout_tables;
mod routing;
mod series;
mod simulate;
mod slow;
mod split;
mod tls;
mod upstream;
mod websocket;
