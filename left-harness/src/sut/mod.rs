//! The program under test, as far as the harness knows it: [`adapter`] says what it
//! is, [`build`] finds or builds it, [`deploy`] brings it to a host.

pub mod adapter;

pub mod build;

pub mod deploy;
