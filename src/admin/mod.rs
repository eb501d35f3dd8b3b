//! Admin door (in progress).
pub mod grammar;
mod lexer;
pub mod show;
