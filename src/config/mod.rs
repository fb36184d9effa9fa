//! The configuration: what an operator may write, how it is found, read and checked, and what is
//! said when it is wrong.
//!
//! Owns the way from bytes to a [`Document`] in which every name resolves. Must not know what is
//! built from it: nothing of this crate but `aside` is imported here.
//!
//! A file becomes a tree of nodes with places (`yaml`), the tree becomes the document by way of
//! serde (`decode`), and what no single value can tell is checked over all files (`check`). Each
//! step goes on after a problem, so that all of them are told at once. The whole tree is there only
//! when there is something to tell: first the files are read without (`decode::sound`).

pub mod document;
pub mod values;

mod file;
mod yaml;

mod decode;

mod check;
mod expression;
mod suggest;

pub mod problem;
mod schema;
mod watch;

pub use document::Document;
pub use expression::compile as compile_expression;
pub use file::{Loaded, PLACES, VARIABLE, endpoints, load, parse, search};
pub use problem::{Code, Problem, Severity};
pub use schema::schema;
pub use watch::{Seen, Watch};

#[cfg(test)]
mod tests;
