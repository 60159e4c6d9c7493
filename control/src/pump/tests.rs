//! A worker over the simulated wire, the pump, the resolver and a fake upstream: the whole way of a miss.

use super::*;
