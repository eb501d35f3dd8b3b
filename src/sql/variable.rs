//! System variables whose meaning for a session is more than their value.

use super::effect::{Effect, Effects};

/// Variables that cannot be set to the reported value again, or not to the same end, and why. A trailing `*`
/// stands for any rest of the name.
pub const UNTRANSFERABLE: &[(&str, &str)] = &[
    ("timestamp", "set, it stops the session's clock; its value is told in any case"),
    ("character_set_database", "follows the schema, unless it is set, which nobody tells"),
    ("collation_database", "follows the schema, unless it is set, which nobody tells"),
    ("insert_id", "meant for the next INSERT only"),
    ("rand_seed1", "cannot be read"),
    ("rand_seed2", "cannot be read"),
    ("pseudo_*", "identity in the binary log; needs a privilege"),
    ("gtid_*", "place in the binary log; needs a privilege"),
    ("server_id", "identity in the binary log; needs a privilege"),
    ("binlog_*", "needs a privilege"),
    ("sql_log_bin", "needs a privilege; a move must not put writes into the log by mistake"),
    ("sql_log_off", "needs a privilege"),
    ("skip_replication", "needs a privilege"),
    ("original_*", "belongs to an event that is being replayed"),
    ("immediate_server_version", "belongs to an event that is being replayed"),
    ("require_row_format", "cannot be taken back"),
    ("wsrep_on", "needs a privilege; writes would reach the other nodes by mistake"),
    ("wsrep_osu_method", "needs a privilege"),
    ("wsrep_trx_fragment*", "a transaction's fragments are on the node that began it"),
    ("wsrep_gtid_seq_no", "place in the binary log"),
    ("debug*", "switches and synchronisation points of a debug server"),
    ("default_master_connection", "names a connection of this CN's own replication"),
    ("system_versioning_asof", "its default cannot be told from an empty value"),
    ("transaction_allow_batching", "state of the NDB connection"),
    ("ndb_*", "state of the NDB connection"),
    ("resultset_metadata", "without definitions corelane cannot read what it asks the CN"),
    ("external_user", "comes from the login"),
    ("proxy_user", "comes from the login"),
];

/// What the CN is asked to report, so that setting it changes what corelane hears.
pub const TRACKING: [&str; 3] =
    ["session_track_schema", "session_track_system_variables", "session_track_state_change"];

/// Whether a variable, by its name in lower case, is one of [`UNTRANSFERABLE`].
pub fn is_untransferable(name: &[u8]) -> bool {
    UNTRANSFERABLE.iter().any(|(listed, _)| match listed.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning.as_bytes()),
        None => name == listed.as_bytes(),
    })
}

/// Which values a SET reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// No word about it.
    Plain,
    /// `@@name`.
    Once,
    Session,
    /// GLOBAL, PERSIST.
    Server,
}

/// Whether a variable, by its name in any case, is one of [`TRACKING`].
pub fn is_tracking(name: &[u8]) -> bool {
    TRACKING.iter().any(|tracking| tracking.as_bytes().eq_ignore_ascii_case(name))
}

/// Adds what it means that `name` is set.
pub fn set(name: &[u8], scope: Scope, effects: &mut Effects) {
    let name = &*name.to_ascii_lowercase();
    if scope == Scope::Server {
        return;
    }
    effects.mention(Effect::Sets, name);
    if is_tracking(name) {
        effects.add(Effect::Tracking);
    }
    match name {
        b"profiling" => effects.add(Effect::Profiling),
        b"last_insert_id" | b"identity" => effects.add(Effect::LastInsertId),
        b"tx_isolation" | b"transaction_isolation" | b"tx_read_only" | b"transaction_read_only"
            if scope == Scope::Once =>
        {
            effects.take(Effect::NextTransaction, None);
        }
        _ if is_untransferable(name) => effects.add(Effect::UntransferableVariable),
        _ => {}
    }
}
