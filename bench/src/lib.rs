//! Load, measurement and comparison for ringdns: the library behind `ringbench`.
//!
//! All measurements are taken from outside, over packets, or on the data plane through its
//! simulator. Of ringdns itself, the generators use the AF_XDP port and the packet headers; queries
//! and the check of answers are code of their own.

#![forbid(unsafe_code)]

mod built;
mod callgrind;
mod check;
pub mod compare;
pub mod differential;
pub mod faults;
pub mod fleet;
pub mod flood;
pub mod gate;
pub mod hostile;
pub mod instructions;
mod lab;
pub mod micro;
mod mix;
mod mmsg;
mod names;
pub mod nic;
mod options;
mod output;
mod priority;
mod put_back;
mod query;
mod question;
pub mod ramp;
mod report;
pub mod responder;
pub mod run;
mod setup;
mod stage;
mod stop;
pub mod storm;
mod synthetic;
mod tally;
pub mod upstream;
mod verify;
pub mod worst;
mod zipf;

use ringdns_doctor::machine;
