//! stub
use crate::wire::{self, capability::Capabilities};
#[derive(Clone, Debug, Default)]
pub struct Wishes {}
pub fn rewrite(
    _p: &[u8],
    _cn: Capabilities,
    _cl: Capabilities,
    _w: &Wishes,
) -> Result<Option<Vec<u8>>, wire::Error> {
    Ok(None)
}

pub fn ask(_cn: Capabilities) -> super::script::Script {
    super::script::Script {}
}
impl Wishes {
    pub fn of(_c: Capabilities, _r: &super::script::Results) -> Result<Self, super::script::ScriptError> {
        Ok(Self {})
    }
}
