//! Load, measurement and comparison for ringdns: the library behind `ringbench`.
//!
//! All measurements are taken from outside, over packets, or on the data plane through its
//! simulator. Of ringdns itself, the generators use the AF_XDP port and the packet headers; queries
//! and the check of answers are code of their own.

#![forbid(unsafe_code)]

pub mod built;
pub mod check;
pub mod compare;
pub mod differential;
pub mod faults;
pub mod fleet;
pub mod flood;
pub mod gate;
pub mod instructions;
pub mod lab;
pub mod machine;
pub mod micro;
pub mod mix;
pub mod mmsg;
pub mod names;
pub mod nic;
pub mod options;
pub mod output;
pub mod plot;
pub mod priority;
pub mod query;
pub mod question;
pub mod ramp;
pub mod report;
pub mod responder;
pub mod run;
pub mod setup;
pub mod stage;
pub mod stop;
pub mod synthetic;
pub mod tally;
pub mod upstream;
pub mod verify;
pub mod zipf;
