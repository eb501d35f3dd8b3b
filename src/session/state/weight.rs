//! What the effects of a text mean to its session: which of them hold it, which are settled with the reply, which explain a report.

use super::held::Kind;
use crate::session::hold::{Hold, Holds};
use crate::sql::{Effect, Effects};

/// Holds that an effect makes by itself.
pub const HOLDING: [(Effect, Hold); 9] = [
    (Effect::LocksTables, Hold::LockTables),
    (Effect::NextTransaction, Hold::NextTransaction),
    (Effect::Password, Hold::ChangedUser),
    (Effect::UntransferableVariable, Hold::Variable),
    (Effect::Xa, Hold::Xa),
    (Effect::Routine, Hold::Routine),
    (Effect::ConnectionId, Hold::ConnectionId),
    (Effect::Profiling, Hold::Profiling),
    (Effect::Unreadable, Hold::Unreadable),
];

/// Those of them that another effect ends.
pub const ENDING: [(Effect, Hold); 3] = [
    (Effect::UnlocksTables, Hold::LockTables),
    (Effect::XaEnds, Hold::Xa),
    (Effect::EndsTransaction, Hold::NextTransaction),
];

/// Further effects that are settled with the reply.
const SETTLED: [Effect; 23] = [
    Effect::UserVariable,
    Effect::LocksInstance,
    Effect::PreparesUnknown,
    Effect::TakesUserLock,
    Effect::ReleasesUserLock,
    Effect::ReleasesAllUserLocks,
    Effect::UnlocksTables,
    Effect::CreatesTemporaryTable,
    Effect::DropsTable,
    Effect::AltersTable,
    Effect::RenamesTable,
    Effect::OpensHandler,
    Effect::ClosesHandler,
    Effect::Prepares,
    Effect::Executes,
    Effect::Deallocates,
    Effect::XaEnds,
    Effect::LastInsertId,
    Effect::LastValue,
    Effect::Role,
    Effect::Sets,
    Effect::Tracking,
    Effect::Uses,
];

/// Effects that a report of "other state" may be about.
const EXPLAINING: [Effect; 14] = [
    Effect::UserVariable,
    Effect::CreatesTemporaryTable,
    Effect::DropsTable,
    Effect::Prepares,
    Effect::PreparesUnknown,
    Effect::Executes,
    Effect::Deallocates,
    Effect::Role,
    Effect::UntransferableVariable,
    Effect::Tracking,
    Effect::Routine,
    Effect::Profiling,
    Effect::LastInsertId,
    Effect::Sets,
];

/// Whether the reply to a text with these effects matters.
pub fn weighs(effects: &Effects) -> bool {
    let holding = || HOLDING.iter().any(|(effect, _)| effects.has(*effect));
    !effects.is_plain() && (SETTLED.iter().any(|effect| effects.has(*effect)) || holding())
}

/// Whether a report of "other state" may be about these effects; those on a table count only where that may be a temporary one.
/// `statement`: it came with the reply to this one of the text's, counted from 0; `None`: to any of them.
pub fn explain(effects: &Effects, statement: Option<u16>, temporary_table: bool) -> bool {
    let altered = temporary_table && effects.has(Effect::AltersTable);
    altered
        || EXPLAINING.into_iter().any(|effect| effects.has(effect) && may_be_of(effects, effect, statement))
}

/// Whether an effect may be one of this statement's.
fn may_be_of(effects: &Effects, effect: Effect, statement: Option<u16>) -> bool {
    let Some(statement) = statement else { return true };
    // Of these only the first statement that has the name is known.
    let mentioned = matches!(effect, Effect::UserVariable | Effect::Sets);
    let mut named = effects.named.iter().filter(|named| named.effect == effect).peekable();
    let unnamed = named.peek().is_none();
    unnamed || named.any(|named| named.statement == statement || (mentioned && named.statement < statement))
}

/// Whether a text may have changed something that only a CN which tracks tells of.
pub fn may_change_unseen(effects: &Effects) -> bool {
    weighs(effects) || effects.has(Effect::Uses)
}

/// Adds what a text holds that is under way.
pub fn add_holds(holds: &mut Holds, effects: &Effects) {
    HOLDING.iter().filter(|(effect, _)| effects.has(*effect)).for_each(|(_, hold)| holds.add(*hold));
    Kind::ALL.iter().filter(|kind| effects.has(kind.taken_by())).for_each(|kind| holds.add(kind.hold()));
    if effects.has(Effect::Executes) {
        holds.add(Hold::Routine);
    }
}
