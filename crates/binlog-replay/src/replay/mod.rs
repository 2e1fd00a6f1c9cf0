//! Applying a [`Range`](crate::Range) to a server.
