//! Looking from the outside at files: `look tree`, `blocks`, `parts`, `arrives`; and at processes: `run`.

pub mod arrives;
pub mod blocks;
pub mod ordered;
pub mod parts;
pub mod run;
pub mod tree;
pub mod walk;
