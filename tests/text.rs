#![cfg(feature = "text")]
//! wip
