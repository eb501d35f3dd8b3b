//! `mo_ctl('cn', 'label', 'id:key:value')` and `mo_ctl('cn', 'workstate', 'id:N')`: how MatrixOne has a CN's labels
//! and its work state changed.
//!
//! `value` may be a list, `[v1,v2]`. As with MatrixOne the labels of the CN are replaced by that one key. Work
//! state 1 is working, 2 draining and 3 drained; a CN that is told to be drained is drained here, which takes the
//! time that it takes. Nothing else of `mo_ctl` is known here.

use super::parser::{Parser, unexpected};
use super::{Error, Value};
use crate::admin::lexer::Token;
use crate::config::check;
use crate::coordinator::desk::{Alteration, DrainTerms, Operation};
use crate::route::label::Labels;

const METHODS: &str = "'label' or 'workstate'";

impl Parser {
    /// What follows the function's name, with the name that MatrixOne gives the column.
    pub(super) fn mo_ctl(&mut self) -> Result<(Value, String), Error> {
        self.expect_mark('(', "( after mo_ctl")?;
        let service = self.text("'cn'")?;
        if !service.eq_ignore_ascii_case("cn") {
            return Err(unexpected("'cn'", Some(&Token::Text(service)), &[]));
        }
        self.expect_mark(',', "a comma after 'cn'")?;
        let method = self.text(METHODS)?;
        self.expect_mark(',', "a comma after the method")?;
        let argument = self.text("the argument in quotes")?;
        self.expect_mark(')', ") after the argument")?;
        let name = format!("mo_ctl({service}, {method}, {argument})");
        let (method, operation) = match method.to_ascii_lowercase().as_str() {
            "label" => ("LABEL", label(&argument)?),
            "workstate" => ("WORKSTATE", work_state(&argument)?),
            _ => return Err(unexpected(METHODS, Some(&Token::Text(method)), &[])),
        };
        Ok((Value::MoCtl { method, operation: Box::new(operation) }, name))
    }
}

/// `id:key:value` or `id:key:[v1,v2]`
fn label(argument: &str) -> Result<Operation, Error> {
    let mut parts = argument.splitn(3, ':').map(str::trim);
    let (Some(id), Some(key), Some(values)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(Error::Unfit(format!("'{argument}' is not 'id:key:value'")));
    };
    let list = values.strip_prefix('[').and_then(|values| values.strip_suffix(']'));
    let values = match list {
        Some(list) => list.split(',').map(|value| value.trim().to_owned()).collect(),
        None => vec![values.to_owned()],
    };
    let labels = Labels([(key.to_owned(), values)].into());
    check::labels(&labels).map_err(Error::Unfit)?;
    Ok(Operation::Alter { cn: id.to_owned(), changes: vec![Alteration::Labels(labels)] })
}

/// `id:N`
fn work_state(argument: &str) -> Result<Operation, Error> {
    let (id, state) = argument.rsplit_once(':').unwrap_or((argument, ""));
    let cn = id.trim().to_owned();
    match state.trim() {
        "1" => Ok(Operation::Resume { cn }),
        "2" | "3" => Ok(Operation::Drain { cn, terms: DrainTerms::default() }),
        _ => {
            let known = "with N 1 (working), 2 (draining) or 3 (drained)";
            Err(Error::Unfit(format!("'{argument}' is not 'id:N' {known}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::grammar::{Command, parse};

    fn asked(text: &str) -> (Value, String) {
        match parse(text) {
            Ok(Command::Select(mut items)) => {
                let item = items.remove(0);
                (item.value, item.name)
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    fn alter(values: &[&str]) -> Operation {
        let values = values.iter().map(ToString::to_string).collect();
        let labels = Labels([("account".to_owned(), values)].into());
        Operation::Alter { cn: "cn1".into(), changes: vec![Alteration::Labels(labels)] }
    }

    #[test]
    fn the_forms_of_matrixone_are_read() {
        let (value, name) = asked("select mo_ctl('cn', 'label', 'cn1:account:acc1')");
        assert_eq!(value, Value::MoCtl { method: "LABEL", operation: Box::new(alter(&["acc1"])) });
        assert_eq!(name, "mo_ctl(cn, label, cn1:account:acc1)");
        let (value, _) = asked("select MO_CTL(\"CN\",\"Label\",\"cn1:account:[a, b]\")");
        assert_eq!(value, Value::MoCtl { method: "LABEL", operation: Box::new(alter(&["a", "b"])) });
        let drain = Operation::Drain { cn: "cn1".into(), terms: DrainTerms::default() };
        for (state, operation) in
            [("1", Operation::Resume { cn: "cn1".into() }), ("2", drain.clone()), ("3", drain)]
        {
            let (value, _) = asked(&format!("select mo_ctl('cn','workstate','cn1:{state}')"));
            assert_eq!(value, Value::MoCtl { method: "WORKSTATE", operation: Box::new(operation) });
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for (text, expected) in [
            ("select mo_ctl('dn','label','a:b:c')", "expected 'cn', found \"'dn'\""),
            ("select mo_ctl('cn','flush','a')", "expected 'label' or 'workstate', found \"'flush'\""),
            ("select mo_ctl('cn','label','a:b')", "'a:b' is not 'id:key:value'"),
            ("select mo_ctl('cn','label','a:b:[]')", "label `b` has an empty value"),
            ("select mo_ctl('cn','label','a::c')", "a label has a name of 1 to 64 bytes"),
            ("select mo_ctl('cn','workstate','a:0')", "'a:0' is not 'id:N' with N 1 (working)"),
            ("select mo_ctl('cn','workstate')", "expected a comma after the method, found \")\""),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
