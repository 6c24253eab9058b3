//! The harness as a user runs it: the program itself, on scenario files, in the
//! local lab, with the exit code, the summary and the folder of the run judged.

mod bench;
mod blame;
mod expectations;
mod interrupted;
mod kept;
mod main_job;
mod places;
mod second_sut;
mod trouble;
