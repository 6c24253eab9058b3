//! Real `left` processes on loopback, looked at from the outside.

mod crashes;
mod deletes;
mod destination;
mod fields;
mod guards;
mod holes;
mod identity;
mod idle;
mod ignore;
mod join;
mod kinds;
mod measure;
mod modify;
mod names;
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
