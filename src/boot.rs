//! The only place that builds a running proxy: pins workers, joins mailboxes, opens doors; stops in reverse.

use std::path::Path;

use crate::config::Settings;

/// Why a proxy could not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    #[error("not built yet")]
    NotBuilt,
}

/// Runs until SIGTERM or SIGINT. Reads `config_path` again on SIGHUP.
pub fn serve(_settings: Settings, _config_path: &Path) -> Result<(), BootError> {
    Err(BootError::NotBuilt)
}
