//! Watches backends off the way of requests: asks them, and looks up those that are names.
//!
//! One task on the control thread. `reload` tells it which sites serve; what it finds it writes into the state of each
//! backend that the finding is about, where requests read it. A check that several sites ask alike is asked once.

mod course;
mod judge;
mod probe;
mod schedule;

use probe::Failure;
