//! stub
use crate::session::hold::Hold;
use crate::session::script::{Results, Script, ScriptError};
use crate::session::state::State;
pub fn questions(_s: &State) -> Option<Script> {
    None
}
pub fn restore(_s: &State, _a: Option<Results>) -> Result<Option<Script>, Hold> {
    Ok(None)
}
pub fn settle(_s: &mut State, _r: Results) -> Result<(), ScriptError> {
    Ok(())
}
