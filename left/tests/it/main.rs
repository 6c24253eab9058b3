//! Real `left` processes on loopback, looked at from the outside.

mod pair;
mod refusals;
mod resume;
mod sync;
