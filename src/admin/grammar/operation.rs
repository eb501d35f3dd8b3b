//! The statements by which operators change something.
//!
//! `DRAIN CN 'id' [DEADLINE n] [CLOSE|LEAVE]`, `REMOVE CN` likewise, `RESUME CN 'id'`, `MOVE SESSION n TO CN 'id'`,
//! `KILL [SESSION|CONNECTION] n`, `ALTER CN 'id' SET WEIGHT n, LABELS (..), DATA 'd', MAX_SESSIONS n` (one or several) and
//! `ADD CN 'id' ADDRESS 'host:port' [FLAVOUR ..] [WEIGHT n] [LABELS (..)] [DATA 'd']
//! [MAX_SESSIONS n] [PROXY_PROTOCOL] [TLS mode]`, and `FLUSH HOSTS`. Values are checked by the
//! rules of the configuration.

use std::collections::BTreeMap;

use super::Error;
use super::parser::{Parser, unexpected};
use crate::admin::lexer::Token;
use crate::config::check;
use crate::config::settings::{AtDeadline, CnSetting};
use crate::coordinator::desk::{Alteration, DrainTerms, Operation};
use crate::ident::SessionId;
use crate::route::label::Labels;
use crate::route::{Flavour, TlsMode};

const ID: &str = "the id of a CN";
const SESSION: &str = "the id of a session";
const ALTERATIONS: &str = "WEIGHT n, LABELS (k = 'v', ..), DATA 'name' or MAX_SESSIONS n";
const ADDED: &str =
    "ADDRESS, FLAVOUR, WEIGHT, LABELS, DATA, MAX_SESSIONS, PROXY_PROTOCOL, TLS or the end of the statement";

const ALTERED_KEYS: &[&str] = &["WEIGHT", "LABELS", "DATA", "MAX_SESSIONS"];
const ADDED_KEYS: &[&str] = &["FLAVOUR", "WEIGHT", "LABELS", "DATA", "MAX_SESSIONS", "PROXY_PROTOCOL", "TLS"];

impl Parser {
    /// The rest of a statement that begins with `verb`; none where it is not one of these.
    pub(super) fn operation(&mut self, verb: &str) -> Result<Option<Operation>, Error> {
        let operation = match verb.to_ascii_uppercase().as_str() {
            "DRAIN" => Operation::Drain { cn: self.cn()?, terms: self.drain_terms()? },
            "REMOVE" => Operation::Remove { cn: self.cn()?, terms: self.drain_terms()? },
            "RESUME" => Operation::Resume { cn: self.cn()? },
            "MOVE" => self.move_session()?,
            "KILL" => {
                let _ = self.take("SESSION") || self.take("CONNECTION");
                Operation::Kill { session: SessionId(self.number(SESSION)?) }
            }
            "ALTER" => self.alter()?,
            "ADD" => self.add()?,
            "FLUSH" => {
                self.expect("HOSTS", "HOSTS after FLUSH")?;
                Operation::FlushHosts
            }
            _ => return Ok(None),
        };
        self.end("the end of the statement", &[])?;
        Ok(Some(operation))
    }

    fn cn(&mut self) -> Result<String, Error> {
        self.expect("CN", "CN")?;
        self.name(ID)
    }

    fn drain_terms(&mut self) -> Result<DrainTerms, Error> {
        let mut terms = DrainTerms::default();
        while self.peek().is_some() {
            if terms.deadline_s.is_none() && self.take("DEADLINE") {
                terms.deadline_s = Some(self.number("a number of seconds")?);
            } else if terms.at_deadline.is_none() && self.take("CLOSE") {
                terms.at_deadline = Some(AtDeadline::Close);
            } else if terms.at_deadline.is_none() && self.take("LEAVE") {
                terms.at_deadline = Some(AtDeadline::Leave);
            } else {
                let expected = "DEADLINE seconds, CLOSE, LEAVE or the end of the statement";
                return Err(unexpected(expected, self.peek(), &["DEADLINE", "CLOSE", "LEAVE"]));
            }
        }
        Ok(terms)
    }

    fn move_session(&mut self) -> Result<Operation, Error> {
        self.expect("SESSION", "SESSION after MOVE")?;
        let session = SessionId(self.number(SESSION)?);
        self.expect("TO", "TO CN and its id")?;
        Ok(Operation::MoveSession { session, to: self.cn()? })
    }

    fn alter(&mut self) -> Result<Operation, Error> {
        let cn = self.cn()?;
        self.expect("SET", "SET and what to change")?;
        let mut changes = Vec::new();
        loop {
            match self.alteration()? {
                Some(change) => changes.push(change),
                None => return Err(unexpected(ALTERATIONS, self.peek(), ALTERED_KEYS)),
            }
            if !self.take_mark(',') {
                return Ok(Operation::Alter { cn, changes });
            }
        }
    }

    /// One key of a CN with its value; none where there is no such key.
    fn alteration(&mut self) -> Result<Option<Alteration>, Error> {
        let alteration = if self.take("WEIGHT") {
            self.take_mark('=');
            let weight = self.number("a weight")?;
            check::weight(weight).map_err(Error::Unfit)?;
            Alteration::Weight(weight)
        } else if self.take("LABELS") {
            self.take_mark('=');
            Alteration::Labels(self.labels()?)
        } else if self.take("DATA") {
            self.take_mark('=');
            Alteration::Data(self.data()?)
        } else if self.take("MAX_SESSIONS") {
            self.take_mark('=');
            let most = self.number("a number of sessions")?;
            check::max_sessions(most).map_err(Error::Unfit)?;
            Alteration::MaxSessions((most > 0).then_some(most))
        } else {
            return Ok(None);
        };
        Ok(Some(alteration))
    }

    fn data(&mut self) -> Result<Option<String>, Error> {
        if self.take("NULL") {
            return Ok(None);
        }
        let data = self.text("the name of a data set in quotes, or NULL")?;
        check::data(&data).map_err(Error::Unfit)?;
        Ok(Some(data))
    }

    /// `(k = 'v', k2 = ('a', 'b'))`
    fn labels(&mut self) -> Result<Labels, Error> {
        let mut labels = BTreeMap::new();
        self.expect_mark('(', "( before the labels")?;
        while !self.take_mark(')') {
            if !labels.is_empty() {
                self.expect_mark(',', "a comma or ) after a label")?;
            }
            let key = self.name("the name of a label")?;
            self.expect_mark('=', "= after the name of a label")?;
            let twice = Error::Unfit(format!("label `{key}` is given twice"));
            if labels.insert(key, self.label_values()?).is_some() {
                return Err(twice);
            }
        }
        let labels = Labels(labels);
        check::labels(&labels).map_err(Error::Unfit)?;
        Ok(labels)
    }

    fn label_values(&mut self) -> Result<Vec<String>, Error> {
        const VALUE: &str = "a value in quotes, or several in parentheses";
        if !self.take_mark('(') {
            return Ok(vec![self.text(VALUE)?]);
        }
        let mut values = vec![self.text(VALUE)?];
        while self.take_mark(',') {
            values.push(self.text(VALUE)?);
        }
        self.expect_mark(')', "a comma or ) after a value")?;
        Ok(values)
    }

    fn add(&mut self) -> Result<Operation, Error> {
        let id = self.cn()?;
        self.expect("ADDRESS", "ADDRESS 'host:port'")?;
        let address = self.text("an address in quotes")?;
        let (flavour, labels) = (Flavour::Mysql, Labels::default());
        let mut cn = CnSetting {
            id,
            address,
            flavour,
            labels,
            weight: 1,
            data: None,
            query_address: None,
            proxy_protocol: false,
            tls: None,
            max_sessions: None,
        };
        while self.peek().is_some() {
            if self.take("FLAVOUR") {
                cn.flavour = self.flavour()?;
                continue;
            }
            if self.take("PROXY_PROTOCOL") {
                cn.proxy_protocol = true;
                continue;
            }
            if self.take("TLS") {
                cn.tls = Some(self.tls_mode()?);
                continue;
            }
            match self.alteration()? {
                Some(Alteration::Weight(weight)) => cn.weight = weight,
                Some(Alteration::Labels(labels)) => cn.labels = labels,
                Some(Alteration::Data(data)) => cn.data = data,
                Some(Alteration::MaxSessions(most)) => cn.max_sessions = most,
                None => return Err(unexpected(ADDED, self.peek(), ADDED_KEYS)),
            }
        }
        check::cn(&cn).map_err(Error::Unfit)?;
        Ok(Operation::Add(Box::new(cn)))
    }

    fn tls_mode(&mut self) -> Result<TlsMode, Error> {
        const WORDS: &str = "OFF, PREFERRED, REQUIRED, VERIFY_CA or VERIFY_NAME";
        let name = self.name(WORDS)?;
        let unknown = || {
            let words = ["OFF", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_NAME"];
            unexpected(WORDS, Some(&Token::Word(name.clone())), &words)
        };
        TlsMode::named(&name.to_ascii_lowercase()).ok_or_else(unknown)
    }

    fn flavour(&mut self) -> Result<Flavour, Error> {
        let name = self.name("MYSQL or MATRIXONE")?;
        match name.to_ascii_uppercase().as_str() {
            "MYSQL" => Ok(Flavour::Mysql),
            "MATRIXONE" => Ok(Flavour::Matrixone),
            _ => Err(unexpected("MYSQL or MATRIXONE", Some(&Token::Word(name)), &["MYSQL", "MATRIXONE"])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::grammar::{Command, parse};

    fn operation(text: &str) -> Operation {
        match parse(text) {
            Ok(Command::Operate(operation)) => operation,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn labels(pairs: &[(&str, &[&str])]) -> Labels {
        let own = |values: &[&str]| values.iter().map(ToString::to_string).collect();
        Labels(pairs.iter().map(|(key, values)| (key.to_string(), own(values))).collect())
    }

    #[test]
    fn drains_have_terms() {
        let terms = DrainTerms { deadline_s: Some(30), at_deadline: Some(AtDeadline::Leave) };
        assert_eq!(
            operation("drain cn 'cn1' deadline 30 leave;"),
            Operation::Drain { cn: "cn1".into(), terms }
        );
        let terms = DrainTerms { at_deadline: Some(AtDeadline::Close), ..DrainTerms::default() };
        assert_eq!(operation("REMOVE CN cn1 CLOSE"), Operation::Remove { cn: "cn1".into(), terms });
        assert_eq!(operation("RESUME CN `cn 1`"), Operation::Resume { cn: "cn 1".into() });
    }

    #[test]
    fn sessions_are_named_by_number() {
        let session = SessionId(0x8000_0007);
        assert_eq!(
            operation("MOVE SESSION 2147483655 TO CN 'b'"),
            Operation::MoveSession { session, to: "b".into() }
        );
        assert_eq!(operation("flush hosts;"), Operation::FlushHosts);
        for text in ["KILL 2147483655", "kill session 2147483655", "KILL CONNECTION 2147483655"] {
            assert_eq!(operation(text), Operation::Kill { session });
        }
    }

    #[test]
    fn a_cn_is_altered_key_by_key() {
        let text = "ALTER CN 'cn1' SET WEIGHT 3, LABELS (account = ('a', 'b*'), tier='gold'), DATA 'd1'";
        let changes = vec![
            Alteration::Weight(3),
            Alteration::Labels(labels(&[("account", &["a", "b*"]), ("tier", &["gold"])])),
            Alteration::Data(Some("d1".into())),
        ];
        assert_eq!(operation(text), Operation::Alter { cn: "cn1".into(), changes });
        let changes = vec![Alteration::Labels(Labels::default()), Alteration::Data(None)];
        let text = "alter cn cn1 set max_sessions 9, MAX_SESSIONS = 0";
        let limits = vec![Alteration::MaxSessions(Some(9)), Alteration::MaxSessions(None)];
        assert_eq!(operation(text), Operation::Alter { cn: "cn1".into(), changes: limits });
        let text = "alter cn cn1 set labels = (), data = null";
        assert_eq!(operation(text), Operation::Alter { cn: "cn1".into(), changes });
    }

    #[test]
    fn a_cn_is_added_as_the_configuration_would_have_it() {
        let text = "ADD CN 'x' ADDRESS 'db:3306' LABELS (tier = 'gold') FLAVOUR matrixone WEIGHT 2 DATA 'd'";
        let cn = CnSetting {
            id: "x".into(),
            address: "db:3306".into(),
            flavour: Flavour::Matrixone,
            labels: labels(&[("tier", &["gold"])]),
            weight: 2,
            data: Some("d".into()),
            query_address: None,
            proxy_protocol: false,
            tls: None,
            max_sessions: None,
        };
        assert_eq!(operation(text), Operation::Add(Box::new(cn)));
        let text = "ADD CN x ADDRESS 'db:3306' PROXY_PROTOCOL TLS verify_ca WEIGHT 2 MAX_SESSIONS 40";
        let Operation::Add(cn) = operation(text) else {
            panic!("it adds a CN");
        };
        assert!(cn.proxy_protocol && cn.weight == 2 && cn.max_sessions == Some(40));
        assert_eq!(cn.tls, Some(TlsMode::VerifyCa));
    }

    #[test]
    fn what_does_not_fit_is_said() {
        for (text, expected) in [
            ("drain cm 'x'", "expected CN, found \"cm\""),
            ("drain cn", "expected the id of a CN, found the end of the statement"),
            ("drain cn 'x' deadlin 3", "did you mean DEADLINE?"),
            ("drain cn 'x' close leave", "or the end of the statement, found \"leave\""),
            ("alter cn 'x' set labels (a = 'b', a = 'c')", "label `a` is given twice"),
            ("drain cn 'x' deadline -3", "expected a number of seconds, found \"-\""),
            ("kill 99999999999", "expected the id of a session, found \"99999999999\""),
            ("alter cn 'x' set wieght 3", "did you mean WEIGHT?"),
            ("alter cn 'x' set max_session 3", "did you mean MAX_SESSIONS?"),
            ("alter cn 'x' set max_sessions 10000001", "must be a whole number from 0 to 10000000"),
            ("alter cn 'x' set max_sessions null", "expected a number of sessions, found \"null\""),
            ("alter cn 'x' set weight 0", "`weight` is 0, and must be a whole number from 1 to 10000"),
            ("alter cn 'x' set labels (a 'b')", "expected = after the name of a label, found \"'b'\""),
            ("alter cn 'x' set labels (a = 'b' c = 'd')", "expected a comma or ) after a label"),
            ("alter cn 'x' set labels (a = ' ')", "label `a` has an empty value"),
            ("alter cn 'x' set labels (a = 'b'", "found the end of the statement"),
            ("add cn 'x' address 'db'", "bad address `db`: no port"),
            ("add cn 'x' address 'db:1' proxy_protocol flavour matrixone", "is for CNs of flavour mysql"),
            ("add cn 'x' address 'db:1' tls off flavour matrixone", "`tls` is for CNs of flavour mysql"),
            ("add cn 'x' address 'unix:/x' tls required", "no TLS on a Unix socket"),
            ("add cn 'x' address 'db:1' tls verify", "VERIFY_CA or VERIFY_NAME"),
            ("add cn '' address 'db:1'", "`id` is empty"),
            ("add cn 'x' address 'db:1' flavour oracle", "expected MYSQL or MATRIXONE"),
            ("resume cn 'x' now", "expected the end of the statement, found \"now\""),
            ("flush host", "expected HOSTS after FLUSH, found \"host\"; did you mean HOSTS?"),
            ("flush hosts '10.0.0.1'", "expected the end of the statement"),
            ("mvoe session 1 to cn 'x'", "did you mean MOVE?"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
