//! The machine under the figures: without it a result kept in git says nothing.
//!
//! Read from `/proc` and `/sys`; what cannot be read is told as unknown, never guessed. It measures nothing.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cpus: usize,
    pub memory_mib: u64,
    pub kernel: String,
    pub hypervisor: bool,
    pub governor: String,
    pub congestion_control: String,
    pub open_files: u64,
}

impl Machine {
    #[must_use]
    pub fn describe(open_files: u64) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory = field(&meminfo, "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        Self {
            cpu: field(&cpuinfo, "model name").unwrap_or("unknown").to_owned(),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: memory.unwrap_or(0) / 1024,
            kernel: line("/proc/sys/kernel/osrelease"),
            hypervisor: field(&cpuinfo, "flags")
                .is_some_and(|f| f.split(' ').any(|flag| flag == "hypervisor")),
            governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            congestion_control: line("/proc/sys/net/ipv4/tcp_congestion_control"),
            open_files,
        }
    }

    /// A short name for a directory: CPUs and model in letters, digits and dashes.
    #[must_use]
    pub fn slug(&self) -> String {
        let wanted = self.cpu.replace("(R)", "").replace("(TM)", "");
        let words = wanted.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        let model = words.take(4).collect::<Vec<_>>().join("-").to_lowercase();
        format!("{}x-{model}{}", self.cpus, if self.hypervisor { "-vm" } else { "" })
    }
}

/// Today in UTC, as YYYY-MM-DD.
#[must_use]
pub fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    date(seconds / 86_400)
}

/// The civil date of a day counted from 1970-01-01 (years are counted from March, so a leap day comes last).
fn date(day: u64) -> String {
    let shifted = day + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{:02}", of_year - (153 * from_march + 2) / 5 + 1)
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let found = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(found.trim_start_matches([' ', '\t', ':']).trim())
}

fn line(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        for (day, text) in
            [(0, "1970-01-01"), (59, "1970-03-01"), (11_016, "2000-02-29"), (20_777, "2026-11-20")]
        {
            assert_eq!(date(day), text);
        }
    }
}
