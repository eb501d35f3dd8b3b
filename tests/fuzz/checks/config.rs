//! Any text as a configuration: settings, or mistakes each of which has a place in the file and words, and no words tell a password.
//! Settings differ in nothing from themselves, and what a process has in force of others is all that it can take up of them.
//!
//! Input: the text. Texts that name a file by its whole path are left out, so that nothing of the machine is read.

use corelane::config::change::{Effect, between, in_force};
use corelane::config::mistake::Mistakes;
use corelane::config::{Settings, read};

/// A directory that is not there.
const FILE: &str = "no such directory/corelane.toml";
/// Mistakes of one file, for each of its bytes.
const MISTAKES_PER_BYTE: usize = 4;
/// A line of the seeds, and the secret in it.
const SECRET_LINE: &str = "password = 'hush-hush-42'";
const SECRET: &str = "hush-hush-42";

pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if names_files(&text) {
        return;
    }
    match read(&text, FILE) {
        Ok(settings) => check_settings(&settings, &text),
        Err(mistakes) => check_mistakes(&mistakes, &text),
    }
}

/// Of this machine, or of its environment.
fn names_files(text: &str) -> bool {
    let text = text.to_lowercase();
    let names = text.contains("file") || text.contains("env") || text.contains("credential");
    names && text.contains(['/', '\\'])
}

fn check_settings(settings: &Settings, text: &str) {
    assert_eq!(between(settings, settings), []);
    let again = read(text, FILE).expect("the same text");
    assert_eq!(between(settings, &again), []);
    let _ = settings.notes();
    check_secret(&format!("{settings:?}"), text);
    let old = Settings::default();
    let changes = between(&old, settings);
    assert!(changes.iter().all(|change| !change.sentence.is_empty()));
    // What needs a restart stays as it was, and nothing else does.
    let force = in_force(&old, settings.clone());
    assert!(between(&old, &force).iter().all(|change| change.effect == Effect::Live));
    assert!(between(&force, settings).iter().all(|change| change.effect == Effect::Restart));
    let count = |effect| changes.iter().filter(|change| change.effect == effect).count();
    assert_eq!(between(&old, &force).len(), count(Effect::Live));
    assert_eq!(between(&force, settings).len(), count(Effect::Restart));
}

/// Nothing shows the secret, where the text has it as one and nowhere else.
fn check_secret(shown: &str, text: &str) {
    let is_one = text.matches(SECRET).count() == 1 && text.lines().any(|line| line == SECRET_LINE);
    assert!(!is_one || !shown.contains(SECRET), "{shown}");
}

fn check_mistakes(mistakes: &Mistakes, text: &str) {
    let lines = 1 + text.matches('\n').count();
    assert!(!mistakes.list().is_empty());
    assert!(mistakes.list().len() <= 1 + MISTAKES_PER_BYTE * text.len(), "{mistakes}");
    for mistake in mistakes.list() {
        assert!(!mistake.message.is_empty(), "{mistake:?}");
        assert_eq!(mistake.line == 0, mistake.column == 0, "{mistake:?}");
        assert!(mistake.line <= lines, "{mistake:?}");
        let line = text.split('\n').nth(mistake.line.saturating_sub(1)).unwrap_or_default();
        assert!(mistake.column <= 1 + line.chars().count(), "{mistake:?}");
    }
    let report = mistakes.render(false);
    check_secret(&report, text);
    assert!(mistakes.list().iter().all(|mistake| report.len() > mistake.message.len()));
}
