pub mod capability;
pub mod command;
pub mod status;
