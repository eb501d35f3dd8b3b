//! stub
use crate::session::hold::Holds;
use crate::wire::command::Command;
use crate::wire::statement::PrepareOk;
use crate::wire::status::Status;
use crate::wire::track::Changes;
use std::num::NonZeroU32;
pub struct State {}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errand(pub NonZeroU32);
impl State {
    pub fn new(_c: crate::wire::capability::Capabilities) -> Self {
        Self {}
    }
    pub fn is_complete(&self) -> bool {
        true
    }
    pub fn begin(&mut self, _c: Command, _p: &[u8]) -> bool {
        false
    }
    pub fn payload(&mut self, _p: &[u8]) {}
    pub fn end(&mut self) -> Option<Errand> {
        None
    }
    pub fn cn_statement(&self, _id: u32) -> Option<u32> {
        None
    }
    pub fn execute_head(&mut self, _h: &[u8]) -> Option<Vec<u8>> {
        None
    }
    pub fn execute_head_len(&self, _f: &[u8]) -> Option<usize> {
        None
    }
    pub fn prepared(&mut self, _e: Errand, ok: &PrepareOk) -> u32 {
        ok.statement
    }
    pub fn changed(&mut self, _e: Option<Errand>, _c: Changes<'_>) {}
    pub fn replied(&mut self, _e: Errand, _f: bool, _s: Status) {}
    pub fn holds(&self) -> Holds {
        Holds::default()
    }
    pub fn cost(&self) -> u32 {
        0
    }
    pub fn reset(&mut self) {}
    pub fn complete(&self) -> bool {
        true
    }
    pub fn asks_about_last(&self, _payload: &[u8], _whole: bool) -> bool {
        false
    }
}
