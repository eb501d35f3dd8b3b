//! Tells the package which compiler built it, and from which commit, for `corelane --version`.
//!
//! The commit is what the variable `CORELANE_COMMIT` says: asked of git, it would be wrong as soon as the
//! next commit did not touch this package.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=RUSTC");
    println!("cargo:rerun-if-env-changed=CORELANE_COMMIT");
    let commit = std::env::var("CORELANE_COMMIT").unwrap_or_else(|_| "commit unknown".to_owned());
    println!("cargo:rustc-env=CORELANE_COMMIT={commit}");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = Command::new(rustc).arg("--version").output().ok().filter(|output| output.status.success());
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    println!("cargo:rustc-env=CORELANE_RUSTC={}", version.unwrap_or_else(|| "rustc unknown".to_owned()));
}
