//! The harness as a user runs it: the program itself, on scenario files, in the
//! local lab, with the exit code, the summary and the folder of the run judged.

mod bench;
mod blame;
mod doors;
mod expectations;
mod hosts;
mod interrupted;
mod inventory;
mod kept;
mod killed;
mod ledger;
mod main_job;
mod netns;
mod packet;
mod places;
mod second_sut;
mod secrets;
mod shell;
mod sshd;
mod trouble;
