//! The table "HTTP/1 messages" of the hardening rules: raw bytes, and what becomes of them.
//!
//! The cases are data: [`cases`] says how they are written. Whatever a case expects of itself, every
//! message that a backend or a client gets must be [`canonical`].

mod canonical;
mod cases;
mod client;
mod mutation;
mod recorder;
mod requests;
mod responses;
