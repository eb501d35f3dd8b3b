//! HAKeeper, the keeper of a MatrixOne cluster, as far as a proxy needs it: connection ids that nobody else in the cluster gets.
//!
//! It lives in some of the log services, which tell whether they have it. It is a counter for each key; the ids that CNs and MatrixOne's
//! own proxies give come from the counter of one [key](KEY). Each message is in a [frame](super::frame). There is no authentication.
//!
//! Read from MatrixOne's `proto/logservice.proto` (1.2 to 4.1). Fields that are not needed here are left out.

use prost::Message;

/// The key from whose counter connection ids come.
pub const KEY: &str = "____server_conn_id";

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Method {
    /// What a message without one asks, which none of these does.
    Other = 0,
    CheckHakeeper = 10,
    AllocateId = 13,
}

#[derive(Clone, PartialEq, Message)]
pub struct Request {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(enumeration = "Method", tag = "2")]
    pub method: i32,
    #[prost(message, optional, tag = "8")]
    pub allocate: Option<Allocate>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Allocate {
    #[prost(string, tag = "1")]
    pub key: String,
    /// How many ids.
    #[prost(uint64, tag = "2")]
    pub batch: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct Response {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(enumeration = "Method", tag = "2")]
    pub method: i32,
    /// Not 0 where it could not be done.
    #[prost(uint32, tag = "3")]
    pub error: u32,
    #[prost(string, tag = "4")]
    pub message: String,
    #[prost(bool, tag = "5")]
    pub is_hakeeper: bool,
    #[prost(message, optional, tag = "11")]
    pub allocated: Option<Allocated>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Allocated {
    /// The ids are this one and those behind it. 0 is none.
    #[prost(uint64, tag = "1")]
    pub first: u64,
}

impl Request {
    /// Asks a log service whether it has HAKeeper.
    pub fn check(id: u64) -> Self {
        Self { id, method: Method::CheckHakeeper.into(), allocate: None }
    }

    /// Asks for so many connection ids.
    pub fn allocate(id: u64, batch: u32) -> Self {
        let allocate = Allocate { key: KEY.to_owned(), batch: batch.into() };
        Self { id, method: Method::AllocateId.into(), allocate: Some(allocate) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_laid_out_as_told() {
        assert_eq!(Request::check(1).encode_to_vec(), b"\x08\x01\x10\x0a");
        let allocate = Request::allocate(2, 1000).encode_to_vec();
        assert_eq!(allocate, b"\x08\x02\x10\x0d\x42\x17\x0a\x12____server_conn_id\x10\xe8\x07");
    }

    #[test]
    fn answers_are_read() {
        // A LogResponse (6) of no length stands in each of them.
        let yes = Response::decode(&b"\x08\x01\x10\x0a\x28\x01\x32\x00"[..]).unwrap();
        assert!(yes.is_hakeeper && yes.error == 0);
        let ids = Response::decode(&b"\x08\x02\x10\x0d\x32\x00\x5a\x03\x08\xe9\x07"[..]).unwrap();
        assert_eq!(ids.allocated, Some(Allocated { first: 1001 }));
    }
}
