//! What a session has taken from sequences. MariaDB keeps the last value of each for LASTVAL() and its like, and nothing can tell
//! another CN of it.
//!
//! Most sessions that take values never ask for them again, and move. One that has ever asked, or has prepared to, is held once it has
//! taken a value. A session that asks for the first time when it has moved cannot be answered, and must not be answered wrongly: it ends.

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sequences {
    /// This CN may know a value.
    taken: bool,
    /// The client has a text that asks for one.
    asks: bool,
    /// A CN before this one knew a value.
    lost: bool,
}

impl Sequences {
    /// A value may have been taken.
    pub fn take(&mut self) {
        self.taken = true;
    }

    pub fn taken(self) -> bool {
        self.taken
    }

    /// A text asks for a value. False: only a CN before this one may know it.
    #[must_use]
    pub fn ask(&mut self) -> bool {
        self.asks = true;
        !self.lost
    }

    /// Whether the session has to stay; `taking`: a value is being taken.
    pub fn hold(self, taking: bool) -> bool {
        self.asks && (self.taken || taking)
    }

    /// The session goes on at another CN.
    pub fn move_on(&mut self) {
        self.lost |= self.taken;
        self.taken = false;
    }

    /// COM_RESET_CONNECTION: the values are gone; who has asked once may ask again.
    pub fn reset(&mut self) {
        *self = Self { asks: self.asks, ..Self::default() };
    }
}
