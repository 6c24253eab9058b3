//! Looking at files from the outside: `look tree`, `blocks`, `parts`, `arrives`.

pub mod arrives;
pub mod blocks;
pub mod ordered;
pub mod parts;
pub mod tree;
pub mod walk;
