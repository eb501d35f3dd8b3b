//! The configuration: from a TOML file to [`Settings`], or to every mistake that is in it.
//!
//! One file is the only source; what it leaves out has the default that [`schema`] names. Reading is
//! total: either all is right and there are settings, or there are [`Mistakes`] and nothing else.
//! Host names are not resolved and no socket is opened here, so a file can be checked on any machine.

pub mod access;
mod accounts;
mod address;
mod assemble;
pub mod certificates;
pub mod change;
pub mod check;
pub mod manual;
mod mask;
pub mod mistake;
pub mod near;
mod reader;
pub mod schema;
pub mod settings;
mod syntax;
pub mod tls;
mod value;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use toml::de::DeTable;

pub use mistake::{Mistake, Mistakes};
pub use settings::Settings;

/// The bytes that a configuration file may have: far more than 1024 CNs and 10,000 users need.
const FILE_MAX: u64 = 16 << 20;

/// Reads the settings from a file.
pub fn load(path: &Path) -> Result<Settings, Mistakes> {
    let name = path.display().to_string();
    let bytes = bytes_of(path).map_err(|error| Mistakes::unreadable(&name, error.to_string()))?;
    match String::from_utf8(bytes) {
        Ok(text) => read(&text, &name),
        Err(error) => Err(not_utf8(&name, &error)),
    }
}

/// Reads the settings from a text. `file_name` stands in messages, and paths in the text are relative to
/// its directory.
pub fn read(text: &str, file_name: &str) -> Result<Settings, Mistakes> {
    let directory = Path::new(file_name).parent().unwrap_or(Path::new(""));
    let mut mistakes = Mistakes::about(file_name, text);
    let sound = syntax::sound_part(text, &mut mistakes);
    let (root, _) = DeTable::parse_recoverable(&sound);
    if mistakes.is_empty() {
        let settings = assemble::settings(root.get_ref(), directory, &mut mistakes);
        return if mistakes.is_empty() { Ok(settings) } else { Err(mistakes.sorted()) };
    }
    // Of a file with broken lines only what is there can be judged, not what is missing.
    let mut rest = Mistakes::about(file_name, text);
    assemble::settings(root.get_ref(), directory, &mut rest);
    let broken: Vec<usize> = mistakes.list().iter().map(|mistake| mistake.line).collect();
    for mistake in rest.into_list() {
        if !broken.contains(&mistake.line) && !mistake.is_about_absence() {
            mistakes.absorb(mistake);
        }
    }
    Err(mistakes.sorted())
}

fn bytes_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("has more than {FILE_MAX} bytes")));
    }
    Ok(bytes)
}

fn not_utf8(name: &str, error: &std::string::FromUtf8Error) -> Mistakes {
    let at = error.utf8_error().valid_up_to();
    let text = String::from_utf8_lossy(error.as_bytes());
    let mut mistakes = Mistakes::about(name, &text);
    let message = format!("byte 0x{:02x} is not UTF-8", error.as_bytes()[at]);
    mistakes.push(Some(at..at + char::REPLACEMENT_CHARACTER.len_utf8()), message, None);
    mistakes
}
