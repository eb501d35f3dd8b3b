//! Where TLS is spoken in what is measured: with the client, with the CN, with both, or past the proxy.
//!
//! It is the end of a peer's name (`haproxy-cn-tls`), and peers are compared with those of the same legs, and with themselves without
//! TLS. It starts nothing.

use serde::Serialize;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Legs {
    #[default]
    Plain,
    Client,
    Cn,
    Both,
    /// Client and CN speak it with each other, and the proxy passes it on unread.
    Through,
}

impl Legs {
    pub const ALL: [Self; 5] = [Self::Plain, Self::Client, Self::Cn, Self::Both, Self::Through];

    /// The peer that `name` is without TLS, and where it is to have it.
    #[must_use]
    pub fn of_name(name: &str) -> (&str, Self) {
        // The client's suffix ends the others too.
        let ends = [Self::Cn, Self::Both, Self::Through, Self::Client].into_iter();
        let mut found = ends.filter_map(|legs| Some((name.strip_suffix(legs.suffix())?, legs)));
        found.next().unwrap_or((name, Self::Plain))
    }

    const fn suffix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Client => "-tls",
            Self::Cn => "-cn-tls",
            Self::Both => "-both-tls",
            Self::Through => "-through-tls",
        }
    }

    /// What a table's title says of it.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Client => ", TLS with the client",
            Self::Cn => ", TLS with the CN",
            Self::Both => ", TLS with client and CN",
            Self::Through => ", TLS passed on unread",
        }
    }

    /// Whether the client speaks it.
    #[must_use]
    pub fn client(self) -> bool {
        matches!(self, Self::Client | Self::Both | Self::Through)
    }

    /// Whether the CN speaks it.
    #[must_use]
    pub fn cn(self) -> bool {
        matches!(self, Self::Cn | Self::Both | Self::Through)
    }

    /// Whether the proxy itself speaks it with the client.
    #[must_use]
    pub fn ends_client(self) -> bool {
        matches!(self, Self::Client | Self::Both)
    }

    /// Whether the proxy itself speaks it with the CN.
    #[must_use]
    pub fn ends_cn(self) -> bool {
        matches!(self, Self::Cn | Self::Both)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_legs() {
        for legs in Legs::ALL {
            let name = format!("corelane-tracked{}", legs.suffix());
            assert_eq!(Legs::of_name(&name), ("corelane-tracked", legs));
        }
    }

    #[test]
    fn who_passes_it_on_speaks_none() {
        for legs in Legs::ALL {
            let spoken = legs != Legs::Through;
            assert_eq!((legs.ends_client(), legs.ends_cn()), (legs.client() && spoken, legs.cn() && spoken));
        }
    }
}
