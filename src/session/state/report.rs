//! What the CN reports: schema, system variables, and that something else has changed.

use std::sync::Arc;

use super::context::{Context, Known};
use super::errand::{Errand, What};
use super::held::{Kind, names};
use super::variables::{Class, class};
use super::weight::explain;
use super::{Collation, State};
use crate::session::hold::Hold;
use crate::session::tracking::Touched;
use crate::sql::{Effect, Effects};
use crate::wire::track::{Change, Changes};

pub const CLIENT: &[u8] = b"character_set_client";
pub const RESULTS: &[u8] = b"character_set_results";
pub const CONNECTION: &[u8] = b"character_set_connection";
pub const COLLATION: &[u8] = b"collation_connection";

impl State {
    /// A result of a command begins to come, or an error in its place.
    pub fn result_comes(&mut self, errand: Errand) {
        if let Some(What::Text(said)) = self.errands.find_mut(Some(errand)) {
            said.sets.results = said.sets.results.saturating_add(1);
        }
    }

    /// The last result of a command comes, and it is no error: all of its statements have run.
    pub fn ran(&mut self, errand: Option<Errand>) {
        let sets = self.errands.find_mut(errand).and_then(What::sets);
        if let Some(touched) = sets.map(|(effects, _)| Touched::of(effects)) {
            self.settle_tracking(touched);
        }
    }

    /// An OK that carries session-state changes; `errand` is that of the command that it answers.
    pub fn changed(&mut self, errand: Option<Errand>, changes: Changes<'_>) {
        let (mut told, mut other) = (false, false);
        if let Some(touched) = self.errands.find_mut(errand).and_then(What::sets_tracking) {
            self.settle_tracking(touched);
        }
        for change in changes.iter() {
            match change {
                Ok(Change::SystemVariable { name, value }) => {
                    let name = name.to_ascii_lowercase();
                    told |= class(&name) != Class::Noise;
                    self.variable_reported(errand, &name, value);
                }
                Ok(Change::Schema(schema)) => {
                    told = true;
                    self.enter_schema(schema);
                }
                Ok(Change::State(_)) => other = true,
                Ok(
                    Change::Gtids { .. }
                    | Change::TransactionCharacteristics(_)
                    | Change::TransactionState(_),
                ) => {}
                Ok(Change::Unknown { .. }) | Err(_) => self.settled.add(Hold::Unexplained),
            }
        }
        // A trigger or function of another schema has the schema told of again, and may have set a user variable, too.
        if other && !(told && self.uses(errand)) && !self.explains(errand) {
            self.settled.add(Hold::Unexplained);
        }
    }

    /// Whether a command enters a schema by its text.
    fn uses(&self, errand: Option<Errand>) -> bool {
        let effects = self.errands.find(errand).and_then(What::effects);
        effects.is_some_and(|effects| effects.has(Effect::Uses))
    }

    /// Something has changed, and the CN could not say what: its reply ended with a legacy EOF.
    pub fn changed_unseen(&mut self, errand: Option<Errand>) {
        if !self.explains(errand) {
            self.settled.add(Hold::Unexplained);
        }
    }

    /// The session has the schema now, and has entered it.
    pub(super) fn enter_schema(&mut self, schema: &[u8]) {
        self.entered = true;
        if *self.context.schema != *schema {
            self.context = Arc::new(Context { schema: schema.into(), ..(*self.context).clone() });
        }
    }

    fn explains(&self, errand: Option<Errand>) -> bool {
        let Some(what) = self.errands.find(errand) else { return false };
        match what.effects() {
            Some(effects) => explain(effects, what.statement(), self.may_have_temporary_table()),
            None => matches!(what, What::ChangeUser | What::ResetConnection | What::InitDb(_)),
        }
    }

    fn may_have_temporary_table(&self) -> bool {
        self.held().is_some_and(|held| held.has(Kind::TemporaryTable))
            || self.errands.may(Effect::CreatesTemporaryTable)
    }

    /// Takes note of what a text makes of the collations that no variable tells.
    pub(super) fn note_collation(&mut self, effects: &Effects, failed: bool) {
        let [named, collates, apart] = [Effect::SetsNames, Effect::NamesCollate, Effect::CollatesApart]
            .map(|effect| effects.has(effect));
        let unheard = !named && !apart;
        // One that failed has perhaps not come to it: what the login has given, or the default, nobody knows.
        if unheard || (self.collation == Collation::Default && !collates && !failed) {
            return;
        }
        let sets = |wanted: &[u8]| names(effects, Effect::Sets).any(|name| name.eq_ignore_ascii_case(wanted));
        self.collation = match self.collation {
            // What it has done of it, or what it has done last, is not known.
            _ if failed || (named && apart) => Collation::Lost,
            _ if collates => Collation::Connection { client: true, results: true },
            _ if named => Collation::Default,
            Collation::Connection { client, results } if !sets(CONNECTION) && !sets(COLLATION) => {
                Collation::Connection { client: client && !sets(CLIENT), results: results && !sets(RESULTS) }
            }
            _ => Collation::Lost,
        };
    }

    /// The tracker has told of a variable, by its name in lower case.
    fn variable_reported(&mut self, errand: Option<Errand>, name: &[u8], value: &[u8]) {
        self.wishes.note(name, value);
        let sets = self.errands.find_mut(errand).and_then(What::sets);
        let exact = sets.is_some_and(|(effects, sets)| sets.tells(effects, name));
        self.variable(name, true, exact.then_some(value));
    }

    /// A text sets a variable, by its name in lower case, and the tracker has not told of it.
    pub(super) fn variable_set(&mut self, name: &[u8]) {
        self.variable(name, false, None);
    }

    fn variable(&mut self, name: &[u8], reported: bool, value: Option<&[u8]>) {
        match class(name) {
            Class::Ignored | Class::Noise | Class::Tracking => return,
            Class::InsertId => return self.inserted = true,
            Class::Untransferable => return self.settled.add(Hold::Variable),
            Class::Plain => {}
        }
        if !self.variables.change(name, reported, value) {
            self.settled.add(Hold::TooMuch);
        }
        match name {
            b"sql_mode" | CLIENT => self.change_context(name, value),
            CONNECTION => {
                self.change_context(name, value);
                if value.is_some() {
                    self.variables.forget(COLLATION);
                } else if !self.variables.change(COLLATION, true, None) {
                    self.settled.add(Hold::TooMuch);
                }
            }
            COLLATION => {
                // It sets the character set that it belongs to.
                let charset = value.and_then(|value| value.split(|byte| *byte == b'_').next());
                self.change_context(CONNECTION, charset);
                self.change_context(name, value);
            }
            _ => {}
        }
    }

    /// Makes one value of the context another; without a value, one that was not told.
    fn change_context(&mut self, name: &[u8], value: Option<&[u8]>) {
        let known = value.map_or_else(
            || {
                self.unsure += 1;
                Known::Unsure(self.unsure)
            },
            Known::from,
        );
        let mut context = (*self.context).clone();
        match name {
            b"sql_mode" => context.sql_mode = known,
            b"character_set_client" => context.client = known,
            COLLATION => context.collation = known,
            _ => {
                // It brings its default collation with it.
                context.collation =
                    if value.is_some() { Known::Value(Box::default()) } else { known.clone() };
                context.connection = known;
            }
        }
        if context != *self.context {
            self.context = Arc::new(context);
        }
    }

    /// Values of a context that the CN has answered stand in the place of those that were in doubt.
    pub(super) fn learn(&mut self, learnt: &Context) {
        let mut context = (*self.context).clone();
        let parts = [
            (&b"sql_mode"[..], &mut context.sql_mode, &learnt.sql_mode),
            (CLIENT, &mut context.client, &learnt.client),
            (CONNECTION, &mut context.connection, &learnt.connection),
            (COLLATION, &mut context.collation, &learnt.collation),
        ];
        for (name, known, learnt) in parts {
            if let (Known::Unsure(_), Some(value)) = (&*known, learnt.value()) {
                self.variables.learn(name, value);
                *known = learnt.clone();
            }
        }
        if context != *self.context {
            let before = std::mem::replace(&mut self.context, Arc::new(context));
            self.learn_prepared(&before);
        }
    }

    /// What was prepared where values were in doubt that are known by now.
    fn learn_prepared(&mut self, before: &Context) {
        let (now, mut learnt) = (self.context.clone(), Vec::new());
        let sql_prepared = self.held.iter_mut().flat_map(|held| &mut held.sql_prepared);
        let contexts = self.statements.contexts_mut().chain(sql_prepared.map(|one| &mut one.context));
        for context in contexts.filter(|context| !context.is_known()) {
            let known = learnt.iter().find(|(doubtful, _)| Arc::ptr_eq(doubtful, context));
            let (_, known) = match known {
                Some(known) => known,
                None => {
                    let known = Arc::new(context.learnt(before, &now));
                    learnt.push((context.clone(), known));
                    &learnt[learnt.len() - 1]
                }
            };
            *context = known.clone();
        }
    }
}
