//! The program under test, as far as the harness knows it: [`adapter`] says what it
//! is, [`machine`] what a host can execute, [`build`] finds or builds it, [`deploy`]
//! brings it to a host.

pub mod adapter;

pub mod machine;

pub mod build;

pub mod deploy;
