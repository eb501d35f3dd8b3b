//! Orders to move a session, given at the admin door by a thread of its own, while the stream goes on.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, Opts};

use super::house::driver_opts;

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Moved,
    /// It lives on that CN already.
    There,
    /// It stays, for this hold.
    Held(&'static str),
    /// Anything else, in corelane's words.
    Failed(String),
}

/// Each hold by its name in `SHOW HOLDS`, and the words by which a refused move tells it.
const HOLDS: [(&str, &str); 28] = [
    ("login", "it is logging in"),
    ("relay_login", "its user is not known to corelane"),
    ("changed_user", "it changed its user"),
    ("no_data_set", "its CN belongs to no data set"),
    ("opaque", "its dialog can no longer be followed"),
    ("reply", "a command or its reply is under way"),
    ("long_data", "parameter data waits"),
    ("transaction", "a transaction is open"),
    ("cursor", "a cursor is open"),
    ("lock_tables", "it has locked tables"),
    ("user_lock", "it holds a lock taken by GET_LOCK"),
    ("temporary_table", "it has a temporary table"),
    ("handler", "it has opened a table by HANDLER"),
    ("sql_prepare", "it has prepared a statement by SQL"),
    ("next_transaction", "SET TRANSACTION waits"),
    ("unreadable", "it sent SQL that corelane cannot read"),
    ("xa", "an XA transaction is open"),
    ("role", "it has set a role that cannot be carried over"),
    ("user_variable", "it has a user variable that cannot be carried over"),
    ("variable", "it has set a system variable that cannot be set"),
    ("sequence", "it has taken a value from a sequence, and may ask for it again"),
    ("connection_id", "it has asked for the CN's own connection id"),
    ("tracking", "its CN does not track sessions (MySQL before 5.7), or it has changed how"),
    ("routine", "stored code ran"),
    ("statement", "a prepared statement cannot be prepared the same way"),
    ("too_much", "it has gathered more state than the limit"),
    ("profiling", "it profiles its statements"),
    ("unexplained", "the CN reported a change of state"),
];

/// ER_NO_SUCH_TABLE, as a move tells it that the other CN has refused.
const NO_SUCH_TABLE: &str = "(1146)";

pub struct Mover {
    orders: Sender<(u32, usize)>,
    outcomes: Receiver<Outcome>,
    /// Whether an order has not been answered yet.
    pub waiting: bool,
}

impl Mover {
    /// CN number 0 is `cn1`, and so on.
    pub fn start(admin_port: u16) -> Self {
        let (orders, taken) = channel::<(u32, usize)>();
        let (told, outcomes) = channel();
        std::thread::spawn(move || {
            let opts: Opts = driver_opts(admin_port, "admin", "admin").db_name(None::<String>).into();
            let mut door = Conn::new(opts).expect("enter the admin door");
            for (session, to) in taken {
                let outcome = order(&mut door, &format!("MOVE SESSION {session} TO CN 'cn{}'", to + 1));
                if told.send(outcome).is_err() {
                    return;
                }
            }
        });
        Self { orders, outcomes, waiting: false }
    }

    /// Gives an order; there must be none that is not answered yet.
    pub fn order(&mut self, session: u32, to: usize) {
        assert!(!self.waiting, "one order at a time");
        self.orders.send((session, to)).expect("the mover lives");
        self.waiting = true;
    }

    /// What came of the order, if that is known within the limit.
    pub fn outcome(&mut self, limit: Duration) -> Option<Outcome> {
        if !self.waiting {
            return None;
        }
        let outcome = match self.outcomes.recv_timeout(limit) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => panic!("the admin door is closed"),
        };
        self.waiting = false;
        Some(outcome)
    }
}

fn order(door: &mut Conn, statement: &str) -> Outcome {
    let said = match door.query_drop(statement) {
        Ok(()) => return Outcome::Moved,
        Err(mysql::Error::MySqlError(e)) => e.message,
        Err(other) => other.to_string(),
    };
    if said.contains("already") {
        return Outcome::There;
    }
    if said.contains("prepared statement") && said.contains(NO_SUCH_TABLE) {
        // It cannot be prepared anywhere any more.
        return Outcome::Held("statement");
    }
    let hold = HOLDS.iter().find(|(_, why)| said.contains(why));
    hold.map_or(Outcome::Failed(said), |(name, _)| Outcome::Held(name))
}
