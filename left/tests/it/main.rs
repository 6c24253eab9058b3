//! Real `left` processes on loopback, looked at from the outside.

mod crashes;
mod deletes;
mod destination;
mod guards;
mod identity;
mod idle;
mod kinds;
mod measure;
mod modify;
mod pair;
mod refusals;
mod resume;
mod source;
mod spelling;
mod status;
mod storage;
mod stress;
mod sync;
mod trouble;
mod watch;
