//! Real `left` processes on loopback, looked at from the outside.

mod deletes;
mod identity;
mod idle;
mod measure;
mod modify;
mod pair;
mod refusals;
mod resume;
mod storage;
mod stress;
mod sync;
mod trouble;
mod watch;
