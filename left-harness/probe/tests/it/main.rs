//! The probe as processes, the way the harness runs it.

mod arrives;
mod guard;
mod hold;
mod look;
mod relay;
mod run;
mod talk;
mod write;
