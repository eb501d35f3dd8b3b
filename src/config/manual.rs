//! The schema printed as a configuration file: what `corelane config` shows.
//!
//! The output is itself a right file that changes nothing: keys with a default have it, all others are
//! commented out with an example.

use super::schema::{Default, Key, SECTIONS, Section};

/// The width at which sentences are broken.
const WIDTH: usize = 100;

/// Every section and key with its default and what it means.
pub fn manual() -> String {
    let intro = "Every setting of corelane with its default. Lines that begin with `#` and a key show an \
                 example; without them there is no such setting.";
    let sections: String = SECTIONS.iter().map(|section| format!("\n{}", section_page(section))).collect();
    comment(intro) + &sections
}

fn section_page(section: &Section) -> String {
    // A repeated section stands for something, and so does one that is only acted on where it is written.
    let live = !section.repeated && section.acted_on;
    let mut page = comment(section.sentence);
    if !section.acted_on {
        page += &comment("There is none without this section.");
    }
    page += &format!("{}{}\n", if live { "" } else { "# " }, section.heading());
    page.extend(section.keys.iter().map(|key| key_lines(key, live)));
    page
}

fn key_lines(key: &Key, live: bool) -> String {
    let (value, live, remark) = match key.default {
        Default::Value(value) => (value, live, ""),
        Default::Absent(value) => (value, false, " No default."),
        Default::Required(value) => (value, false, " Required."),
    };
    let sentence = format!("{} Takes {}.{remark}", key.sentence, key.kind.expects());
    format!("{}{}{} = {value}\n", comment(&sentence), if live { "" } else { "# " }, key.name)
}

fn comment(sentence: &str) -> String {
    let mut lines = vec!["#".to_owned()];
    for word in sentence.split(' ') {
        if lines[lines.len() - 1].len() + word.len() >= WIDTH {
            lines.push("#".to_owned());
        }
        let last = lines.len() - 1;
        lines[last].push(' ');
        lines[last].push_str(word);
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Settings, read};

    #[test]
    fn the_manual_is_a_file_that_changes_nothing() {
        let settings = read(&manual(), "manual").unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn every_example_in_the_manual_is_right() {
        let mut bare = String::new();
        for line in manual().lines() {
            let line = line.strip_prefix("# ").unwrap_or(line);
            let heading = line.starts_with('[');
            let key = line.split(" = ").next().filter(|_| line.contains(" = "));
            let known = SECTIONS.iter().flat_map(|section| section.keys).any(|k| Some(k.name) == key);
            // Of several ways to give a secret only one may stand, the example of a CN is none of MatrixOne, and no certificate is there.
            let other_way = [
                "native_hash",
                "sha2_hash",
                "password_file",
                "password_env",
                "password_credential",
                "query_password_file",
                "query_password_env",
                "query_password_credential",
                "rsa_key_file",
                "query_address",
                "certificate_file",
                "key_file",
                "client_ca_file",
                "ca_file",
            ];
            if heading || known && !other_way.iter().any(|other| line.starts_with(other)) {
                bare += &format!("{line}\n");
            }
        }
        let settings = read(&bare, "manual").unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert_eq!((settings.cns.len(), settings.users.len()), (1, 1));
        assert!(settings.http.is_some() && settings.discovery.account.is_some());
    }
}
