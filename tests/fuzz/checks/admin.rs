//! Any text as an admin statement: a command or an error that says what is wrong, the same whatever stands around it; and what a command
//! names is found again when it is written in quotes.
//!
//! Input: the statement, whose bytes that are not UTF-8 are replaced, as the admin door does.

use corelane::admin::grammar::{Command, Error, Value, parse};
use corelane::config::check;
use corelane::config::settings::{AtDeadline, CnSetting};
use corelane::coordinator::desk::{Alteration, DrainTerms, Operation};
use corelane::route::Flavour;
use corelane::route::label::Labels;

/// Bytes of an error's words beside those of the statement, which it repeats twice at most.
const WORDS_MAX: usize = 300;

pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let parsed = parse(&text);
    match &parsed {
        Ok(Command::Operate(operation)) => check_operation(operation),
        Ok(Command::Select(items)) => {
            assert!(!items.is_empty());
            for item in items {
                if let Value::MoCtl { operation, .. } = &item.value {
                    check_operation(operation);
                }
            }
        }
        Ok(Command::Show { like, .. }) => {
            // Whatever the pattern, it takes no long time and does not panic.
            let _ = like.as_ref().map(|like| like.matches(&text));
        }
        Ok(Command::Nothing) => {}
        Err(error) => {
            let said = error.to_string();
            assert!(!said.is_empty() && said.len() <= 2 * text.len() + WORDS_MAX, "{said}");
        }
    }
    check_surroundings(&text, parsed);
}

/// White space and comments before a statement change nothing, nor does one more `;` behind it where there was none.
fn check_surroundings(text: &str, parsed: Result<Command, Error>) {
    assert_eq!(parse(&format!("\n\t# a comment\n-- another\n {text}")), parsed);
    if parsed.is_ok() && !text.contains([';', '#']) && !text.contains("--") && !text.contains("/*") {
        assert_eq!(parse(&format!("{text} ;")), parsed);
    }
}

fn check_operation(operation: &Operation) {
    // The log's words for it stay on their line.
    let said = operation.to_string();
    assert!(!said.chars().any(|c| c.is_control()), "{said:?}");
    if let Operation::Add(cn) = operation {
        assert_eq!(check::cn(cn), Ok(()));
    }
    let written = written(operation);
    let again = parse(&written);
    assert_eq!(again, Ok(Command::Operate(operation.clone())), "{written}");
}

/// The statement that asks for it.
fn written(operation: &Operation) -> String {
    match operation {
        Operation::Drain { cn, terms } => format!("DRAIN CN {}{}", quoted(cn), terms_of(terms)),
        Operation::Remove { cn, terms } => format!("remove cn {}{}", quoted(cn), terms_of(terms)),
        Operation::Resume { cn } => format!("RESUME CN {}", quoted(cn)),
        Operation::MoveSession { session, to } => format!("MOVE SESSION {} TO CN {}", session.0, quoted(to)),
        Operation::Kill { session } => format!("KILL {}", session.0),
        Operation::Alter { cn, changes } => {
            let changes: Vec<String> = changes.iter().map(change).collect();
            format!("ALTER CN {} SET {}", quoted(cn), changes.join(", "))
        }
        Operation::Add(cn) => added(cn),
        Operation::FlushHosts => "FLUSH HOSTS".to_owned(),
    }
}

fn added(cn: &CnSetting) -> String {
    let flavour = match cn.flavour {
        Flavour::Mysql => "MYSQL",
        Flavour::Matrixone => "MATRIXONE",
    };
    let keys = [
        Alteration::Weight(cn.weight),
        Alteration::Labels(cn.labels.clone()),
        Alteration::Data(cn.data.clone()),
        Alteration::MaxSessions(cn.max_sessions),
    ];
    let keys: Vec<String> = keys.iter().map(change).collect();
    let header = if cn.proxy_protocol { " PROXY_PROTOCOL" } else { "" };
    let tls = cn.tls.map_or(String::new(), |mode| format!(" TLS {}", mode.name()));
    let (id, address) = (quoted(&cn.id), quoted(&cn.address));
    format!("ADD CN {id} ADDRESS {address} FLAVOUR {flavour} {}{header}{tls}", keys.join(" "))
}

fn terms_of(terms: &DrainTerms) -> String {
    let deadline = terms.deadline_s.map_or(String::new(), |seconds| format!(" DEADLINE {seconds}"));
    let end = match terms.at_deadline {
        Some(AtDeadline::Close) => " CLOSE",
        Some(AtDeadline::Leave) => " LEAVE",
        None => "",
    };
    deadline + end
}

fn change(change: &Alteration) -> String {
    match change {
        Alteration::Weight(weight) => format!("WEIGHT {weight}"),
        Alteration::Labels(labels) => format!("LABELS ({})", labels_of(labels)),
        Alteration::Data(Some(data)) => format!("DATA {}", quoted(data)),
        Alteration::Data(None) => "DATA NULL".to_owned(),
        Alteration::MaxSessions(most) => format!("MAX_SESSIONS {}", most.unwrap_or(0)),
    }
}

fn labels_of(labels: &Labels) -> String {
    let pairs = labels.0.iter().map(|(key, values)| {
        let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
        format!("{} = ({})", quoted(key), values.join(", "))
    });
    pairs.collect::<Vec<_>>().join(", ")
}

/// A backslash before `%` and `_` is kept by the reader, so one that stands there is written as it is.
fn quoted(text: &str) -> String {
    let mut written = String::from("'");
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' => written += "''",
            '\\' if matches!(chars.peek(), Some('%' | '_')) => {
                written.push(c);
                written.extend(chars.next());
            }
            '\\' => written += "\\\\",
            _ => written.push(c),
        }
    }
    written + "'"
}
