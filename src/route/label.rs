//! Labels of CNs, labels that a session asks for, and how they match.

use std::collections::BTreeMap;

/// The labels of a CN: each key with the values (globs) that it accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(pub BTreeMap<String, Vec<String>>);
