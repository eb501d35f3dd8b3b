//! stub
use crate::wire::capability::Capabilities;
use crate::wire::status::Status;
pub struct Script {}
pub struct Answers {}
pub struct Results {}
#[derive(Debug, thiserror::Error)]
#[error("stub")]
pub struct ScriptError;
impl Script {
    pub fn write(&self, _o: &mut Vec<u8>) {}
    pub fn answers(self, _c: Capabilities) -> Answers {
        Answers {}
    }
}
impl Answers {
    pub fn packet(&mut self, _p: &[u8]) -> Result<bool, ScriptError> {
        Ok(true)
    }
    pub fn finish(self) -> Result<Results, ScriptError> {
        Ok(Results {})
    }
}
impl Results {
    pub fn status(&self) -> Option<Status> {
        None
    }
}
