//! A load generator for echo servers that verifies every byte that comes back.
