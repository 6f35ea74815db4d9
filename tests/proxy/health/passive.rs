//! What requests themselves meet with: out after so many in a row, tried by one at a time, and never the last one.

use super::*;
